"""Render the samples, hide their plates, and compare with the corners that are known."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from platehide.demo.scenes import SCENES, Sample, SceneSpec, render
from platehide.files import write_whole
from platehide.geometry import coverage
from platehide.pipeline import PlateHider
from platehide.types import HideResult, ImageArray

MIN_COVERAGE = 0.95
"""A true plate counts as covered from this share of its area (metrics.md: leak rate)."""

_TILE_HEIGHT = 420


@dataclass(frozen=True)
class SampleOutcome:
    """What became of one sample.

    Attributes:
        coverages: share (0…1) of each true plate that was painted over, in the sample's order.
        false_covers: polygons painted where there is no plate.
    """

    sample: Sample
    result: HideResult
    coverages: tuple[float, ...]
    false_covers: int

    @property
    def passed(self) -> bool:
        """Every plate covered, nothing else painted, and a photo came out."""
        return (
            self.result.data is not None
            and all(c >= MIN_COVERAGE for c in self.coverages)
            and self.false_covers == 0
        )


def judge(sample: Sample, result: HideResult) -> SampleOutcome:
    """Compare a result with the sample's true corners."""
    painted = list(result.painted) if result.data is not None else []
    return SampleOutcome(
        sample=sample,
        result=result,
        coverages=tuple(coverage(quad, painted) for quad in sample.quads),
        false_covers=sum(
            all(coverage(quad, [polygon]) < 0.5 for quad in sample.quads) for polygon in painted
        ),
    )


def run_demo(
    out_dir: Path, hider: PlateHider | None = None, scenes: Sequence[SceneSpec] = SCENES
) -> int:
    """Run the demo into ``out_dir``; print a table; return the exit code.

    Writes ``before/``, ``after/``, ``side-by-side.png`` and ``report.jsonl``. Files of an earlier
    run are replaced.

    Returns:
        0 when every plate of every sample is covered and nothing else is, else 1.

    Raises:
        WeightsError: no usable model is installed and no ``hider`` was given.
    """
    hider = hider or PlateHider()
    before, after = out_dir / "before", out_dir / "after"
    for folder in (before, after):
        folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[SampleOutcome] = []
    rows: list[str] = []
    tiles: list[ImageArray] = []
    for spec in scenes:
        sample = render(spec)
        source, target = before / f"{sample.name}.jpg", after / f"{sample.name}.jpg"
        write_whole(source, sample.jpeg)
        outcome = judge(sample, hider.hide(sample.jpeg))
        outcomes.append(outcome)
        data = outcome.result.data
        if data is None:
            target.unlink(missing_ok=True)
        else:
            write_whole(target, data)
        row = outcome.result.row(str(source), str(target) if data is not None else None)
        row["truth"] = [np.round(quad, 2).tolist() for quad in sample.quads]
        row["coverage"] = [round(c, 4) for c in outcome.coverages]
        row["false_covers"] = outcome.false_covers
        rows.append(json.dumps(row))
        tiles.append(_pair(sample.jpeg, data))
    write_whole(out_dir / "report.jsonl", ("\n".join(rows) + "\n").encode())
    picture = out_dir / "side-by-side.png"
    write_whole(picture, _png(_sheet(tiles)))
    _print_table(outcomes)
    for label, path in (
        ("before", before),
        ("after", after),
        ("side by side", picture),
        ("report", out_dir / "report.jsonl"),
    ):
        print(f"{label + ':':14}{path}")
    failed = [o.sample.name for o in outcomes if not o.passed]
    if failed:
        print(f"not as it should be: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _print_table(outcomes: Sequence[SampleOutcome]) -> None:
    print(f"{'sample':18}{'status':9}{'plates':>7}{'covered':>9}{'least':>8}{'false':>7}{'ms':>8}")
    for o in outcomes:
        covered = sum(c >= MIN_COVERAGE for c in o.coverages)
        least = f"{min(o.coverages):.1%}" if o.coverages else "–"
        mark = "" if o.passed else f"  ← {o.result.error or 'see report.jsonl'}"
        print(
            f"{o.sample.name:18}{o.result.status:9}{len(o.coverages):>7}{covered:>9}{least:>8}"
            f"{o.false_covers:>7}{o.result.ms['total']:>8.0f}{mark}"
        )


def displayed(data: bytes) -> ImageArray:
    """RGB of an image file as displayed (EXIF orientation applied)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)


def _pair(before: bytes, after: bytes | None) -> ImageArray:
    """Before and after beside each other; a grey field where no photo came out."""
    left = displayed(before)
    right = displayed(after) if after is not None else np.full_like(left, 96)
    scale = _TILE_HEIGHT / left.shape[0]
    size = max(1, round(left.shape[1] * scale)), _TILE_HEIGHT
    halves = [cv2.resize(side, size, interpolation=cv2.INTER_AREA) for side in (left, right)]
    return np.asarray(np.concatenate(halves, axis=1), dtype=np.uint8)


def _sheet(tiles: Sequence[ImageArray], columns: int = 2) -> ImageArray:
    gap = 6
    width = max(tile.shape[1] for tile in tiles)
    lines = -(-len(tiles) // columns)
    sheet = np.full((lines * (_TILE_HEIGHT + gap), columns * (width + gap), 3), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (_TILE_HEIGHT + gap), (i % columns) * (width + gap)
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def _png(rgb: ImageArray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()
