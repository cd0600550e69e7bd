"""Released weights back in torch: to train on, and to compare ONNX with torch on real photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from platehide.errors import UsageError, WeightsError
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.gate import GRAPH_LIMIT, close_enough
from platehide.preprocess import fit_long_side, rectify, stretch
from platehide.train.config import from_dict
from platehide.train.exporter import Checkpoint, load_state, parity, state_digest
from platehide.train.quantise import INT8_FILE, gap
from platehide.train.samples import read_rgb
from platehide.train.tasks import build_task
from platehide.types import ImageArray
from platehide.weights import Weights


@dataclass(frozen=True)
class Restored:
    """The networks of a folder of weights as torch modules in eval mode."""

    main: Checkpoint
    refiner: Checkpoint | None


def _network(weights: Weights, file: str, note: str) -> Checkpoint:
    where = f"{weights.spec.model}/{file}"
    values = weights.spec.notes.get(note)
    if not isinstance(values, dict):
        raise WeightsError(
            f"{where}: carries no state to train on: its spec does not say how it was built"
            f" (notes.{note})"
        )
    try:
        config = from_dict(values | {"pretrained": "none"}, where)
        model = build_task(config).model
    except UsageError as error:
        raise WeightsError(f"{where}: its notes do not fit this version: {error}") from error
    load_state(model, weights.read(file), where)
    return Checkpoint(config, model.eval(), int(weights.spec.notes.get("steps", 0)))


def restore(weights: Weights) -> Restored:
    """Build the networks that a folder was exported from and fill in what the files carry.

    Raises:
        WeightsError: a file is damaged, or was exported without the state to train on.
    """
    second = weights.spec.refiner
    return Restored(
        _network(weights, "model.onnx", "config"),
        None if second is None else _network(weights, second.file, "refiner_config"),
    )


def main_pictures(size: int, records: Sequence[PhotoRecord], count: int = 4) -> ImageArray:
    """Real inputs of a main network, uint8 ``(n, size, size, 3)``."""
    few = [r for r in records if r.plates][:count] or list(records)[:count]
    return np.stack([stretch(read_rgb(r), (size, size)).pixels for r in few])


def whole_pictures(
    long_side: int, records: Sequence[PhotoRecord], count: int = 12
) -> list[ImageArray]:
    """Photos with plates as a dense network sees them when serving, uint8 ``(h, w, 3)``."""
    few = [r for r in records if r.plates][:count]
    return [fit_long_side(read_rgb(r), long_side).pixels for r in few]


def refiner_pictures(
    size_wh: tuple[int, int], margin: float, records: Sequence[PhotoRecord], count: int = 8
) -> ImageArray:
    """Real inputs of a refiner, uint8 ``(n, h, w, 3)``: the first labelled plates."""
    crops: list[ImageArray] = []
    for record in records:
        for plate in record.plates:
            if len(crops) < count and plate.width_px >= 8:
                crops.append(rectify(read_rgb(record), plate.polygon, size_wh, margin)[0])
        if len(crops) >= count:
            break
    return np.stack(crops) if crops else np.zeros((0, size_wh[1], size_wh[0], 3), np.uint8)


def check_against_torch(weights: Weights, records: Sequence[PhotoRecord]) -> list[str]:
    """Reasons why the ONNX files are not the networks that were trained, one sentence each.

    The state that a file carries is compared with the digest taken at export, then the network is
    rebuilt in torch and run beside ONNX Runtime on real photos.
    """
    digests = weights.spec.notes.get("state_sha256")
    if not isinstance(digests, dict):
        # Of weights that were exported before (0.1.0) and of those that hide something alike.
        return [f"{weights.spec.model}: carries no digest of its state to compare with torch"]
    reasons = []
    try:
        restored = restore(weights)
        for file in weights.spec.sha256:
            data = weights.read(file)
            if file == INT8_FILE:
                views = whole_pictures(weights.spec.input_size, records)
                found = gap(weights.read("model.onnx"), data, views)
                if not close_enough(asdict(found)):
                    reasons.append(f"{file}: is not model.onnx in 8 bits: {found}")
                continue
            if state_digest(data) != digests.get(file):
                reasons.append(f"{file}: its weights are not those that were exported")
                continue
            part, second = restored.main, weights.spec.refiner
            pictures = main_pictures(part.config.input_size, records)
            if second is not None and file == second.file:
                assert restored.refiner is not None
                part = restored.refiner
                pictures = refiner_pictures(second.size_wh, second.margin, records)
            if not len(pictures):
                reasons.append(f"{file}: no photo to compare ONNX with torch on")
                continue
            worst = parity(part, data, pictures).worst
            if not worst <= GRAPH_LIMIT:
                reasons.append(
                    f"{file}: ONNX differs from torch by {worst:.2g} on {len(pictures)} real"
                    f" pictures, over {GRAPH_LIMIT:g}"
                )
    except WeightsError as error:
        reasons.append(str(error))
    return reasons
