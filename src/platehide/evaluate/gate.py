"""The release gate: candidate and baseline measured in the same run; every reason to refuse is
one sentence. A missing figure refuses; nothing is skipped silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from platehide.detector import OnnxDetector
from platehide.errors import PlateHideError, WeightsError
from platehide.evaluate.benchmark import Reference
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.runner import detector_predictor, report, run_records
from platehide.model_spec import read_spec
from platehide.weights import LFS_MARK, Weights

GRAPH_LIMIT = 1e-3
"""Worst difference of the float32 graph from torch: the same arithmetic, so only rounding."""
STORAGE_LIMIT = 4e-3
"""Mean difference that float16 storage of (BatchNorm-folded) weights may cost."""
SLOWER_LIMIT = 1.15
"""A candidate may take this much longer (p95 over the reference) than the baseline."""

JUDGED: tuple[tuple[str, bool], ...] = (
    # (metric, larger is better)
    ("recall50", True),
    ("recall50_ge32", True),
    ("leak_ge32", False),
    ("false_covers", False),
    ("unsure", False),
)


@dataclass(frozen=True)
class Floors:
    """Absolute limits, only ever made stricter: ``least`` and ``most`` by metric name."""

    least: dict[str, float]
    most: dict[str, float]
    time_ratio_p95: float


@dataclass(frozen=True)
class Measured:
    """One model's figures of this run."""

    model: str
    metrics: dict[str, Any]
    ratio_p95: float


def read_floors(path: Path) -> Floors:
    """Read ``weights/floors.json``.

    Raises:
        WeightsError: missing or broken.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Floors(dict(raw["least"]), dict(raw["most"]), float(raw["time_ratio_p95"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from error


def check_files(folder: Path) -> list[str]:
    """Reasons against the folder itself: files, digests, card, evaluation, recorded parity."""
    reasons = []
    try:
        spec = read_spec(folder / "spec.json")
        weights = Weights(folder, spec)
        for file in spec.sha256:
            weights.read(file)
        parity = spec.notes.get("parity", {})
        for file in spec.sha256:
            found = parity.get(file)
            if found is None:
                reasons.append(f"{file}: its difference from torch was not recorded at export")
            elif not (found["graph"] <= GRAPH_LIMIT and found["storage"] <= STORAGE_LIMIT):
                reasons.append(f"{file}: differs from torch by {found}")
    except PlateHideError as error:
        return [str(error)]
    for file in ("MODEL_CARD.md", "evaluation.json"):
        path = folder / file
        if not path.is_file():
            reasons.append(f"{path}: missing")
        elif path.read_bytes().startswith(LFS_MARK):
            reasons.append(f"{path}: a Git LFS pointer")
    return reasons


def measure(detector: OnnxDetector, records: Sequence[PhotoRecord]) -> Measured:
    """Metrics over the records, and the p95 time as a ratio to the reference in the same run."""
    reference = Reference()
    before = [reference() for _ in range(10)]
    outcomes = run_records(records, detector_predictor(detector))
    unit = float(np.median(before + [reference() for _ in range(10)]))
    result = report(outcomes)
    p95 = result["all"]["ms_p95"]
    ratio = math.nan if p95 is None else p95 / unit
    return Measured(detector.model, result["all"], ratio)


def _value(metric: Any) -> float | None:
    if isinstance(metric, dict):
        return metric.get("value")
    return metric if isinstance(metric, int | float) else None


def judge(candidate: Measured, baseline: Measured | None, floors: Floors) -> list[str]:
    """Reasons to refuse, empty when the candidate may land."""
    reasons = []
    for name, least in floors.least.items():
        value = _value(candidate.metrics.get(name))
        if value is None or not math.isfinite(value):
            reasons.append(f"{name} was not measured")
        elif value < least:
            reasons.append(f"{name} is {value:.4f}, below its floor {least:.4f}")
    for name, most in floors.most.items():
        value = _value(candidate.metrics.get(name))
        if value is None or not math.isfinite(value):
            reasons.append(f"{name} was not measured")
        elif value > most:
            reasons.append(f"{name} is {value:.4f}, above its limit {most:.4f}")
    if not math.isfinite(candidate.ratio_p95):
        reasons.append("the time was not measured")
    elif candidate.ratio_p95 > floors.time_ratio_p95:
        reasons.append(
            f"p95 takes {candidate.ratio_p95:.2f} × the reference, over {floors.time_ratio_p95:.2f}"
        )
    if baseline is None:
        return reasons
    for name, larger in JUDGED:
        ours, theirs = candidate.metrics.get(name), baseline.metrics.get(name)
        if not isinstance(ours, dict) or not isinstance(theirs, dict):
            reasons.append(f"{name} is missing from a measurement")
            continue
        if not theirs["total"] or not ours["total"]:
            continue
        worse = ours["value"] < theirs["low"] if larger else ours["value"] > theirs["high"]
        if worse:
            reasons.append(
                f"{name} is {ours['value']:.4f}, beyond {baseline.model}'s interval"
                f" {theirs['low']:.4f} to {theirs['high']:.4f}"
            )
    if candidate.ratio_p95 > SLOWER_LIMIT * baseline.ratio_p95:
        reasons.append(
            f"p95 takes {candidate.ratio_p95:.2f} × the reference,"
            f" {baseline.model} {baseline.ratio_p95:.2f} ×"
        )
    return reasons


REPRODUCED: tuple[str, ...] = ("recall50", "recall50_ge32", "leak_ge32", "false_covers")
TOLERANCE = 0.005


def reproduces(folder: Path, candidate: Measured, split: str) -> list[str]:
    """Reasons why the committed evaluation.json is not what was measured now."""
    try:
        saved = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))[split]["all"]
    except (OSError, ValueError, KeyError) as error:
        return [f"evaluation.json: no figures for {split} ({error})"]
    reasons = []
    for name in REPRODUCED:
        old, new = _value(saved.get(name)), _value(candidate.metrics.get(name))
        if old is None or new is None or abs(old - new) > TOLERANCE:
            reasons.append(f"evaluation.json says {name} {old}, measured {new}")
    return reasons
