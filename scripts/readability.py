"""Can an OCR that is no part of the product still read the plates? (docs/metrics.md)

    pip install rapidocr-onnxruntime==1.4.4      # in an environment of its own
    python scripts/readability.py --data ../shared/photos --split test

Reads the plate's region (the label, a third larger) before and after `PlateHider.hide`. A plate
counts when at least four characters were recovered before; it still leaks when at least three of
them are read after, in the same order.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from platehide import PlateHider
from platehide.cover import CoverOptions
from platehide.evaluate.dataset import load_records
from platehide.evaluate.metrics import wilson
from platehide.formats import open_photo

MIN_BEFORE, MIN_AFTER = 4, 3
LOW_CONFIDENCE = 0.5


def longest_common_subsequence(a: str, b: str) -> int:
    """Length of the longest common subsequence (dynamic programming)."""
    row = [0] * (len(b) + 1)
    for x in a:
        previous = 0
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], previous + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def region(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The label's box a third larger, magnified to at least 320 px wide, BGR."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) / 6, (y1 - y0) / 6
    h, w = rgb.shape[:2]
    ax, ay = int(max(0, x0 - dx)), int(max(0, y0 - dy))
    bx, by = int(min(w, x1 + dx)) + 1, int(min(h, y1 + dy)) + 1
    crop = cv2.cvtColor(np.ascontiguousarray(rgb[ay:by, ax:bx]), cv2.COLOR_RGB2BGR)
    factor = max(1.0, 320 / crop.shape[1])
    return np.asarray(cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))


def main() -> int:
    """Run; exit code 1 when a plate can still be read."""
    parser = argparse.ArgumentParser(description="Can the plates still be read?")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--limit", type=int, default=300, help="photos at most")
    parser.add_argument("--json", type=Path, help="write the rows here (they name plates' texts)")
    args = parser.parse_args()
    from rapidocr_onnxruntime import RapidOCR

    ocr: Any = RapidOCR()

    def read(picture: np.ndarray) -> str:
        found, _ = ocr(picture)
        texts = [t for _, t, score in found or [] if float(score) >= LOW_CONFIDENCE]
        return "".join(c for c in "".join(texts).upper() if c.isalnum())

    records = [
        r for r in load_records(args.data, args.split) if any(p.width_px >= 48 for p in r.plates)
    ]
    random.Random(0).shuffle(records)
    # A plain cover: the brand on the default one would be read as characters of its own.
    hider = PlateHider(cover_options=CoverOptions(style="solid"))
    photos = readable = still = refused = 0
    rows = []
    for record in tqdm(records[: args.limit], unit="photo"):
        data = record.path.read_bytes()
        result = hider.hide(data)
        photos += 1
        if result.data is None:
            refused += 1
            continue
        width, height = record.width, record.height
        whole = (0, 0, width, height)
        before = open_photo(data).frames[0].region(whole)
        after = open_photo(result.data).frames[0].region(whole)
        for plate in record.plates:
            text = read(region(before, plate.box))
            if len(text) < MIN_BEFORE:
                continue
            readable += 1
            left = read(region(after, plate.box))
            common = longest_common_subsequence(text, left)
            still += common >= MIN_AFTER
            rows.append({"photo": record.name, "before": text, "after": left, "common": common})
    low, high = wilson(still, readable)
    print(
        f"{photos} photos ({refused} refused), {readable} plates readable before,"
        f" {still} still after: {100 * still / max(1, readable):.1f} %"
        f" (95 %: {100 * low:.1f} to {100 * high:.1f} %)"
    )
    for row in rows:
        if row["common"] >= MIN_AFTER:
            print(f"  {row['photo']}: {row['before']} -> {row['after']}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(still > 0)


if __name__ == "__main__":
    sys.exit(main())
