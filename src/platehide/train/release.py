"""Make released weights out of networks: export, calibrate on ``val``, choose thresholds, write
spec, model card and reliability plot. A folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from platehide.detector import OnnxDetector
from platehide.errors import UsageError, WeightsError
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.evaluate.gate import close_enough
from platehide.files import write_whole
from platehide.model_spec import ModelSpec, RefinerSpec, Thresholds
from platehide.postprocess import sigmoid
from platehide.train.calibrate import (
    choose_threshold,
    fit_logistic,
    gather,
    reliability,
    reliability_svg,
)
from platehide.train.card import model_card
from platehide.train.checkpoints import run_info
from platehide.train.exporter import Checkpoint, export, load_checkpoint
from platehide.train.models.refiner import REFINER_MARGIN, REFINER_SIZE_WH
from platehide.train.quantise import INT8_FILE, calibration_pictures, gap, quantise
from platehide.train.restore import main_pictures, refiner_pictures, whole_pictures
from platehide.weights import Weights

COARSE_SIZE = 128
"""Long side of the second look for plates that nearly fill the frame."""

CANDIDATE = 0.35
"""Cells below this raw probability are not looked at: true plates lie far above (the card's
"never proposed" counts what that costs), and every candidate costs a refiner pass. What ``val``
shows is not all there is: one half instead of 0.4 cost nothing there, and three plates of 590 on
``test``; and a network that has seen many decoys is less sure of a plate unlike those it knows."""

LEAST_PX = 11.0
"""Narrower plates cannot be read (a letter has 1 px). On ``val`` none that is labelled is lost, and
covers on plate-free crops fall by a quarter: half of these were plates that nobody would label."""


@dataclass(frozen=True)
class Parts:
    """What a folder of weights is made of: networks, and what they were trained on."""

    main: Checkpoint
    refiner: Checkpoint | None
    data_hash: str
    git_commit: str


@dataclass(frozen=True)
class Serving:
    """How the networks are used: what does not come out of training.

    Attributes:
        input_size: long side when serving (dense); ``None`` = the training config's.
        coarse_size, least_px: see ``ModelSpec``. passes, mirrored: see ``RefinerSpec``.
        margin_of_doubt: width of the ``unsure`` band below the threshold, 0 = none.
        eight_bits: run the dense network in 8 bits (see quantise.py).
    """

    input_size: int | None = None
    coarse_size: int = COARSE_SIZE
    least_px: float = LEAST_PX
    candidate: float = CANDIDATE
    passes: int = 2
    mirrored: bool = True
    margin_of_doubt: float = 0.0
    eight_bits: bool = False


def parts_of(run_folder: Path, refiner: Path | None) -> Parts:
    """The best checkpoints of run folders (or checkpoint files).

    Raises:
        UsageError: there is none, or ``refiner`` is another kind of network.
    """
    info = run_info(run_folder)
    second = None if refiner is None else load_checkpoint(refiner)
    if second is not None and second.config.task != "refiner":
        raise UsageError(f"{refiner}: not a refiner's run, its task is {second.config.task}")
    return Parts(
        load_checkpoint(run_folder),
        second,
        str(info.get("data_hash", "")),
        str(info.get("git_commit", "")),
    )


def release(
    parts: Parts,
    *,
    out: Path,
    data: Sequence[Path],
    name: str,
    version: str,
    serving: Serving,
    notes: dict[str, object] | None = None,
    quiet: bool = False,
    trained_on: Sequence[Path] = (),
) -> tuple[ModelSpec, Path]:
    """Export and calibrate; returns the spec and the folder ``out/name/version``.

    Args:
        data: photos to calibrate on (split ``val``).
        trained_on: photos whose ``train`` split the card lists (default: ``data``).

    A folder that is there already is replaced as a whole: figures of other weights
    (evaluation.json) do not survive in it.

    Raises:
        UsageError: no ``val`` photo with a plate to calibrate on; a name or version that is no
            folder's.
        WeightsError: ONNX and torch disagree, or a file is over 25 MB.
    """
    for what, text in (("--name", name), ("--version", version)):
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", text):
            raise UsageError(f"{what} {text!r}: letters, digits, '.', '-' and '_'")
    validation = load_records(data, "val")
    if not any(r.plates for r in validation):
        raise UsageError(f"{', '.join(map(str, data))}: no photo with a plate in split val")
    folder = out / name / version
    part = folder.with_name(f".{version}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        learned = load_records(trained_on or data, "train")
        spec = _write(parts, part, name, version, validation, learned, serving, notes or {}, quiet)
        card = model_card(spec, learned)
        write_whole(part / "MODEL_CARD.md", card.encode())
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return spec, folder


def _write(
    parts: Parts,
    folder: Path,
    name: str,
    version: str,
    validation: Sequence[PhotoRecord],
    learned: Sequence[PhotoRecord],
    serving: Serving,
    more: dict[str, object],
    quiet: bool,
) -> ModelSpec:
    """Networks, calibrated spec and reliability plot into ``folder``."""
    config = parts.main.config
    notes: dict[str, object] = {"steps": parts.main.step, "config": config.to_dict()} | more
    if serving.input_size is not None:
        notes["input_size"] = serving.input_size
    second = None
    if parts.refiner is not None:
        crops = refiner_pictures(REFINER_SIZE_WH, REFINER_MARGIN, validation)
        use = RefinerSpec(
            "refiner.onnx", REFINER_SIZE_WH, REFINER_MARGIN, serving.passes, True, serving.mirrored
        )
        second = (parts.refiner, crops, use)
    spec = export(
        parts.main,
        folder,
        name=name,
        version=version,
        pictures=main_pictures(config.input_size, validation),
        thresholds=Thresholds(hide=0.5, candidate=serving.candidate),
        refiner=second,
        data_hash=parts.data_hash,
        git_commit=parts.git_commit,
        notes=notes,
    )
    if spec.kind == "dense":
        spec = replace(spec, coarse_size=serving.coarse_size, least_px=serving.least_px)
        if serving.eight_bits:
            spec = _in_eight_bits(spec, folder, learned, validation)
    evidence = gather(OnnxDetector(Weights(folder, spec)), validation, quiet=quiet)
    calibration = fit_logistic(evidence.features, evidence.is_plate)
    if parts.refiner is None:
        calibration[1] = 0.0
    confidence = sigmoid(evidence.features @ calibration)
    hide = choose_threshold(confidence, evidence.is_plate, evidence.wide)
    doubt = serving.margin_of_doubt
    table = reliability(confidence, evidence)
    spec = replace(
        spec,
        calibration=tuple(round(float(v), 6) for v in calibration),
        thresholds=Thresholds(
            hide=round(hide, 4),
            unsure=round(max(0.02, hide - doubt), 4) if doubt else 1.0,
            candidate=serving.candidate,
        ),
        notes=spec.notes | {"calibration": table},
    )
    write_whole(folder / "spec.json", spec.to_json().encode())
    picture = reliability_svg(table, spec.model, spec.thresholds.hide)
    write_whole(folder / "reliability.svg", picture.encode())
    return spec


def _in_eight_bits(
    spec: ModelSpec,
    folder: Path,
    learned: Sequence[PhotoRecord],
    validation: Sequence[PhotoRecord],
) -> ModelSpec:
    """Put the network in 8 bits beside ``model.onnx`` and let the spec run it."""
    original = (folder / "model.onnx").read_bytes()
    data = quantise(original, calibration_pictures(learned, spec.input_size, spec.coarse_size))
    found = gap(original, data, whole_pictures(spec.input_size, validation))
    measured = asdict(found)
    if not close_enough(measured):
        raise WeightsError(f"{INT8_FILE}: too far from the float network: {found}")
    write_whole(folder / INT8_FILE, data)
    return replace(
        spec,
        graph=INT8_FILE,
        sha256=spec.sha256 | {INT8_FILE: hashlib.sha256(data).hexdigest()},
        notes=spec.notes | {"parity": spec.notes["parity"] | {INT8_FILE: measured}},
    )
