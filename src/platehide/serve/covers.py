"""The covers a request can name: ours, and those of ``--covers-dir``."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from platehide.cover import Cover, load_cover
from platehide.errors import UsageError
from platehide.serve.problems import Problem

DEFAULT_ID = "default"
MAX_UPLOAD_BYTES = 2 << 20
_PREVIEW_PX = 320


@dataclass(frozen=True)
class Covers:
    """Covers by id; ids are letters, digits, dash and underscore."""

    by_id: dict[str, Cover]

    def get(self, cover_id: str) -> Cover:
        """Return a cover.

        Raises:
            Problem: ``unknown_cover``.

        """
        cover = self.by_id.get(cover_id)
        if cover is None:
            raise Problem("unknown_cover", f"no such cover; there are {', '.join(self.by_id)}")
        return cover


def load_covers(folder: Path | None) -> Covers:
    """Load our own cover and those of ``folder``, once, at start.

    Raises:
        UsageError: the folder is missing, or a file in it is no cover.

    """
    covers = {DEFAULT_ID: load_cover(None)}
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"--covers-dir {folder}: no such folder")
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in {".png", ".svg"}:
                continue
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", path.stem):
                raise UsageError(f"{path}: a cover's name has letters, digits, '-' and '_' only")
            if path.stem in covers:
                raise UsageError(f"{path}: the cover id {path.stem} is taken")
            covers[path.stem] = load_cover(path)
    return Covers(covers)


def uploaded_cover(data: bytes) -> Cover:
    """Return the cover in an upload.

    Raises:
        Problem: ``bad_cover``.

    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise Problem("bad_cover", f"a cover has at most {MAX_UPLOAD_BYTES} bytes")
    try:
        return load_cover(data)
    except UsageError as error:
        raise Problem("bad_cover", str(error)) from None


def preview_png(cover: Cover) -> bytes:
    """Return a small PNG of the design."""
    image = Image.fromarray(np.asarray(cover.design), "RGBA")
    image.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
