"""Augmented labels lie where the plate went: a bright plate on a dark photo stays bright under its
label and dark beside it, whatever crop, view, mirror, mosaic or light it went through.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

from platehide.evaluate.dataset import PhotoRecord, PlateLabel
from platehide.train.inspection import write_samples
from platehide.train.refiner_data import RefinerCrops
from platehide.train.samples import DenseCrops, WholePhotos
from platehide.types import as_quad

SIZE = (900, 700)
QUAD = np.array([[380.0, 300.0], [560.0, 330.0], [555.0, 385.0], [376.0, 350.0]])
DARK, BRIGHT = 35, 225


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> PhotoRecord:
    folder = tmp_path_factory.mktemp("photo") / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    image = rng.integers(DARK - 10, DARK + 10, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    cv2.fillConvexPoly(image, np.round(QUAD).astype(np.int32), (BRIGHT,) * 3)
    cv2.imwrite(str(folder / "a.png"), image)
    box = np.concatenate([QUAD.min(axis=0), QUAD.max(axis=0)])
    plate = PlateLabel(box, as_quad(QUAD))
    return PhotoRecord("s", folder / "a.png", *SIZE, "train", (plate,), "g", "l", True)


def contrast(image: np.ndarray, quad: np.ndarray) -> float | None:
    """Mean brightness inside the label minus that in a ring round it; ``None`` where the label or
    the ring is too small or off the picture."""
    centre = quad.mean(axis=0)
    shape = image.shape[:2]
    inside, grown, near = (np.zeros(shape, np.uint8) for _ in range(3))
    for mask, factor in ((inside, 0.75), (grown, 1.5), (near, 1.25)):
        points = np.round(centre + (quad - centre) * factor).astype(np.int32)
        cv2.fillPoly(mask, [points], 1)
    ring = (grown == 1) & (near == 0) & (image.max(axis=2) < 250)
    if inside.sum() < 40 or ring.sum() < 40:
        return None
    grey = image.mean(axis=2)
    return float(grey[inside == 1].mean() - grey[ring].mean())


def judge(found: list[float | None]) -> None:
    values = [v for v in found if v is not None]
    assert len(values) >= 12
    # Padding is grey and light varies: nearly all, and never darker than its surroundings.
    assert np.mean([v > 25 for v in values]) > 0.9, values
    assert np.median(values) > 60


def test_crops_of_the_dense_network(photo: PhotoRecord) -> None:
    crops = DenseCrops([photo], 40, 192, seed=1)
    items = [crops[i] for i in range(40)]
    judge([contrast(p.pixels, q) for p in items for q in p.quads])
    corners = [q for p in items for q in p.quads]
    turns = [np.cross([*(q[1] - q[0]), 0], [*(q[3] - q[0]), 0])[2] for q in corners]
    assert min(turns) > 0  # mirrored corners were put in order again


def test_whole_photos_of_the_two_head_network(photo: PhotoRecord) -> None:
    photos = WholePhotos([photo], 25, 160, seed=1)
    items = [photos[i] for i in range(25)]
    judge([contrast(p.pixels, p.quad * 160) for p in items if p.quad is not None])


def test_crops_of_the_refiner(photo: PhotoRecord) -> None:
    crops = RefinerCrops([photo], 6, 6, 1)
    samples = [s for i in range(6) for s in crops[i]]
    judge([contrast(s.crop, s.target) for s in samples if s.kind == 1])


def test_a_label_that_did_not_move_is_noticed(photo: PhotoRecord) -> None:
    crops = DenseCrops([photo], 40, 192, seed=1)
    wrong = [
        contrast(p.pixels, q + [0.0, 1.5 * np.ptp(q[:, 1])])
        for p in (crops[i] for i in range(40))
        for q in p.quads
    ]
    values = [v for v in wrong if v is not None]
    assert np.mean([v > 25 for v in values]) < 0.2


def test_the_inspection_picture_draws_the_label_on_the_plate(
    photo: PhotoRecord, tmp_path: Path
) -> None:
    path = tmp_path / "samples.png"
    write_samples(DenseCrops([photo], 8, 192, seed=1), path, count=8, columns=4)
    sheet = cv2.imread(str(path))
    assert sheet is not None
    assert sheet.shape == (512, 1024, 3)
    blue, green, red = (sheet[..., c].astype(int) for c in range(3))
    drawn = (green > 150) & (red < 120) & (blue < 120)
    assert drawn.sum() > 200
