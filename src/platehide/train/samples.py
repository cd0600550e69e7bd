"""Training samples drawn from annotated photos: crops for the dense detector, whole photos for
the two-head network, rectified crops for the refiner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from platehide.errors import ImageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.geometry import MIRROR_ORDER, box_iou, hull_box, mirror_corners
from platehide.preprocess import resize_pixels, stretch
from platehide.train.augment import (
    mirror,
    photometric,
    random_view,
    shift,
    upright_stretch,
    warp_image,
)
from platehide.train.extra_labels import (
    load_decoys,
    with_looked_through,
    with_missed_plates,
    with_pseudo_quads,
)
from platehide.train.losses import PlateTargets
from platehide.train.paste import beside, covered, lettered, other_plate
from platehide.types import FloatArray, ImageArray


def read_rgb(record: PhotoRecord) -> ImageArray:
    """Decode a record's photo to RGB ``(H, W, 3)``, turned as it is shown (and as it is judged).

    Raises:
        ImageError: it cannot be decoded, or has another size than its labels were made for.
    """
    data = np.fromfile(record.path, dtype=np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if bgr is None:
        raise ImageError(f"{record.path}: cannot be decoded")
    height, width = bgr.shape[:2]
    if (width, height) != (record.width, record.height):
        labelled = f"{record.width}x{record.height}"
        raise ImageError(f"{record.path}: is {width}x{height}, but was labelled as {labelled}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its plates: ``quads`` ``(n, 4, 2)`` px, ``is_quad`` ``(n,)`` bool."""

    pixels: ImageArray
    quads: FloatArray
    is_quad: np.ndarray
    complete: bool


def aspect_of(quad: FloatArray) -> float:
    """Width by height of a quad ``(4, 2)``, means of opposite sides."""
    sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return float(np.clip((sides[0] + sides[2]) / max(sides[1] + sides[3], 1e-6), 0.5, 8.0))


def labels_of(record: PhotoRecord) -> tuple[FloatArray, np.ndarray]:
    """Quads ``(n, 4, 2)`` (boxes as quads where no quad is known) and ``is_quad`` ``(n,)``."""
    quads = np.array([p.polygon for p in record.plates], dtype=np.float64).reshape(-1, 4, 2)
    return quads, np.array([p.quad is not None for p in record.plates], dtype=bool)


def sampling_weights(records: Sequence[PhotoRecord]) -> np.ndarray:
    """How often each photo is drawn: exact quads often (they are few), small-photo sets less."""
    weights = np.ones(len(records))
    for i, r in enumerate(records):
        if any(p.quad is not None for p in r.plates):
            weights[i] = 1.2 if r.set_name.startswith("experiment") else 4.5
        elif not r.plates or r.set_name.startswith("openimages"):
            weights[i] = 1.6
    return np.asarray(weights / weights.sum())


SMALLEST_PLATE_PX = 11.0
"""Narrowest plate that a training crop centres on: about 27 px of a 1280 px photo at 512."""


