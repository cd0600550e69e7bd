"""Hard negatives: what a detector takes for a plate on ``train`` photos where none is.

Run `python -m platehide.train.mining MODEL --data DIR -o runs/hard.jsonl`.

Only photos without a plate and completely labelled sets are looked at: elsewhere a "false"
candidate may be an unlabelled plate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from platehide.detector import load_detector
from platehide.evaluate.dataset import load_records
from platehide.formats import open_photo
from platehide.geometry import box_iou, hull_box
from platehide.train.extra_labels import write_rows


def mine(model: str, data: Path, out: Path, most_per_photo: int = 6) -> int:
    """Write JSONL rows ``{"image", "quad", "logit"}``; returns how many."""
    detector = load_detector(model)
    records = [r for r in load_records(data, "train") if r.complete]
    rows = []
    for record in tqdm(records, desc="mine", unit="photo"):
        photo = open_photo(record.path.read_bytes())
        found = sorted(detector.candidates(photo.frames[0]), key=lambda c: -c.logit)
        for candidate in found[:most_per_photo]:
            hull = hull_box(candidate.quad)
            if all(box_iou(hull, plate.box) < 0.1 for plate in record.plates):
                rows.append(
                    {
                        "image": record.name,
                        "quad": candidate.quad.round(2).tolist(),
                        "logit": round(candidate.logit, 3),
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
    args = parser.parse_args()
    print(f"{args.out}: {mine(args.model, args.data, args.out)} quads that are no plates")


if __name__ == "__main__":
    main()
