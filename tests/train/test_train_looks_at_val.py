"""What a look at ``val`` during a training says: recall, overlap, leak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import cv2
import torch
from torch import Tensor, nn

from platehide.train.config import TrainConfig
from platehide.train.validate import validator_for

QUAD = np.array([[200.0, 150], [300, 160], [299, 185], [199, 175]])


class Always(nn.Module):
    """Answers with one quad, given in px of the 640 × 480 photo, whatever it is shown."""

    def __init__(self, quad: np.ndarray) -> None:
        super().__init__()
        self.quad = torch.from_numpy(quad.astype(np.float32))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scale = image.shape[2] / 640
        return torch.tensor([[6.0]]), (self.quad * scale)[None, None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "x.png"), np.full((480, 640, 3), 90, np.uint8))
    box = [*QUAD.min(axis=0).tolist(), *QUAD.max(axis=0).tolist()]
    row = {"image": "x.png", "width": 640, "height": 480, "split": "val"}
    row |= {"plates": [{"quad": QUAD.tolist(), "box": box}]}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(row))
    return tmp_path


@pytest.mark.parametrize(
    ("shift", "recall", "leak"),
    [
        ((0.0, 0.0), 1.0, 0.0),
        ((0.0, 1.0), 1.0, 0.0),
        ((0.0, 6.0), 1.0, 1.0),
        ((200.0, 0), 0.0, 1.0),
    ],
    ids=["exact", "within the margin", "a quarter off", "elsewhere"],
)
def test_a_dense_network_is_looked_at(
    photos: Path, shift: tuple[float, float], recall: float, leak: float
) -> None:
    config = TrainConfig("x", "dense")
    validate = validator_for(config, [photos])
    assert validate is not None
    seen = validate(Always(QUAD + shift), config)
    assert (seen["recall"], seen["leak"]) == (recall, leak)
    assert seen["score"] == pytest.approx(seen["recall"] + seen["iou"], abs=1e-4)


class Middle(nn.Module):
    """A refiner that believes every coarse quad, or only ``share`` of its height."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        w, h = 224 / 1.8, 80 / 1.8 * self.share
        corner = torch.tensor([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
        quads = corner + torch.tensor([112.0, 40.0])
        return quads.repeat(len(crops), 1, 1), torch.full((len(crops),), 3.0)


def test_a_refiner_is_looked_at(photos: Path) -> None:
    config = TrainConfig("x", "refiner")
    validate = validator_for(config, [photos])
    assert validate is not None
    whole, half = validate(Middle(1.0), config), validate(Middle(0.5), config)
    assert half["leak"] > 0.9 > whole["leak"]
    assert half["corner_error"] > whole["corner_error"] > 0.0
    assert validator_for(TrainConfig("x", "refiner", validate_every=0), [photos]) is None
