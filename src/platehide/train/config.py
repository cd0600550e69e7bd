"""Training configuration: a frozen dataclass read from YAML; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from platehide.errors import UsageError

Task = Literal["two_head", "dense", "refiner"]


@dataclass(frozen=True)
class TrainConfig:
    """What one run does. Lengths in steps; a step is one batch.

    Attributes:
        name: name of the model, also of the run folder.
        task: ``two_head`` (the published network), ``dense`` (several plates a photo) or
            ``refiner`` (corners on the full-resolution crop).
        network: of task ``dense``: ``dense`` (corners), ``box``, ``rotated``, ``matrix`` or
            ``MODULE:CLASS`` (see models/registry.py).
        backbone: ``resnet18`` or ``lite0`` (not for the refiner).
        pretrained: ``hub``, ``none``, or a file (see ``build_backbone``).
        data: folder with the annotated photos.
        input_size: side of a training crop, or of the whole-photo input, in px.
        steps, batch_size, workers, threads, seed: as named; ``threads`` 0 = torch's default.
        lr_backbone, lr_head, weight_decay, warmup_steps, clip_norm: AdamW with cosine decay.
        bf16: autocast to bfloat16 (where the processor has AVX512-BF16/AMX or a GPU is used).
        freeze_early: no gradients in the backbone's first stages.
        freeze_bn: keep the backbone's BatchNorm statistics.
        ema_decay: exponential moving average of the weights, which is what is exported.
        validate_every: steps between checkpoints with a look at ``val`` (0 = only at the end).
        validate_photos: how many ``val`` photos a look takes (0 = all).
        head: coordinate head of the two-head network (see models/two_head.py).
        zero_target: photos without a plate have a zero corner target (published) instead of
            being masked out of the corner loss.
        boxes: what a box-only label teaches the two-head network: ``hull`` or ``presence``.
        coordinate_weight: weight of the corner loss against the cross-entropy.
        distrust_after: step from which confident "false" cells of incompletely labelled photos
            are ignored (dense).
        hard_negatives: JSONL of quads that a detector took for plates on photos without any
            (refiner, dense), or "".
        decoy_share: share of the crops that are drawn round one of ``hard_negatives`` (dense).
        missed_plates: JSONL of plates beside the annotations (configs/labels/), or "".
        looked_through: names of photos with every plate labelled (dense; configs/labels/), or "".
        paste: share of samples with drawn plates, covers or lettering in them (see paste.py).
        inward_weight: how much more a corner counts that falls short of the plate than one that
            lies beyond it (refiner); a short one leaks a rim, a far one is a slightly larger cover.
        pseudo_quads: JSONL of pseudo-quads for box-only labels (from ``train pseudo``), or "".
    """

    name: str
    task: Task
    network: str = "dense"
    backbone: str = "lite0"
    pretrained: str = "hub"
    data: str = "../shared/photos"
    input_size: int = 256
    steps: int = 4000
    batch_size: int = 16
    workers: int = 1
    threads: int = 0
    seed: int = 0
    lr_backbone: float = 4e-4
    lr_head: float = 1.5e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    clip_norm: float = 5.0
    bf16: bool = False
    freeze_early: bool = True
    freeze_bn: bool = False
    ema_decay: float = 0.998
    validate_every: int = 1000
    validate_photos: int = 120
    head: Literal["vote", "pooled"] = "vote"
    zero_target: bool = True
    boxes: Literal["hull", "presence"] = "hull"
    coordinate_weight: float = 5.0
    distrust_after: int = 1500
    inward_weight: float = 1.35
    pseudo_quads: str = ""
    hard_negatives: str = ""
    decoy_share: float = 0.1
    missed_plates: str = ""
    looked_through: str = ""
    paste: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UsageError(f"name: letters, digits, dot, dash, underline, got {self.name!r}")
        if self.task not in ("two_head", "dense", "refiner"):
            raise UsageError(f"task: two_head, dense or refiner, got {self.task!r}")
        if self.boxes not in ("hull", "presence"):
            raise UsageError(f"boxes: hull or presence, got {self.boxes!r}")
        if self.head not in ("vote", "pooled"):
            raise UsageError(f"head: vote or pooled, got {self.head!r}")
        for field in ("paste", "decoy_share"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise UsageError(f"{field} lies in 0…1, got {getattr(self, field)}")
        for field in ("steps", "batch_size", "input_size"):
            if getattr(self, field) < 1:
                raise UsageError(f"{field} must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, as written into the run folder."""
        return dataclasses.asdict(self)


def load_config(path: Path, overrides: dict[str, str] | None = None) -> TrainConfig:
    """Read a YAML file; ``overrides`` (``key=value`` texts) win over it.

    Raises:
        UsageError: the file is missing or broken, a key is unknown, a value has a wrong type.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: expected keys and values")
    values: dict[str, Any] = dict(raw)
    for key, text in (overrides or {}).items():
        values[key] = yaml.safe_load(text)
    return from_dict(values, str(path))


def from_dict(values: dict[str, Any], where: str) -> TrainConfig:
    """Build a config from plain values; ``where`` names the source in errors."""
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UsageError(f"{where}: unknown key {', '.join(unknown)}; known: {', '.join(fields)}")
    for required in ("name", "task"):
        if required not in values:
            raise UsageError(f"{where}: {required} is missing")
    checked: dict[str, Any] = {}
    for key, value in values.items():
        default = fields[key].default
        if isinstance(default, bool):
            fits = isinstance(value, bool)
        elif isinstance(default, int):
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif isinstance(default, float):
            # YAML 1.1 reads 1e-3 as text: accept what float() accepts.
            try:
                value, fits = float(cast(Any, value)), not isinstance(value, bool)
            except (TypeError, ValueError):
                fits = False
        else:
            fits = isinstance(value, str)
        if not fits:
            raise UsageError(f"{where}: {key}: unexpected {value!r}")
        checked[key] = value
    return TrainConfig(**checked)
