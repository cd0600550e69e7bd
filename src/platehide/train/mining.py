"""Hard negatives: what a detector takes for a plate on ``train`` photos where none is.

Run `python -m platehide.train.mining MODEL --data DIR -o runs/hard.jsonl`.

Only photos without a plate and completely labelled sets are looked at: elsewhere a "false"
candidate may be an unlabelled plate. These have a few too: of the 80 surest candidates of
openimages more than half were plates. So `--missed configs/labels/openimages-missed.jsonl` names
those that were seen, and what is too small to tell is left out, as are stickers on plates.
`--unlabelled` looks at the other photos instead: a person then tells decoys from missed plates
there, and names the photos with nothing else in a file for `--looked-through`, which counts them
among the completely labelled ones.
`--crops N` looks at up to N plate-free parts of each photo as well (as `evaluate` does): what is
a van's lettering on the photo may be a plate to someone who sees nothing but the lettering.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from platehide.detector import Candidate, OnnxDetector, load_detector
from platehide.evaluate.crops import crops_of
from platehide.evaluate.dataset import PhotoRecord, PlateLabel, load_records
from platehide.formats import open_photo
from platehide.geometry import box_iou, hull_box
from platehide.pixels import ArrayPixels
from platehide.train.extra_labels import with_looked_through, with_missed_plates, write_rows
from platehide.types import FloatArray

ALIKE = 0.4
"""IoU of two candidates' hulls from which they are one."""

LEAST_PX = 14.0
"""Narrower candidates on photos with plates may be plates that nobody labelled."""


def is_decoy(quad: FloatArray, plates: Sequence[PlateLabel]) -> bool:
    """Whether a candidate ``(4, 2)`` that is none of ``plates`` is surely no plate."""
    hull, centre = hull_box(quad), quad.mean(axis=0)
    if plates and np.ptp(quad[:, 0]) < LEAST_PX:
        return False
    for plate in plates:
        low, high = plate.box[:2], plate.box[2:]
        reach = 0.1 * (high - low)
        if box_iou(hull, plate.box) >= 0.1 or (
            (centre > low - reach).all() and (centre < high + reach).all()
        ):
            return False
    return True


def seen_on(detector: OnnxDetector, record: PhotoRecord, crops: int) -> list[Candidate]:
    """Candidates on a photo and on up to ``crops`` plate-free parts of it, in photo px, the surest
    first; one a place."""
    frame = open_photo(record.path.read_bytes()).frames[0]
    found = list(detector.candidates(frame))
    for crop in crops_of(record, crops) if crops else ():
        part = ArrayPixels(np.ascontiguousarray(frame.region(crop.box)))
        found += [
            replace(c, quad=c.quad + np.array(crop.box[:2])) for c in detector.candidates(part)
        ]
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.logit):
        hull = hull_box(candidate.quad)
        if all(box_iou(hull, hull_box(k.quad)) < ALIKE for k in kept):
            kept.append(candidate)
    return kept


def photos_of(data: Path, missed: str, looked_through: str, unlabelled: bool) -> list[PhotoRecord]:
    """The ``train`` photos to look at: those completely labelled, or all others as if they were."""
    records = with_missed_plates(load_records(data, "train"), missed)
    records = with_looked_through(records, looked_through)
    return [replace(r, complete=True) for r in records if r.complete != unlabelled]


def mine(
    model: str,
    records: Sequence[PhotoRecord],
    out: Path,
    most_per_photo: int = 6,
    crops: int = 0,
) -> int:
    """Write JSONL rows ``{"image", "quad", "logit", "confidence"}``; returns how many."""
    detector = load_detector(model)
    rows = []
    for record in tqdm(records, desc="mine", unit="photo"):
        for candidate in seen_on(detector, record, crops)[:most_per_photo]:
            if is_decoy(candidate.quad, record.plates):
                rows.append(
                    {
                        "image": record.name,
                        "quad": candidate.quad.round(2).tolist(),
                        "logit": round(candidate.logit, 3),
                        "confidence": round(detector.confidence(candidate), 4),
                    }
                )
    write_rows(out, rows)
    return len(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Collect what is taken for a plate but is none.")
    parser.add_argument("model", help="folder of weights, name or name@version")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--missed", default="", help="JSONL of plates beside the annotations")
    parser.add_argument("--looked-through", default="", help="names of photos looked through")
    parser.add_argument("--unlabelled", action="store_true", help="the other photos instead")
    parser.add_argument("--crops", type=int, default=0, help="plate-free parts of each photo, too")
    parser.add_argument("--most", type=int, default=6, help="quads a photo at most")
    args = parser.parse_args()
    records = photos_of(args.data, args.missed, args.looked_through, args.unlabelled)
    count = mine(args.model, records, args.out, args.most, args.crops)
    what = (
        "quads beside the labels: look at them" if args.unlabelled else "quads that are no plates"
    )
    print(f"{args.out}: {count} {what}")


if __name__ == "__main__":
    main()
