"""A small set of rendered scenes in the layout of the annotated photos."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from platehide.demo.scenes import SCENES, render

LONG_SIDE = 480


def write_set(root: Path, splits: tuple[str, ...] = ("train", "val"), scenes: int = 4) -> Path:
    """Scenes with plates, reduced, and one empty picture, each in every split; returns ``root``."""
    (root / "images").mkdir(parents=True)
    rows = []
    chosen = [s for s in SCENES if s.orientation == 1][:scenes]
    for spec in chosen:
        sample = render(spec)
        pixels = cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        scale = LONG_SIDE / max(pixels.shape[:2])
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        cv2.imwrite(
            str(root / "images" / f"{spec.name}.png"),
            cv2.resize(pixels, size, interpolation=cv2.INTER_AREA),
        )
        quads = [np.asarray(q) * scale for q in sample.quads]
        plates = [{"quad": q.tolist(), "box": [*q.min(axis=0), *q.max(axis=0)]} for q in quads]
        rows.append((f"images/{spec.name}.png", size, plates))
    grey = np.random.default_rng(0).integers(90, 130, (300, 400, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "images" / "empty.png"), grey)
    rows.append(("images/empty.png", (400, 300), []))
    lines = [
        {
            "image": image,
            "width": size[0],
            "height": size[1],
            "split": split,
            "plates": plates,
            "licence": "own rendering",
            "complete": True,
        }
        for split in splits
        for image, size, plates in rows
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "annotations.jsonl").write_text(text, encoding="utf-8")
    return root
