"""One evaluation from photos to its JSON and HTML: of a model, a file, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from platehide.detector import load_detector
from platehide.evaluate.benchmark import Reference
from platehide.evaluate.crops import plan_crops, run_crops, summarise_crops
from platehide.evaluate.dataset import PhotoRecord, data_hash
from platehide.evaluate.memory import largest, peak_mib
from platehide.evaluate.metrics import PhotoOutcome, Prediction
from platehide.evaluate.predictions import (
    by_record,
    judge_predictions,
    load_function,
    read_predictions,
    to_prediction,
)
from platehide.evaluate.report import html_report, overlay, worst_first
from platehide.evaluate.runner import Predictor, detector_predictor, report, run_records
from platehide.formats import open_photo
from platehide.pixels import PixelSource
from platehide.types import ImageArray

WORST = 40


@dataclass(frozen=True)
class Judged:
    """An evaluation: ``result`` is the JSON, ``outcomes`` what it was counted from, ``again`` gives
    one photo's prediction once more (for pictures)."""

    result: dict[str, Any]
    outcomes: Sequence[PhotoOutcome]
    again: Callable[[PhotoRecord, PixelSource], Prediction]

    def gallery(
        self, records: Sequence[PhotoRecord], count: int = WORST
    ) -> list[tuple[str, ImageArray]]:
        """Captions and overlays of the worst photos."""
        by_name = {r.name: r for r in records}
        pictures = []
        for outcome in worst_first(self.outcomes, count):
            record = by_name[outcome.photo]
            frame = open_photo(record.path.read_bytes()).frames[0]
            width, height = frame.size_wh
            prediction = self.again(record, frame)
            whole = frame.region((0, 0, width, height))
            picture = overlay(whole, record, list(prediction.quads), prediction.painted)
            pictures.append((caption(outcome), picture))
        return pictures

    def html(self, records: Sequence[PhotoRecord]) -> str:
        """The self-contained report."""
        title = f"{self.result['model']} on {self.result['split']}"
        return html_report(self.result, title, self.gallery(records))


def caption(outcome: PhotoOutcome) -> str:
    """What a picture of the gallery says of its photo."""
    covered = ", ".join(f"{p.covered:.2f}" for p in outcome.plates)
    if not covered:
        covered = f"no plate, {outcome.painted} painted"
    return (
        f"{outcome.photo}: coverage {covered}" if outcome.plates else f"{outcome.photo}: {covered}"
    )


def _result(
    model: str,
    split: str,
    records: Sequence[PhotoRecord],
    conf: float | None,
    outcomes: Sequence[PhotoOutcome],
    predict: Predictor | None = None,
    crops: int = 0,
    quiet: bool = True,
) -> dict[str, Any]:
    """The JSON; ``all.false_covers_crops`` is there only where crops were looked at."""
    result: dict[str, Any] = {
        "model": model,
        "split": split,
        "data_hash": data_hash(records),
        "conf": conf,
    } | report(outcomes)
    if predict is not None and crops > 0:
        seen = run_crops(plan_crops(records, crops), predict, quiet=quiet)
        result["crops"] = summarise_crops(seen)
        result["all"]["false_covers_crops"] = result["crops"]["false_covers"]
    return result


def judge_model(
    model: str | None,
    records: Sequence[PhotoRecord],
    split: str,
    *,
    conf: float | None = None,
    crops: int = 0,
    quiet: bool = False,
) -> Judged:
    """Evaluate released weights (``None`` = CURRENT, else a name or a folder); times also as ratios
    to the reference network in the same run, memory in a process of its own."""
    detector = load_detector(model)
    predict = detector_predictor(detector, conf)
    reference = Reference()
    units = [reference() for _ in range(10)]
    outcomes = run_records(records, predict, quiet=quiet)
    unit = float(np.median(units + [reference() for _ in range(10)]))
    hide = detector.spec.thresholds.hide if conf is None else conf
    result = _result(detector.model, split, records, hide, outcomes, predict, crops, quiet)
    result["reference_ms"] = unit
    for q in ("p50", "p95", "p99"):
        ms = result["all"][f"ms_{q}"]
        result["all"][f"ratio_{q}"] = None if ms is None else ms / unit
    result["all"]["memory_mib"] = peak_mib(model or "CURRENT", largest(records))
    return Judged(result, outcomes, lambda _, frame: predict(frame))


def judge_file(
    path: Path,
    records: Sequence[PhotoRecord],
    split: str,
    *,
    name: str | None = None,
    conf: float | None = None,
    grow: float = 0.0,
) -> Judged:
    """Evaluate a file of predictions. There are no crops: nothing can be run on them."""
    answers = read_predictions(path)
    least = conf or 0.0
    outcomes = judge_predictions(records, answers, str(path), conf=least, grow=grow)
    mine = by_record(answers, records, str(path))
    label = (name or path.stem) + (f" +{100 * grow:.0f} %" if grow else "")
    return Judged(
        _result(label, split, records, conf, outcomes),
        outcomes,
        lambda r, _: to_prediction(mine[r.name], (r.width, r.height), conf=least, grow=grow),
    )


def judge_function(
    function: str,
    records: Sequence[PhotoRecord],
    split: str,
    *,
    name: str | None = None,
    conf: float | None = None,
    grow: float = 0.0,
    crops: int = 0,
    quiet: bool = False,
) -> Judged:
    """Evaluate a Python function ``module:function``."""
    predict = load_function(function, conf=conf or 0.0, grow=grow)
    outcomes = run_records(records, predict, quiet=quiet)
    label = (name or function) + (f" +{100 * grow:.0f} %" if grow else "")
    result = _result(label, split, records, conf, outcomes, predict, crops, quiet)
    return Judged(result, outcomes, lambda _, frame: predict(frame))
