"""What goes on a plate: the design (a PNG, an SVG or our own) and the options of its use."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from platehide.cover.svg import RgbaArray, bad_cover, check_shape, looks_like_svg, read_svg
from platehide.errors import UsageError

Style = Literal["logo", "solid", "blur"]
Variant = Literal["light", "dark"]

MAX_FILE_BYTES = 20_000_000
MAX_DESIGN_PIXELS = 40_000_000
DESIGN_LONG_SIDE = 1560
"""Designs are kept at most this large in px: wider than nearly every plate on a photo."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Cover:
    """A design to put on plates. Equal where its pixels and source are: layouts are kept by it.

    Attributes:
        name: for reports and messages.
        design: straight-alpha RGBA ``(h, w, 4)``; it may be transparent, the finished cover
            never is. Unused where ``vector`` is given.
        vector: SVG source of a design that can be laid out anew for every shape of plate (our
            own); see ``platehide.cover.layout``.
        digest: SHA-256 of the content.
    """

    name: str
    design: RgbaArray
    vector: str | None = None
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        d = self.design
        if d.ndim != 3 or d.shape[2] != 4 or d.dtype != np.uint8 or 0 in d.shape:
            raise ValueError(f"a design is uint8 (h, w, 4), got {d.dtype} {d.shape}")
        d.setflags(write=False)
        content = hashlib.sha256(repr(d.shape).encode())
        content.update(np.ascontiguousarray(d).data)
        content.update((self.vector or "").encode())
        object.__setattr__(self, "digest", content.digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cover) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class CoverOptions:
    """How a cover is used.

    Attributes:
        style: ``logo`` (the design), ``solid`` (a plain plate), ``blur`` (a strong blur of the
            plate itself; NOT safe: blurred text can be recovered).
        text: a line on the cover: instead of our design's lettering, beside or below any other
            design. Not with ``blur``.
        variant: ``light`` or ``dark``: our design, the plain plate, and what lies beneath a
            transparent design.
        margin: how far the cover reaches beyond the plate on each side, in plate heights
            (0…0.5); at least 1.5 px are always added.
        strength: 1 for ``logo`` and ``solid``, which are opaque or nothing. Scales the radius of
            ``blur`` (0.25…1). Zero is refused everywhere.
        font: a TrueType or OpenType file for ``text``.

    Raises:
        UsageError: a value does not make sense.
    """

    style: Style = "logo"
    text: str | None = None
    variant: Variant = "light"
    margin: float = 0.07
    strength: float = 1.0
    font: Path | None = None

    def __post_init__(self) -> None:
        if self.style not in ("logo", "solid", "blur"):
            raise UsageError(f"cover style: logo, solid or blur, not {self.style!r}")
        if self.variant not in ("light", "dark"):
            raise UsageError(f"cover variant: light or dark, not {self.variant!r}")
        if not 0.0 <= self.margin <= 0.5:
            raise UsageError(f"cover margin lies in 0…0.5 plate heights, not {self.margin}")
        if not 0.0 < self.strength <= 1.0:
            raise UsageError(
                f"cover strength {self.strength}: a cover that lets the plate through is refused"
            )
        if self.style == "blur":
            if self.strength < 0.25:
                raise UsageError(f"cover strength {self.strength}: a blur below 0.25 hides nothing")
            if self.text:
                raise UsageError("text goes with the styles logo and solid, not with blur")
        elif self.strength != 1.0:
            raise UsageError(f"cover strength: style {self.style} is opaque; only 1 is possible")
        if self.text is not None:
            if not self.text.strip() or len(self.text) > 40:
                raise UsageError("cover text has 1 to 40 characters")
            if any(not c.isprintable() for c in self.text):
                raise UsageError("cover text has no line breaks or control characters")


def load_cover(source: Path | bytes | None) -> Cover:
    """Load a cover design.

    Args:
        source: a PNG or SVG file, its bytes, or ``None`` for our own neutral design.

    Raises:
        UsageError: the file cannot be read, is empty, neither PNG nor SVG, damaged, too large,
            of an absurd shape, or has nothing to show.
    """
    if source is None:
        vector = resources.files("platehide").joinpath("assets/cover.svg").read_text("utf-8")
        return Cover("platehide", read_svg(vector.encode(), "cover.svg"), vector)
    if isinstance(source, bytes):
        name, data = "cover", source
    else:
        name = str(source)
        try:
            with source.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)  # a device has no size and no end
        except OSError as error:
            raise bad_cover(name, error.strerror or str(error)) from error
    if not data:
        raise bad_cover(name, "is empty")
    if len(data) > MAX_FILE_BYTES:
        raise bad_cover(name, f"is larger than {MAX_FILE_BYTES // 1_000_000} MB")
    if data.startswith(_PNG_MAGIC):
        design = _read_png(data, name)
    elif looks_like_svg(data):
        design = read_svg(data, name)
    else:
        raise bad_cover(name, "is neither a PNG nor an SVG")
    check_shape(design.shape[1], design.shape[0], name)
    if int(design[..., 3].max()) < 8:
        raise bad_cover(name, "is fully transparent: there is nothing to show")
    return Cover(Path(name).stem if isinstance(source, Path) else name, design)


def _read_png(data: bytes, name: str) -> RgbaArray:
    if len(data) >= 24 and data[12:16] == b"IHDR":
        # Judged by what the header declares, before anything is decoded.
        width, height = struct.unpack(">II", data[16:24])
        if width * height > MAX_DESIGN_PIXELS:
            raise bad_cover(name, f"declares {width}×{height} pixels; at most 40 million")
        if width and height:
            check_shape(width, height, name)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it to white
            grey = np.asarray(image, dtype=np.float64) / 257.0
            image = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
        image = image.convert("RGBA")
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, …
        raise bad_cover(name, f"is a damaged PNG ({error})") from error
    scale = DESIGN_LONG_SIDE / max(image.size)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in image.size)
        # Pillow resizes RGBA premultiplied, so no fringe creeps in from transparent pixels.
        image = image.resize((size[0], size[1]), Image.Resampling.BOX)
    return np.array(image, dtype=np.uint8)
