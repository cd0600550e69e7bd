"""Go on from released weights with new labels: ``platehide train --from MODEL --data DIR``.

Stages, each in its own folder of the run, so that an interrupted run goes on where it was:
``main`` and ``refiner`` (trainings), then export, calibration and evaluation into
``weights/NAME/VERSION``, which appears whole or not at all. The gate is the caller's.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, load_records, require_photos
from platehide.evaluate.report import write_text
from platehide.evaluate.run import judge_model
from platehide.train.checkpoints import save_atomic
from platehide.train.config import TrainConfig, from_dict
from platehide.train.exporter import Checkpoint, load_checkpoint
from platehide.train.gallery import write_report
from platehide.train.loop import train
from platehide.train.release import Parts, Serving, release
from platehide.train.restore import restore
from platehide.train.validate import validator_for
from platehide.weights import Weights

PASSES_OVER_DATA = 4.0
LEAST_STEPS, MOST_STEPS = 100, 2000
GENTLER = 0.25
"""Share of the first training's rates: what was learnt there is to stay."""
REFINER_PREFIX = "refiner."


@dataclass(frozen=True)
class Order:
    """What was asked for.

    Attributes:
        data: photos to train on (split ``train``) and to look at while training (``val``).
        judged: photos to calibrate and evaluate on (``val``, and ``test`` where there is one).
        run: run folder. version: of the new weights.
        overrides: config keys as texts; with ``refiner.`` before them they are the refiner's.
    """

    data: tuple[Path, ...]
    judged: tuple[Path, ...]
    run: Path
    version: str
    overrides: dict[str, str]
    resume: bool = False
    crops: int = 1000
    quiet: bool = False


def next_version(version: str, taken: Sequence[str]) -> str:
    """The version with its last number raised until it is not ``taken``."""
    head, dot, last = version.rpartition(".")
    number = int(last) if last.isdigit() else 0
    if not last.isdigit():
        head, dot = version, "."
    while True:
        number += 1
        candidate = f"{head}{dot}{number}"
        if candidate not in taken:
            return candidate


