"""A run's network as weights that can be measured at once: ``evaluate --model RUN``,
``compare RUN…``. Exported as it is: nothing calibrated, no refiner, covered from one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.files import write_whole
from platehide.model_spec import Thresholds
from platehide.train.exporter import export, load_checkpoint
from platehide.train.release import CANDIDATE, COARSE_SIZE, LEAST_PX
from platehide.train.restore import main_pictures

LONG_SIDE = 512
"""What a dense network is shown when serving; it was trained on crops."""


def export_run(run: Path, records: Sequence[PhotoRecord], out: Path) -> Path:
    """Write ``out/NAME/stepN`` from a run's best checkpoint; returns that folder.

    Raises:
        UsageError: no checkpoint, or a refiner's.
        WeightsError: ONNX and torch disagree on ``records``.
    """
    checkpoint = load_checkpoint(run)
    config = checkpoint.config
    if config.task == "refiner":
        raise UsageError(
            f"{run}: a refiner finds no plates by itself; platehide export RUN --refiner {run}"
        )
    folder = out / config.name / f"step{checkpoint.step}"
    spec = export(
        checkpoint,
        folder,
        name=config.name,
        version=folder.name,
        pictures=main_pictures(config.input_size, records),
        thresholds=Thresholds(hide=0.5, candidate=CANDIDATE),
        notes={"input_size": LONG_SIDE} if config.task == "dense" else {},
    )
    if spec.kind == "dense":
        spec = replace(spec, coarse_size=COARSE_SIZE, least_px=LEAST_PX)
        write_whole(folder / "spec.json", spec.to_json().encode())
    return folder
