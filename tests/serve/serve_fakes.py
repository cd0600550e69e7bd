"""A detector of pink plates, and a server process around it."""

from __future__ import annotations

import argparse
import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from platehide.detection import Findings
from platehide.pixels import PixelSource
from platehide.serve import settings
from platehide.serve.supervisor import serve
from platehide.types import Detection

PLATE, NONE, UNSURE, BUG, TWO = 320, 321, 322, 323, 325

PINK = (250, 20, 250)


def plate_quads(width: int, height: int) -> list[np.ndarray]:
    """Where ``jpeg`` draws its plates, TL TR BR BL."""
    corners = np.array([[0.4, 0.6], [0.6, 0.6], [0.6, 0.66], [0.4, 0.66]])
    quads = [corners * [width, height]]
    if width == NONE:
        return []
    return quads + ([(corners - [0.3, 0.2]) * [width, height]] if width == TWO else [])


def wait_while_held(hold: Path | None) -> None:
    """Wait as long as the file ``hold`` is there: a test decides when work ends."""
    end = time.monotonic() + 100
    while hold is not None and hold.exists() and time.monotonic() < end:
        time.sleep(0.01)


@dataclass(frozen=True)
class FakeDetector:
    """Finds the pink plates of ``jpeg``; some widths make it behave in other ways."""

    model: str
    work_seconds: float = 0.0
    shift: float = 0.0
    hold: Path | None = None

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        width, height = source.size_wh
        time.sleep(self.work_seconds)
        wait_while_held(self.hold)
        if width == BUG:
            raise RuntimeError("a bug")
        found = []
        for index, quad in enumerate(plate_quads(width, height)):
            x, y = quad.mean(axis=0).astype(int)
            if min(x, y) < 3:
                continue
            seen = source.region((int(x) - 3, int(y) - 3, int(x) + 3, int(y) + 3)).mean((0, 1))
            if np.abs(seen - PINK).max() < 60:
                found.append(Detection(quad + self.shift * width, 0.9 - 0.1 * index))
        if width == UNSURE:
            return Findings((), tuple(found))
        return Findings(tuple(d for d in found if conf is None or d.confidence >= conf))


@dataclass(frozen=True)
class FakeSource:
    """Loads ``FakeDetector`` for any name but ``missing``; ``broken`` fails while loading."""

    work_seconds: float = 0.0
    hold: Path | None = None

    def name(self, model: str | None) -> str:
        from platehide.errors import UsageError

        if model == "missing":
            raise UsageError("no model 'missing'")
        name = model or "fake"
        return name if "@" in name else f"{name}@1"

    def load(self, model: str | None) -> FakeDetector:
        wait_while_held(self.hold)
        if model == "broken":
            raise RuntimeError("the weights are damaged")
        shift = 0.5 if model == "other" else 0.0
        return FakeDetector(self.name(model), self.work_seconds, shift, self.hold)


def jpeg(width: int = PLATE, height: int = 240, seed: int = 0) -> bytes:
    """A small noisy JPEG with pink plates; its width decides what the fake detector says."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(60, 200, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
    for quad in plate_quads(width, height):
        draw = ImageDraw.Draw(picture)
        draw.polygon([tuple(p) for p in quad], fill=PINK)
        (left, top), (right, bottom) = quad[0], quad[2]
        for share in (0.1, 0.18, 0.26, 0.34, 0.66, 0.74, 0.82, 0.9):  # its "letters"
            x = left + share * (right - left)
            draw.line([x, top + 3, x, bottom - 3], fill=(40, 0, 40), width=2)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> int:
    """Serve with the fake detector; the options are those of ``platehide serve``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fake-work", type=float, default=0.0)
    parser.add_argument("--fake-hold", type=Path)
    settings.add_arguments(parser)
    args = parser.parse_args()
    source = FakeSource(args.fake_work, args.fake_hold)
    return serve(settings.from_arguments(vars(args)), source)


if __name__ == "__main__":
    sys.exit(main())