def gentle(config: TrainConfig, photos: int, data: Path) -> TrainConfig:
    """A training's config for going on with ``photos`` new photos."""
    wanted = round(PASSES_OVER_DATA * photos / config.batch_size)
    steps = min(max(wanted, LEAST_STEPS), MOST_STEPS)
    return replace(
        config,
        pretrained="none",
        data=str(data),
        steps=steps,
        warmup_steps=max(1, steps // 10),
        validate_every=max(1, steps // 4),
        lr_backbone=GENTLER * config.lr_backbone,
        lr_head=GENTLER * config.lr_head,
        freeze_early=True,
        freeze_bn=True,
        distrust_after=0,
        seed=config.seed + 1,
        # These belong to the first training's photos.
        pseudo_quads="",
        hard_negatives="",
        missed_plates="",
        looked_through="",
    )


def overridden(config: TrainConfig, overrides: dict[str, str]) -> TrainConfig:
    """The config with texts in place of some keys.

    Raises:
        UsageError: an unknown key, or a value of another type.
    """
    values: dict[str, Any] = config.to_dict()
    fixed = {"task", "backbone", "head"} & set(overrides)
    if fixed:
        raise UsageError(f"--set {', '.join(sorted(fixed))}: released weights stay what they are")
    return from_dict(values | {k: yaml.safe_load(v) for k, v in overrides.items()}, "--set")


def _split_overrides(overrides: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    main = {k: v for k, v in overrides.items() if not k.startswith(REFINER_PREFIX)}
    second = {
        k.removeprefix(REFINER_PREFIX): v
        for k, v in overrides.items()
        if k.startswith(REFINER_PREFIX)
    }
    return main, second


def _records(roots: Sequence[Path], split: str, what: str) -> list[PhotoRecord]:
    found = load_records(roots, split)
    where = ", ".join(map(str, roots))
    if not any(r.plates for r in found):
        raise UsageError(f"{where}: no photo with a plate in split {split}, {what}")
    require_photos(found)
    return found


def _stage(
    name: str, start: Checkpoint, config: TrainConfig, order: Order
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train one network from its released state; a finished stage is not trained again."""
    folder = order.run / name
    if not (folder / "summary.json").is_file() or not order.resume:
        begin = order.run / f"{name}-start.pt"
        save_atomic({"model": dict(start.model.state_dict())}, begin)
        train(
            config,
            folder,
            resume=order.resume and (folder / "config.yaml").is_file(),
            initial=begin,
            data=list(order.data),
            quiet=order.quiet,
            validator=validator_for(config, order.data),
        )
        begin.unlink(missing_ok=True)
        write_report(folder, order.data, quiet=order.quiet)
    info: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return load_checkpoint(folder), info


def finetune(base: Weights, order: Order) -> Path:
    """Train, export, calibrate and evaluate; returns the new folder of weights.

    Raises:
        UsageError: a split is empty, a photo is missing, the run folder is taken.
        WeightsError: the weights carry no state to go on from.
    """
    spec = base.spec
    if not re.fullmatch(r"\w[\w.-]*", order.version):
        raise UsageError(f"--version {order.version!r}: letters, digits, '.', '-' and '_'")
    photos = _records(order.data, "train", "nothing to train on")
    _records(order.judged, "val", "so nothing to calibrate on and nothing for the gate to measure")
    if order.run.exists() and any(order.run.iterdir()) and not order.resume:
        raise UsageError(f"{order.run}: exists already; --resume goes on, or choose another --run")
    start = restore(base)
    first, second = _split_overrides(order.overrides)
    main_config = overridden(gentle(start.main.config, len(photos), order.data[0]), first)
    refiner_config = None
    if start.refiner is not None:
        plates = [r for r in photos if r.plates]
        gentler = gentle(start.refiner.config, len(plates), order.data[0])
        refiner_config = overridden(gentler, second)
    elif second:
        raise UsageError(f"--set {REFINER_PREFIX}…: {spec.model} has no refiner")
    order.run.mkdir(parents=True, exist_ok=True)
    main, info = _stage("main", start.main, main_config, order)
    refiner = None
    if start.refiner is not None and refiner_config is not None:
        refiner, _ = _stage("refiner", start.refiner, refiner_config, order)
    folder = order.run / "weights" / spec.name / order.version
    if order.resume and (folder / "evaluation.json").is_file():
        return folder
    return _write(base, Parts(main, refiner, info["data_hash"], info["git_commit"]), order, folder)


def _write(base: Weights, parts: Parts, order: Order, folder: Path) -> Path:
    """The candidate's folder, moved into place when everything is in it."""
    spec = base.spec
    t = spec.thresholds
    serving = Serving(
        input_size=spec.input_size,
        coarse_size=spec.coarse_size,
        least_px=spec.least_px,
        candidate=t.candidate,
        passes=2 if spec.refiner is None else spec.refiner.passes,
        mirrored=spec.refiner is not None and spec.refiner.mirrored,
        margin_of_doubt=max(0.0, t.hide - t.unsure),
        eight_bits=spec.graph != "model.onnx",
    )
    scratch = order.run / ".part"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _, made = release(
            parts,
            out=scratch,
            data=order.judged,
            name=spec.name,
            version=order.version,
            serving=serving,
            notes={"from": spec.model, "from_sha256": spec.sha256},
            quiet=order.quiet,
            trained_on=order.data,
        )
        figures = {}
        for split in ("val", "test"):
            records = load_records(order.judged, split)
            if records:
                judged = judge_model(
                    str(made), records, split, crops=order.crops, quiet=order.quiet
                )
                figures[split] = judged.result
        write_text(made / "evaluation.json", json.dumps(figures, indent=1) + "\n")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def install(folder: Path, root: Path) -> Path:
    """Copy a folder of weights to ``root/NAME/VERSION`` and make it the default.

    Raises:
        UsageError: the version is there already.
    """
    name, version = folder.parent.name, folder.name
    target = root / name / version
    if target.exists():
        raise UsageError(f"{target}: there already; choose another --version")
    part = target.with_name(f".{version}.part")
    shutil.rmtree(part, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, part)
    part.replace(target)
    write_text(root / "CURRENT", f"{name}@{version}\n")
    return target
