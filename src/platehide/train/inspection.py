"""Pictures that prove that the labels move along with the augmented pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from platehide.train.refiner_data import RefinerSample
from platehide.train.samples import LabelledPicture, MainPlate
from platehide.types import FloatArray, ImageArray

TILE = 256
GREEN, BLUE, YELLOW = (0, 220, 0), (60, 120, 255), (255, 220, 0)


def _draw(image: ImageArray, quad: FloatArray, exact: bool) -> None:
    points = np.round(quad * 8).astype(np.int32)
    cv2.polylines(image, [points], True, GREEN if exact else BLUE, 1, cv2.LINE_AA, 3)
    x, y = np.round(quad[0]).astype(int)
    cv2.circle(image, (int(x), int(y)), 3, YELLOW, -1)  # the first corner: top left


def _panels(item: Any) -> list[ImageArray]:
    if isinstance(item, LabelledPicture):
        image = item.pixels.copy()
        for quad, exact in zip(item.quads, item.is_quad, strict=True):
            _draw(image, quad, bool(exact))
        return [image]
    if isinstance(item, MainPlate):
        image = item.pixels.copy()
        if item.quad is not None:
            _draw(image, item.quad * image.shape[0], item.exact)
        return [image]
    panels = []
    for sample in item:
        assert isinstance(sample, RefinerSample)
        image = sample.crop.copy()
        if sample.kind == 1:
            _draw(image, sample.target, True)
        elif sample.kind == 2:
            box = cv2.perspectiveTransform(
                sample.target[None].astype(np.float64), np.linalg.inv(sample.to_photo)
            )[0]
            _draw(image, box, False)
        panels.append(image)
    return panels


def write_samples(dataset: Any, path: Path, count: int = 32, columns: int = 8) -> None:
    """Write the first samples of a dataset as one PNG: exact quads green, boxes blue, the top
    left corner yellow."""
    panels: list[ImageArray] = []
    index = 0
    while len(panels) < count and index < len(dataset):
        panels.extend(_panels(dataset[index]))
        index += 1
    tiles = []
    for panel in panels[:count]:
        scale = TILE / max(panel.shape[:2])
        size = (round(panel.shape[1] * scale), round(panel.shape[0] * scale))
        tile = np.zeros((TILE, TILE, 3), np.uint8)
        resized = cv2.resize(panel, size, interpolation=cv2.INTER_AREA)
        tile[: size[1], : size[0]] = resized
        tiles.append(tile)
    while len(tiles) % columns:
        tiles.append(np.zeros((TILE, TILE, 3), np.uint8))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
