"""A detector whose answers are known, and photos for it. Not a test module."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from platehide.detection import Findings
from platehide.jobs import HideSettings
from platehide.pipeline import PlateHider
from platehide.pixels import PixelSource
from platehide.types import Detection

MAGENTA = (230, 20, 230)
KILL_SIZE = (333, 222)  # a photo of this size kills the process that looks at it
SLOW_SIZE = (222, 333)
USUAL_SIZE = (320, 240)
HOLD = "PLATEHIDE_TEST_HOLD"
"""Variable with the name of a file: while it exists, a process stops after three photos. So a test
can interfere in the middle of a run, however busy the machine is.
"""
_FREE_PHOTOS, _LONGEST_HOLD_SECONDS = 3, 600.0


class MagentaDetector:
    """Finds the magenta rectangle of ``photo_bytes``; a yellow one is doubtful."""

    model = "magenta@1"

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def _hold(self, source: PixelSource) -> None:
        name = os.environ.get(HOLD)
        if name is None or source.size_wh != USUAL_SIZE:  # the proof looks at crops
            return
        self._seen.add(source.region((0, 0, USUAL_SIZE[0], 8)).tobytes())
        end = time.monotonic() + _LONGEST_HOLD_SECONDS
        while len(self._seen) > _FREE_PHOTOS and Path(name).exists() and time.monotonic() < end:
            time.sleep(0.02)

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        self._hold(source)
        if source.size_wh == KILL_SIZE:
            os.kill(os.getpid(), signal.SIGKILL)
        if source.size_wh == SLOW_SIZE:
            time.sleep(0.3)
        width, height = source.size_wh
        rgb = source.region((0, 0, width, height)).astype(int)
        red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        plate = _box((red > 180) & (green < 90) & (blue > 180))
        if plate is None and conf is not None and conf < 0.5 and max(width, height) < 500:
            # Only seen at a low threshold and from close by.
            plate = _box((red < 90) & (green > 180) & (blue > 180))
        # A low threshold takes what was in doubt one way or the other.
        sure = conf is not None and conf < 0.5
        doubt = None if sure else _box((red > 180) & (green > 180) & (blue < 90))
        return Findings(
            () if plate is None else (Detection(plate, 0.9),),
            () if doubt is None else (Detection(doubt, 0.3),),
        )


def _box(mask: np.ndarray) -> np.ndarray | None:
    if mask.sum() < 50:
        return None
    ys, xs = np.nonzero(mask)
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def make_fake(settings: HideSettings) -> PlateHider:
    return PlateHider(
        cover=None if settings.cover is None else Path(settings.cover),
        conf=settings.conf,
        cover_options=settings.cover_options,
        write_options=settings.write_options,
        max_pixels=settings.max_pixels,
        verify=settings.verify,
        detector=MagentaDetector(),
    )


def photo_bytes(
    kind: str = "plate", size: tuple[int, int] = USUAL_SIZE, fmt: str = "JPEG", seed: int = 0
) -> bytes:
    """A scene: ``plate``, ``none``, ``doubt``, ``faint`` (seen at the second look only), or
    ``doubt-faint``.
    """
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 120, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size)
    colours = {"plate": MAGENTA, "doubt": (230, 230, 20), "faint": (20, 230, 230)}
    for part in kind.split("-"):
        if part not in colours:
            continue
        # A faint plate lies within one quarter of the picture.
        x, y = (size[0] // 16 if part == "faint" else size[0] // 3), size[1] // 2
        y -= size[1] // 4 if part == "doubt" else 0
        box = (x, y, x + size[0] // 3, y + size[1] // 8)
        ImageDraw.Draw(image).rectangle(box, fill=colours[part])
    out = io.BytesIO()
    image.save(out, fmt, quality=92)
    return out.getvalue()


def put(path: Path, kind: str = "plate", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(photo_bytes(kind, **options))  # type: ignore[arg-type]
    return path


def has_magenta(data: bytes) -> bool:
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    return bool(((rgb[..., 0] > 180) & (rgb[..., 1] < 90) & (rgb[..., 2] > 180)).sum() > 20)