def dense_crop(
    record: PhotoRecord,
    size: int,
    rng: np.random.Generator,
    decoy: FloatArray | None = None,
    paste: float = 0.0,
) -> LabelledPicture:
    """A ``size`` × ``size`` crop round a plate (or away from plates), scaled, viewed and lit
    at random, with the plates' labels moved along.

    Args:
        decoy: a quad ``(4, 2)`` that a detector took for a plate and that is none: the crop is
            drawn round it.
        paste: share of crops with something drawn in (see ``with_pastes``).
    """
    image = read_rgb(record)
    height, width = image.shape[:2]
    quads, is_quad = labels_of(record)
    least = size * 0.6 / max(height, width)
    if decoy is not None:
        scale = float(np.exp(rng.uniform(np.log(SMALLEST_PLATE_PX), np.log(0.6 * size))))
        scale /= max(8.0, float(np.ptp(decoy[:, 0])))
        centre = decoy.mean(axis=0)
        place = rng.uniform(0.2, 0.8, 2) * size
    elif len(quads) and rng.random() < 0.88:
        quad = quads[rng.integers(len(quads))]
        plate_w = max(8.0, float(np.ptp(quad[:, 0])))
        widest = np.log(0.85 * size)
        scale = float(np.exp(rng.uniform(np.log(SMALLEST_PLATE_PX), widest))) / plate_w
        centre = quad.mean(axis=0)
        place = rng.uniform(0.12, 0.88, 2) * size
    else:
        scale = size / max(height, width) * float(np.exp(rng.uniform(np.log(0.9), np.log(2.5))))
        centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        place = np.array([size / 2, size / 2])
    scale = max(min(scale, 3.0), least)
    if rng.random() < 0.85:
        # Keep the crop on the photo where the photo is large enough: grey teaches nothing.
        for axis, extent in enumerate((width * scale, height * scale)):
            edges = sorted((centre[axis] * scale, centre[axis] * scale + size - extent))
            place[axis] = min(max(place[axis], edges[0]), edges[1])
        place = np.clip(place, 0.04 * size, 0.96 * size) if len(quads) else place
    exact = bool(is_quad.all()) and len(quads) > 0
    view = np.eye(3)
    if (exact or not len(quads)) and rng.random() < 0.8:
        view = random_view(rng, place, float(size), 1.0 if rng.random() < 0.7 else 1.8)
    elif rng.random() < 0.8:
        view = upright_stretch(rng, place)
    # The neighbourhood that can be seen, at the wanted scale, by serving's own resize.
    reach = size / scale * 1.2
    x0, y0 = (int(max(0, np.floor(c - reach))) for c in centre)
    x1 = int(min(width, np.ceil(centre[0] + reach)))
    y1 = int(min(height, np.ceil(centre[1] + reach)))
    region = image[y0:y1, x0:x1]
    new_wh = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    scaled = resize_pixels(region, new_wh)
    sx, sy = new_wh[0] / max(1, x1 - x0), new_wh[1] / max(1, y1 - y0)
    at = (centre - [x0, y0]) * [sx, sy]
    matrix = view @ shift(*(place - at))
    flipped = rng.random() < 0.5
    if flipped:
        matrix = mirror(size) @ matrix
    to_crop = matrix @ np.diag([sx, sy, 1.0]) @ shift(-x0, -y0)
    moved, kept = [], []
    for quad, known in zip(quads, is_quad, strict=True):
        v = cv2.perspectiveTransform(quad[None], to_crop)[0]
        if flipped:
            v = v[MIRROR_ORDER]
        cx, cy = v.mean(axis=0)
        if 0 <= cx < size and 0 <= cy < size and np.ptp(v[:, 0]) < 4 * size:
            moved.append(v)
            kept.append(bool(known))
    picture = LabelledPicture(
        warp_image(scaled, matrix, (size, size)),
        np.array(moved, dtype=np.float64).reshape(-1, 4, 2),
        np.array(kept, dtype=bool),
        record.complete,
    )
    if paste and rng.random() < paste:
        picture = with_pastes(picture, rng)
    return replace(picture, pixels=photometric(picture.pixels, rng))


def with_pastes(picture: LabelledPicture, rng: np.random.Generator) -> LabelledPicture:
    """The picture with lettering that is no plate, with other plates drawn over exactly known
    ones or beside them, or with covers over these, which then are no plates any more."""
    what = rng.choice(["lettering", "plate", "beside", "cover"], p=[0.35, 0.3, 0.15, 0.2])
    pixels, quads, is_quad = picture.pixels, picture.quads.copy(), picture.is_quad
    if what == "lettering" or not len(quads):
        for _ in range(int(rng.integers(1, 4))):
            pixels = lettered(pixels, quads, rng)
        return replace(picture, pixels=pixels)
    exact = np.flatnonzero(is_quad)
    if what == "beside":
        return _with_neighbour(picture, int(rng.choice(exact)), rng) if len(exact) else picture
    keep = np.ones(len(quads), dtype=bool)
    for i in exact:
        if what == "plate":
            pixels, quads[i] = other_plate(pixels, quads[i], aspect_of(quads[i]), rng)
        else:
            hidden = covered(pixels, quads[i], rng)
            if hidden is not None:
                pixels, keep[i] = hidden, False
    return replace(picture, pixels=pixels, quads=quads[keep], is_quad=is_quad[keep])


