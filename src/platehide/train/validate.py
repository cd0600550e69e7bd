"""Looks at ``val`` during training: model selection only, never gradients.

``leak`` is the share of plates (from 32 px) of which less than 95 % would be covered if the answer
were painted with the default margin: a training is done when it no longer falls.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from platehide.cover.shape import with_margin
from platehide.cover.template import CoverOptions
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.evaluate.metrics import LEAK_COVERAGE, label_iou, region_of
from platehide.geometry import coverage
from platehide.postprocess import sigmoid, suppress, tidy_quad, top_candidates
from platehide.preprocess import fit_long_side, stretch
from platehide.train.config import TrainConfig
from platehide.train.loop import Validator
from platehide.train.refiner_data import RefinerCrops, collate_refiner
from platehide.train.samples import read_rgb
from platehide.train.tasks import CROPS_PER_PHOTO
from platehide.types import FloatArray

VALIDATION_LONG_SIDE = 512


def validator_for(config: TrainConfig, data: Sequence[Path] | None) -> Validator | None:
    """The look at ``val`` that fits the task; ``None`` where it is switched off or there is no
    ``val`` photo.
    """
    if config.validate_every == 0:
        return None
    roots = list(data) if data else [Path(config.data)]
    records = load_records(roots, "val")
    if config.validate_photos:
        picker = random.Random(0)
        picker.shuffle(records)
        records = records[: config.validate_photos]
    if not records:
        return None
    looks: dict[str, Any] = {"dense": _dense, "two_head": _two_head, "refiner": _refiner}
    look = looks[config.task]

    def validate(model: nn.Module, config: TrainConfig) -> dict[str, float]:
        with torch.inference_mode():
            result: dict[str, float] = look(model, config, records)
        return {k: round(float(v), 5) for k, v in result.items()}

    return validate


def _leaks(quads: Sequence[FloatArray], region: FloatArray) -> bool:
    """Whether covers over ``quads`` ``(4, 2)`` leave too much of ``region`` ``(n, 2)`` bare."""
    covers = [with_margin(quad, CoverOptions().margin) for quad in quads]
    return coverage(region, covers) < LEAK_COVERAGE


def _dense(
    model: nn.Module, config: TrainConfig, records: Sequence[PhotoRecord]
) -> dict[str, float]:
    del config
    found = plates = leaks = 0
    overlap = 0.0
    false = empty = 0
    for record in records:
        image = fit_long_side(read_rgb(record), VALIDATION_LONG_SIDE)
        logits, quads = model(torch.from_numpy(image.pixels[None]))
        scores, cells = top_candidates(logits[0].numpy(), quads[0].numpy(), least=0.3, most=200)
        kept = [cells[g[0]] for g in suppress(scores, cells, iou_threshold=0.3)]
        guesses = [tidy_quad(image.to_photo(q), record.width, record.height) for q in kept]
        usable = [q for q in guesses if q is not None]
        wide = [p for p in record.plates if p.width_px >= 32]
        best = [max((label_iou(q, p) for q in usable), default=0.0) for p in wide]
        found += sum(b >= 0.5 for b in best)
        overlap += sum(best)
        plates += len(wide)
        leaks += sum(_leaks(usable, region_of(plate)) for plate in wide)
        if not record.plates:
            empty += 1
            false += bool(usable)
    recall, iou = found / max(plates, 1), overlap / max(plates, 1)
    share = false / max(empty, 1)
    score = recall + iou - 0.2 * share
    leak = leaks / max(plates, 1)
    return {"recall": recall, "iou": iou, "false": share, "leak": leak, "score": score}


def _two_head(
    model: nn.Module, config: TrainConfig, records: Sequence[PhotoRecord]
) -> dict[str, float]:
    found = plates = false = empty = 0
    overlap = 0.0
    for record in records:
        size = (config.input_size, config.input_size)
        image = stretch(read_rgb(record), size)
        corners, presence = model(torch.from_numpy(image.pixels[None]))
        sure = float(sigmoid((presence[0, 1] - presence[0, 0]).numpy())) >= 0.5
        if not record.plates:
            empty += 1
            false += sure
            continue
        quad = corners[0].numpy().astype(np.float64) * [record.width, record.height]
        best = max(label_iou(quad, p) for p in record.plates) if sure else 0.0
        plates += 1
        found += best >= 0.5
        overlap += best
    recall, iou = found / max(plates, 1), overlap / max(plates, 1)
    share = false / max(empty, 1)
    return {"recall": recall, "iou": iou, "false": share, "score": recall + iou - 0.2 * share}


def _refiner(
    model: nn.Module, config: TrainConfig, records: Sequence[PhotoRecord]
) -> dict[str, float]:
    crops = RefinerCrops(records, 60, CROPS_PER_PHOTO, config.seed + 1)
    errors: list[float] = []
    right = total = leaks = 0
    for index in range(len(crops)):
        images, targets = collate_refiner([crops[index]])
        corners, logit = model(images)
        kind = targets["kind"]
        right += int(((logit > 0) == (kind > 0)).sum())
        total += len(kind)
        exact = kind == 1
        # The crop is stretched to one shape: in plate heights, x counts the plate's aspect.
        target = targets["target"][exact]
        width = (target[:, 1] - target[:, 0]).norm(dim=-1).clamp(min=1.0)
        height = (target[:, 3] - target[:, 0]).norm(dim=-1).clamp(min=1.0)
        unit = torch.stack([targets["aspect"][exact] / width, 1.0 / height], dim=1)
        distance = ((corners[exact] - target) * unit[:, None]).norm(dim=-1).mean(-1)
        errors.extend(distance.tolist())
        in_heights = 100.0 * unit[:, None].numpy().astype(np.float64)
        answers, truths = corners[exact].numpy() * in_heights, target.numpy() * in_heights
        leaks += sum(_leaks([a], t) for a, t in zip(answers, truths, strict=True))
    error = float(np.median(errors)) if errors else 1.0
    accuracy = right / max(total, 1)
    leak = leaks / max(len(errors), 1)
    score = accuracy - error
    return {"corner_error": error, "plate_accuracy": accuracy, "leak": leak, "score": score}
