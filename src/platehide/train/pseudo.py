"""Pseudo-quads: corners for plates that are known only by a box.

Run `python -m platehide.train.pseudo MODEL --data DIR -o runs/pseudo.jsonl`; a training config
names the file as ``pseudo_quads``.

The detector's refiner looks into each trusted box from several starts. An answer counts where its
hull nearly equals the box; it is then stretched so that the hull equals the box exactly, which
leaves only the plate's tilt to the network. Where the answers disagree the box stays a box.
Only ``train`` photos are looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from platehide.detector import OnnxDetector, load_detector
from platehide.evaluate.dataset import LOOSE_QUAD_SETS, load_records
from platehide.geometry import box_iou, box_to_quad, hull_box, is_convex
from platehide.pixels import ArrayPixels, PixelSource
from platehide.train.extra_labels import write_rows
from platehide.train.samples import read_rgb
from platehide.types import FloatArray

LEAST_HULL_IOU = 0.72
MOST_SPREAD = 0.06
"""Median disagreement of the answers' corners, in parts of the plate's height."""
LEAST_WIDTH_PX = 20.0
TILTS_DEG = (0.0, -6.0, 6.0)


def starts(box: FloatArray) -> list[FloatArray]:
    """Coarse quads for a box ``(4,)``: the box itself, and narrower parallelograms in it that
    rise or fall by ``TILTS_DEG``."""
    quads = []
    x0, y0, x1, y1 = box
    for tilt in TILTS_DEG:
        quad = box_to_quad(box)
        rise = min(abs(np.tan(np.radians(tilt))) * (x1 - x0), 0.5 * (y1 - y0)) * np.sign(tilt)
        quad = quad + np.array([[0, -rise], [0, rise], [0, rise], [0, -rise]]) / 2
        quad[:, 1] = (quad[:, 1] - (y0 + y1) / 2) * (y1 - y0) / (y1 - y0 + abs(rise)) + (
            y0 + y1
        ) / 2
        quads.append(quad)
    return quads


def snap(quad: FloatArray, box: FloatArray) -> FloatArray:
    """Stretch and shift ``(4, 2)`` so that its upright hull equals ``box`` ``(4,)``."""
    low, high = quad.min(axis=0), quad.max(axis=0)
    scale = (box[2:] - box[:2]) / np.maximum(high - low, 1e-6)
    return np.asarray((quad - low) * scale + box[:2])


def agree(answers: Sequence[FloatArray]) -> FloatArray | None:
    """The median of two or more quads ``(4, 2)`` that agree, else ``None``."""
    if len(answers) < 2:
        return None
    stack = np.stack(answers)
    middle = np.median(stack, axis=0)
    height = 0.5 * (np.hypot(*(middle[3] - middle[0])) + np.hypot(*(middle[2] - middle[1])))
    spread = np.median(np.linalg.norm(stack - middle, axis=-1).max(axis=1)) / max(height, 1.0)
    return np.asarray(middle) if spread <= MOST_SPREAD and is_convex(middle) else None


def pseudo_quad(detector: OnnxDetector, source: PixelSource, box: FloatArray) -> FloatArray | None:
    """Corners ``(4, 2)`` in photo px of the plate in ``box`` ``(4,)``, or ``None``."""
    answers = []
    for quad in detector.refine(source, starts(box)):
        if box_iou(hull_box(quad), tuple(box)) >= LEAST_HULL_IOU:
            answers.append(snap(quad, box))
    return agree(answers)


def label(model: str, data: Sequence[Path], out: Path) -> tuple[int, int]:
    """Write JSONL rows ``{"image", "plate", "quad"}``; returns (written, boxes looked at)."""
    detector = load_detector(model)
    rows: list[dict[str, Any]] = []
    looked = 0
    for record in tqdm(load_records(list(data), "train"), desc="pseudo-quads", unit="photo"):
        boxes = [i for i, p in enumerate(record.plates) if p.quad is None]
        if not boxes or record.set_name in LOOSE_QUAD_SETS:
            continue
        source = ArrayPixels(read_rgb(record))
        for index in boxes:
            looked += 1
            plate = record.plates[index]
            if plate.width_px < LEAST_WIDTH_PX:
                continue
            quad = pseudo_quad(detector, source, plate.box)
            if quad is not None:
                corners = quad.round(2).tolist()
                rows.append({"image": record.name, "plate": index, "quad": corners})
    write_rows(out, rows)
    return len(rows), looked


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Find corners for plates known only by a box.")
    parser.add_argument("model", help="folder of weights, name or name@version")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    written, looked = label(args.model, args.data, args.out)
    print(f"{args.out}: corners for {written} of {looked} boxes")


if __name__ == "__main__":
    main()