def _with_neighbour(
    picture: LabelledPicture, index: int, rng: np.random.Generator
) -> LabelledPicture:
    """The picture with a plate drawn beside plate ``index``, where there is room for one."""
    quad = picture.quads[index]
    pixels, place = beside(picture.pixels, quad, aspect_of(quad), rng)
    height, width = pixels.shape[:2]
    inside = (place >= 0).all() and (place <= [width, height]).all()
    others = [q for i, q in enumerate(picture.quads) if i != index]
    if not inside or any(box_iou(hull_box(place), hull_box(q)) > 0 for q in others):
        return picture
    return replace(
        picture,
        pixels=pixels,
        quads=np.concatenate([picture.quads, place[None]]),
        is_quad=np.append(picture.is_quad, True),
    )


def mosaic(pictures: Sequence[LabelledPicture]) -> LabelledPicture:
    """Four equal square pictures side by side, two by two: many small plates for one step."""
    size = pictures[0].pixels.shape[0]
    rows = [np.hstack([p.pixels for p in pictures[i : i + 2]]) for i in (0, 2)]
    offsets = np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64)
    return LabelledPicture(
        np.vstack(rows),
        np.concatenate([p.quads + o for p, o in zip(pictures, offsets, strict=True)]),
        np.concatenate([p.is_quad for p in pictures]),
        all(p.complete for p in pictures),
    )


MOSAIC_SHARE = 0.3


