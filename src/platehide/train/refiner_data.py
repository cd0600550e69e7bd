"""Crops for the refiner: true plates seen through a wrong coarse quad, and things that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from platehide.evaluate.dataset import PhotoRecord
from platehide.geometry import box_iou, box_to_quad, hull_box, mean_sides, mirror_corners
from platehide.preprocess import rectify
from platehide.train.augment import photometric, tilted_rectangle
from platehide.train.extra_labels import load_decoys, with_missed_plates, with_pseudo_quads
from platehide.train.models.refiner import REFINER_MARGIN, REFINER_SIZE_WH
from platehide.train.paste import beside, covered, lettered, other_plate
from platehide.train.samples import aspect_of, labels_of, read_rgb, sampling_weights
from platehide.types import FloatArray, ImageArray


@dataclass(frozen=True)
class RefinerSample:
    """One rectified crop.

    Attributes:
        crop: uint8 ``(80, 224, 3)``.
        target: ``(4, 2)``: corners in crop px where ``kind`` is 1; the plate's box as a quad in
            photo px where ``kind`` is 2; zeros where 0 (not a plate). Told from pixel centres.
        to_photo: ``(3, 3)`` crop px → photo px.
        kind: 0 not a plate, 1 exact quad, 2 box only.
        weight: how far the corners are trusted.
        aspect: the plate's width by its height in the photo (1 where it is none).
    """

    crop: ImageArray
    target: FloatArray
    to_photo: FloatArray
    kind: int
    weight: float = 1.0
    aspect: float = 1.0


TIGHT_WEIGHT, EXACT_WEIGHT, PSEUDO_WEIGHT, BOX_WEIGHT = 3.0, 1.0, 0.7, 0.4
TIGHT_SETS = ("stanford-cars-doc", "oblique-kr", "ccpd-")
"""Sets whose corners are good to a few px of a large plate: what a corner is, is learned here."""
TIGHT_DRAWS = 1.6
"""How much more often their photos are drawn than ``sampling_weights`` says."""


def jitter_quad(quad: FloatArray, rng: np.random.Generator, strength: float) -> FloatArray:
    """A coarse quad as a detector might give it: shifted, scaled, turned, corners off.

    ``strength`` 1.0: shift σ 0.1 of width and 0.2 of height, scale σ 16 % and 22 %, corners σ
    0.03 of width and 0.07 of height, rotation σ 4°.
    """
    across, down = mean_sides(quad)
    centre = quad.mean(axis=0)
    half = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    keep = quad - (centre + half[:, :1] * across + half[:, 1:] * down)
    scale = np.exp(rng.normal(0.0, [0.16 * strength, 0.22 * strength]))
    move = rng.normal(0.0, [0.10 * strength, 0.20 * strength])
    loose = rng.normal(0.0, 1.0, (4, 2)) * [0.03 * strength, 0.07 * strength]
    unit = half * scale + move + loose
    out = centre + unit[:, :1] * across + unit[:, 1:] * down + keep * rng.uniform(0.3, 1.0)
    turn = np.radians(rng.normal(0.0, 4.0 * strength))
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray((out - centre) @ np.array([[c, s], [-s, c]]) + centre)


def random_quad(width: int, height: int, rng: np.random.Generator) -> FloatArray:
    """A plate-shaped quad anywhere on a photo."""
    w = float(np.exp(rng.uniform(np.log(16), np.log(max(20.0, 0.6 * width)))))
    h = w / rng.uniform(1.2, 5.5)
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    return tilted_rectangle(rng, centre, (w, h), 0.7)


def crop_round(image: ImageArray, coarse: FloatArray) -> tuple[ImageArray, FloatArray]:
    """What the refiner sees of ``coarse`` ``(4, 2)``, and the homography photo → crop."""
    return rectify(image, coarse, REFINER_SIZE_WH, REFINER_MARGIN)


def hide_part(crop: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Something in front of the plate: one rectangle of one colour."""
    height, width = crop.shape[:2]
    w, h = (int(rng.uniform(0.06, 0.25) * width), int(rng.uniform(0.15, 0.6) * height))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    out = crop.copy()
    out[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return out


_MIDDLE = (
    np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * REFINER_SIZE_WH
    - np.array(REFINER_SIZE_WH) / 2.0
) / (1 + 2 * REFINER_MARGIN) + np.array(REFINER_SIZE_WH) / 2.0
"""Where the coarse quad lies in a crop."""


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


class RefinerCrops(Dataset[list[RefinerSample]]):
    """Item = several samples of one photo, since decoding it costs more than cropping."""

    def __init__(
        self,
        records: Sequence[PhotoRecord],
        count: int,
        per_photo: int,
        seed: int,
        *,
        pseudo_quads: str = "",
        hard_negatives: str = "",
        missed_plates: str = "",
        paste: float = 0.0,
    ) -> None:
        self.paste = paste
        records = with_missed_plates(records, missed_plates)
        self.records = with_pseudo_quads(records, pseudo_quads)
        self.trusted = {r.name: labels_of(r)[1] for r in records}
        self.count, self.per_photo, self.seed = count, per_photo, seed
        self.hard = load_decoys(hard_negatives)
        weights = sampling_weights(records)
        weights *= np.array([3.0 if r.name in self.hard else 1.0 for r in self.records])
        weights *= np.array([TIGHT_DRAWS if _is_tight(r) else 1.0 for r in self.records])
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[RefinerSample]:
        rng = np.random.default_rng([self.seed, index])
        record = self.records[int(rng.choice(len(self.records), p=self.weights))]
        image = read_rgb(record)
        if rng.random() < 0.3:  # smaller photos: the refiner must live with coarse pixels
            # Differently in x and y, as a plate seen from the side has fewer pixels across.
            factor = rng.uniform(0.3, 0.8) * np.exp(rng.normal(0.0, 0.25, 2))
            size = (
                max(16, int(image.shape[1] * min(1.0, factor[0]))),
                max(16, int(image.shape[0] * min(1.0, factor[1]))),
            )
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        scale = np.array([image.shape[1] / record.width, image.shape[0] / record.height])
        return [self._sample(record, image, scale, rng) for _ in range(self.per_photo)]

    def _sample(
        self, record: PhotoRecord, image: ImageArray, scale: FloatArray, rng: np.random.Generator
    ) -> RefinerSample:
        quads, is_quad = labels_of(record)
        # Labels are told from pixel edges, warps from centres: mirrored, they would lie 1 px apart.
        quads = quads * scale - 0.5
        hard = [q * scale for q in self.hard.get(record.name, [])]
        height, width = image.shape[:2]
        zero = np.zeros((4, 2))
        if hard and rng.random() < 0.6:
            coarse = jitter_quad(hard[rng.integers(len(hard))], rng, 0.4)
            crop, matrix = crop_round(image, coarse)
            return RefinerSample(photometric(crop, rng), zero, _inverse(matrix), 0)
        if not len(quads) or rng.random() < 0.22:
            coarse = random_quad(width, height, rng)
            boxes = [hull_box(q) for q in quads]
            # Far from every plate, and only where unlabelled plates are unlikely to be hit.
            if all(box_iou(hull_box(coarse), b) < 0.1 for b in boxes):
                crop, matrix = crop_round(image, coarse)
                if rng.random() < self.paste:
                    crop = lettered(crop, zero[None][:0], rng, jitter_quad(_MIDDLE, rng, 0.5))
                return RefinerSample(photometric(crop, rng), zero, _inverse(matrix), 0)
        pick = int(rng.integers(len(quads)))
        quad, exact = quads[pick], bool(is_quad[pick])
        start = box_to_quad(hull_box(quad)) if rng.random() < 0.15 else quad
        coarse = jitter_quad(start, rng, float(rng.choice([0.25, 0.7, 1.3], p=[0.45, 0.4, 0.15])))
        if not _usable(coarse):
            coarse = quad
        crop, matrix = crop_round(image, coarse)
        sure = TIGHT_WEIGHT if _is_tight(record) else EXACT_WEIGHT
        weight = sure if self.trusted[record.name][pick] else PSEUDO_WEIGHT
        aspect = aspect_of(quad)
        target = cv2.perspectiveTransform(quad[None], matrix)[0]
        if exact and rng.random() < self.paste:
            if rng.random() < 0.6:
                crop, target = other_plate(crop, target, aspect, rng)
                weight = sure
                if rng.random() < 0.3:
                    crop = beside(crop, target, aspect, rng)[0]
            else:
                hidden = covered(crop, target, rng)
                if hidden is not None:
                    return RefinerSample(photometric(hidden, rng), zero, _inverse(matrix), 0)
        crop = photometric(crop, rng)
        if rng.random() < 0.12:
            crop = hide_part(crop, rng)
        if not exact:
            return RefinerSample(crop, quad, _inverse(matrix), 2, BOX_WEIGHT, aspect)
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
            target = mirror_corners(target, REFINER_SIZE_WH[0])
        # A mirrored crop has no photo any more; its corners are compared in the crop.
        return RefinerSample(crop, target, _inverse(matrix), 1, weight, aspect)


def _is_tight(record: PhotoRecord) -> bool:
    return record.set_name.startswith(TIGHT_SETS)


def _usable(quad: FloatArray) -> bool:
    edge = np.roll(quad, -1, axis=0) - quad
    nxt = np.roll(edge, -1, axis=0)
    return bool(((edge[:, 0] * nxt[:, 1] - edge[:, 1] * nxt[:, 0]) > 1.0).all())


def collate_refiner(batch: Sequence[list[RefinerSample]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Flatten and stack; see ``losses.refiner_loss``."""
    flat = [s for item in batch for s in item]
    return torch.from_numpy(np.stack([s.crop for s in flat])), {
        "target": torch.from_numpy(np.stack([s.target for s in flat]).astype(np.float32)),
        "to_photo": torch.from_numpy(np.stack([s.to_photo for s in flat]).astype(np.float32)),
        "kind": torch.tensor([s.kind for s in flat]),
        "weight": torch.tensor([s.weight for s in flat]),
        "aspect": torch.tensor([s.aspect for s in flat]),
    }