class DenseCrops(Dataset[LabelledPicture]):
    """An endless-looking list of crops; item i of a run depends on the seed and i alone."""

    def __init__(
        self,
        records: Sequence[PhotoRecord],
        count: int,
        size: int,
        seed: int,
        *,
        pseudo_quads: str = "",
        hard_negatives: str = "",
        decoy_share: float = 0.0,
        missed_plates: str = "",
        looked_through: str = "",
        paste: float = 0.0,
    ) -> None:
        self.paste, self.decoy_share = paste, decoy_share
        records = with_looked_through(with_missed_plates(records, missed_plates), looked_through)
        self.records = with_pseudo_quads(records, pseudo_quads)
        decoys = load_decoys(hard_negatives)
        self.decoys = [(r, quad) for r in self.records for quad in decoys.get(r.name, ())]
        self.count, self.size, self.seed = count, size, seed
        self.weights = sampling_weights(records)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LabelledPicture:
        rng = np.random.default_rng([self.seed, index])

        def draw(size: int) -> LabelledPicture:
            if self.decoys and rng.random() < self.decoy_share:
                record, decoy = self.decoys[int(rng.integers(len(self.decoys)))]
                return dense_crop(record, size, rng, decoy, self.paste)
            record = self.records[int(rng.choice(len(self.records), p=self.weights))]
            return dense_crop(record, size, rng, None, self.paste)

        if rng.random() < MOSAIC_SHARE:
            return mosaic([draw(self.size // 2) for _ in range(4)])
        return draw(self.size)


def collate(batch: Sequence[LabelledPicture]) -> tuple[Tensor, list[PlateTargets]]:
    """Stack pictures to uint8 ``(B, H, W, 3)``; targets stay a list."""
    images = torch.from_numpy(np.stack([p.pixels for p in batch]))
    targets = [
        PlateTargets(
            torch.from_numpy(p.quads.astype(np.float32)),
            torch.from_numpy(np.asarray(p.is_quad, dtype=bool)),
            p.complete,
        )
        for p in batch
    ]
    return images, targets


@dataclass(frozen=True)
class MainPlate:
    """A whole-photo input and its main plate in 0…1: ``quad`` ``(4, 2)`` or ``None``."""

    pixels: ImageArray
    quad: FloatArray | None
    exact: bool


def whole_photo(record: PhotoRecord, size: int, rng: np.random.Generator) -> MainPlate:
    """A photo (mostly cut to a random part that keeps the main plate) stretched to ``size``²."""
    image = read_rgb(record)
    height, width = image.shape[:2]
    quads, is_quad = labels_of(record)
    main = max(
        range(len(quads)), key=lambda i: float(np.prod(np.ptp(quads[i], axis=0))), default=-1
    )
    exact = bool(is_quad[main]) if main >= 0 else False
    x0, y0, x1, y1 = 0.0, 0.0, float(width), float(height)
    if rng.random() < 0.75:
        if main >= 0:
            low, high = quads[main].min(axis=0), quads[main].max(axis=0)
            need = high - low
            x0 = rng.uniform(0.0, max(0.0, low[0] - 0.2 * need[0]))
            y0 = rng.uniform(0.0, max(0.0, low[1] - 0.2 * need[1]))
            x1 = rng.uniform(min(width, high[0] + 0.2 * need[0]), width)
            y1 = rng.uniform(min(height, high[1] + 0.2 * need[1]), height)
        else:
            x0, y0 = rng.uniform(0, 0.4 * width), rng.uniform(0, 0.4 * height)
            x1, y1 = rng.uniform(0.6 * width, width), rng.uniform(0.6 * height, height)
    ax, ay, bx, by = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))
    part = stretch(image[ay:by, ax:bx], (size, size))
    pixels = part.pixels
    quad = (quads[main] - [ax, ay]) * part.scale_xy if main >= 0 else None
    if (exact or quad is None) and rng.random() < 0.6:
        view = random_view(rng, np.array([size / 2, size / 2]), float(size), 0.8)
        moved = None if quad is None else cv2.perspectiveTransform(quad[None], view)[0]
        if moved is None or (moved.min() >= 0 and moved.max() < size):
            pixels, quad = warp_image(pixels, view, (size, size)), moved
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        if quad is not None:
            quad = mirror_corners(quad, size)
    pixels = photometric(pixels, rng)
    return MainPlate(pixels, None if quad is None else quad / size, exact)


class WholePhotos(Dataset[MainPlate]):
    """Whole photos for the two-head network; a fifth of the draws are photos without a plate."""

    def __init__(self, records: Sequence[PhotoRecord], count: int, size: int, seed: int) -> None:
        self.plates = [r for r in records if r.plates]
        self.empty = [r for r in records if not r.plates]
        self.count, self.size, self.seed = count, size, seed
        self.weights = sampling_weights(self.plates)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> MainPlate:
        rng = np.random.default_rng([self.seed, index])
        if self.empty and rng.random() < 0.2:
            return whole_photo(self.empty[rng.integers(len(self.empty))], self.size, rng)
        record = self.plates[int(rng.choice(len(self.plates), p=self.weights))]
        return whole_photo(record, self.size, rng)


def collate_whole(
    batch: Sequence[MainPlate], presence_only: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stack whole photos; see ``losses.two_head_loss`` for the targets."""
    zero = np.zeros((4, 2))
    quad = np.stack([zero if p.quad is None else p.quad for p in batch]).astype(np.float32)
    use = [0.0 if presence_only and p.quad is not None and not p.exact else 1.0 for p in batch]
    return torch.from_numpy(np.stack([p.pixels for p in batch])), {
        "quad": torch.from_numpy(quad),
        "exact": torch.tensor([p.exact for p in batch]),
        "use": torch.tensor(use),
        "plate": torch.tensor([int(p.quad is not None) for p in batch]),
    }
