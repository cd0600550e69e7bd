"""The release gate: candidate and baseline measured in the same run; every reason to refuse is
one sentence. A missing figure refuses; nothing is skipped silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from platehide.detector import OnnxDetector
from platehide.errors import PlateHideError, WeightsError
from platehide.evaluate.benchmark import Reference
from platehide.evaluate.crops import plan_crops, run_crops, summarise_crops
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import PhotoOutcome, score_photo
from platehide.evaluate.runner import detector_predictor, open_record, report
from platehide.model_spec import read_spec
from platehide.weights import LFS_MARK, Weights

GRAPH_LIMIT = 1e-3
"""Worst difference of the float32 graph from torch: the same arithmetic, so only rounding."""
STORAGE_LIMIT = 4e-3
"""Mean difference that float16 storage of weights may cost."""
EIGHT_BITS_PROBABILITY, EIGHT_BITS_CORNER = 0.05, 0.04
"""Mean difference of a network in 8 bits from its float original where that sees a plate: of the
probability, and of the corners in parts of √(width × height). What it costs in plates is measured
as for any weights: this only tells a broken file from a rounded one."""
SLOWER_LIMIT = 1.15
"""A candidate may take this much longer (p95 over the reference) than the baseline."""
FOLDER_LIMIT = 25_000_000
"""Bytes of one folder of weights: it lies in plain git."""
CROPS = 1000

JUDGED: tuple[tuple[str, bool], ...] = (
    # (metric, larger is better)
    ("recall50", True),
    ("recall50_ge32", True),
    ("recall75", True),
    ("quad_iou", True),
    ("leak_ge32", False),
    ("leak_ge32_quads", False),
    ("corner_error_median", False),
    ("over_cover", False),
    ("false_covers", False),
    ("false_covers_crops", False),
    ("unsure", False),
    ("errors", False),
)


@dataclass(frozen=True)
class Floors:
    """Absolute limits, only ever made stricter: ``least`` and ``most`` by metric name."""

    least: dict[str, float]
    most: dict[str, float]
    time_ratio_p95: float


@dataclass(frozen=True)
class Measured:
    """One model's figures of this run: ``result`` as ``runner.report`` gives it, and the p95 of
    detection as a ratio to the reference network."""

    model: str
    result: dict[str, Any]
    ratio_p95: float

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures over all photos."""
        found: dict[str, Any] = self.result["all"]
        return found


def read_floors(path: Path) -> Floors:
    """Read ``weights/floors.json``.

    Raises:
        WeightsError: missing or broken.
    """
    try:
        return parse_floors(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from error


def parse_floors(text: str) -> Floors:
    """The floors of a JSON text.

    Raises:
        ValueError, KeyError, TypeError: broken.
    """
    raw = json.loads(text)

    def numbers(key: str) -> dict[str, float]:
        values = {str(k): float(v) for k, v in raw[key].items()}
        if not all(math.isfinite(v) for v in values.values()):
            raise ValueError(f"{key}: a floor is a number")
        return values

    return Floors(numbers("least"), numbers("most"), float(raw["time_ratio_p95"]))


def loosened(old: Floors, new: Floors) -> list[str]:
    """Reasons why ``new`` is not at least as strict as ``old``: floors only rise."""
    reasons = []
    for name, least in old.least.items():
        if new.least.get(name, -math.inf) < least:
            reasons.append(f"the floor of {name} fell from {least} to {new.least.get(name)}")
    for name, most in old.most.items():
        if new.most.get(name, math.inf) > most:
            reasons.append(f"the limit of {name} rose from {most} to {new.most.get(name)}")
    if not new.time_ratio_p95 <= old.time_ratio_p95:
        reasons.append(
            f"the limit of the time rose from {old.time_ratio_p95} to {new.time_ratio_p95}"
        )
    return reasons


def close_enough(found: dict[str, float]) -> bool:
    """Whether a recorded difference from torch (8 bits: from the float file) is small. What is
    recorded in part or is no number is not."""
    limits = {"graph": GRAPH_LIMIT, "storage": STORAGE_LIMIT}
    if "probability" in found:
        limits = {"probability": EIGHT_BITS_PROBABILITY, "corner": EIGHT_BITS_CORNER}
    values = {name: number_of(found.get(name)) for name in limits}
    return all(v is not None and v <= limits[name] for name, v in values.items())


def check_card(path: Path, model: str) -> list[str]:
    """Reasons against a model card: it must be of this model and say, set by set, what it was
    trained on and under which licence."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return [f"{path}: not UTF-8 text"]
    reasons = []
    if not any(model in line for line in lines):
        reasons.append(f"{path}: does not name {model}")
    heads = [i for i, line in enumerate(lines) if line.startswith("| set |") and "licence" in line]
    sets = []
    for line in lines[heads[0] + 2 :] if heads else []:
        if not line.startswith("|"):
            break
        sets.append([cell.strip() for cell in line.strip("|").split("|")])
    if not sets:
        reasons.append(f"{path}: lists no training set with its licence")
    silent = [cells[0] for cells in sets if not cells[-1]]
    if silent:
        reasons.append(f"{path}: states no licence for {', '.join(silent)}")
    return reasons


def check_files(folder: Path) -> list[str]:
    """Reasons against the folder itself: files, digests, card, evaluation, recorded parity."""
    reasons = []
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as start:
            if start.read(len(LFS_MARK)) == LFS_MARK:
                reasons.append(f"{path}: a Git LFS pointer, not the file itself")
    if reasons:
        return reasons
    try:
        spec = read_spec(folder / "spec.json")
    except PlateHideError as error:
        return [str(error)]
    weights = Weights(folder, spec)
    parity = spec.notes.get("parity")
    parity = parity if isinstance(parity, dict) else {}
    for file in spec.sha256:
        try:
            weights.read(file)
        except PlateHideError as error:
            reasons.append(str(error))
            continue
        found = parity.get(file)
        if not isinstance(found, dict):
            reasons.append(f"{file}: its difference from torch was not recorded at export")
        elif not close_enough(found):
            reasons.append(f"{file}: differs from torch by {found}")
    for name in ("MODEL_CARD.md", "evaluation.json"):
        if not (folder / name).is_file():
            reasons.append(f"{folder / name}: missing")
    if (folder / "MODEL_CARD.md").is_file():
        reasons += check_card(folder / "MODEL_CARD.md", spec.model)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    if size > FOLDER_LIMIT:
        reasons.append(f"{folder}: {size / 1e6:.1f} MB together, over {FOLDER_LIMIT / 1e6:.0f} MB")
    return reasons


def measure(
    detectors: Sequence[OnnxDetector],
    records: Sequence[PhotoRecord],
    *,
    crops: int = CROPS,
    quiet: bool = False,
) -> list[Measured]:
    """Every model over the same photos and crops in the same run, photo by photo in turn, with
    the reference network between: a busy machine slows all of them alike.
    """
    reference = Reference()
    units = [reference() for _ in range(5)]
    predictors = [detector_predictor(d) for d in detectors]
    outcomes: list[list[PhotoOutcome]] = [[] for _ in detectors]
    for number, record in enumerate(tqdm(records, desc="gate", unit="photo", disable=quiet)):
        if number % 5 == 0:
            units.append(reference())
        order = range(len(detectors)) if number % 2 == 0 else reversed(range(len(detectors)))
        for k in order:
            outcomes[k].append(score_photo(record, predictors[k](open_record(record))))
    unit = float(np.median(units))
    plan = plan_crops(records, crops) if crops > 0 else []
    measured = []
    for detector, predict, mine in zip(detectors, predictors, outcomes, strict=True):
        result = report(mine)
        if plan:
            result["crops"] = summarise_crops(run_crops(plan, predict, quiet=quiet))
            result["all"]["false_covers_crops"] = result["crops"]["false_covers"]
        p95 = result["all"]["ms_p95"]
        measured.append(Measured(detector.model, result, math.nan if p95 is None else p95 / unit))
    return measured


def is_slow(candidate: Measured, baseline: Measured | None, floors: Floors) -> bool:
    """Whether the time alone would refuse the candidate."""
    if candidate.ratio_p95 > floors.time_ratio_p95:
        return True
    return baseline is not None and candidate.ratio_p95 > SLOWER_LIMIT * baseline.ratio_p95


def measure_again(
    detectors: Sequence[OnnxDetector],
    records: Sequence[PhotoRecord],
    measured: Sequence[Measured],
    floors: Floors,
    *,
    times: int = 3,
    most: int = 80,
) -> list[Measured]:
    """Time once more, at most ``times``, while the candidate (the first) looks slow. The smallest
    ratio of each model counts: a disturbance only ever makes a time longer.
    """
    now = list(measured)
    few = list(records)[:: max(1, len(records) // most)]
    for _ in range(times):
        if not is_slow(now[0], now[1] if len(now) > 1 else None, floors):
            break
        fresh = measure(detectors, few, crops=0, quiet=True)
        now = [
            replace(a, ratio_p95=min(a.ratio_p95, b.ratio_p95))
            for a, b in zip(now, fresh, strict=True)
        ]
    return now


def number_of(metric: Any) -> float | None:
    """A figure's number (of a counted share its value); ``None`` where there is none."""
    value = metric.get("value") if isinstance(metric, dict) else metric
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _interval(metrics: dict[str, Any], name: str) -> tuple[float, float] | None:
    metric = metrics.get(name)
    if isinstance(metric, dict):
        return (metric["low"], metric["high"]) if metric.get("total") else None
    found = metrics.get(f"{name}_interval")
    return None if found is None else (float(found[0]), float(found[1]))


def judge_floors(metrics: dict[str, Any], floors: Floors) -> list[str]:
    """Reasons why figures lie on the wrong side of the absolute limits, or are missing."""
    reasons = []
    for limits, below in ((floors.least, True), (floors.most, False)):
        for name, limit in limits.items():
            value = number_of(metrics.get(name))
            if value is None:
                reasons.append(f"{name} was not measured")
            elif below and value < limit:
                reasons.append(f"{name} is {value:.4f}, below its floor {limit:.4f}")
            elif not below and value > limit:
                reasons.append(f"{name} is {value:.4f}, above its limit {limit:.4f}")
    return reasons


def judge_time(candidate: Measured, baseline: Measured | None, floors: Floors) -> list[str]:
    """Reasons against the candidate's p95."""
    reasons = []
    if not math.isfinite(candidate.ratio_p95):
        return ["the time was not measured"]
    if candidate.ratio_p95 > floors.time_ratio_p95:
        reasons.append(
            f"p95 takes {candidate.ratio_p95:.2f} × the reference, over {floors.time_ratio_p95:.2f}"
        )
    if baseline is None:
        return reasons
    if not math.isfinite(baseline.ratio_p95):
        reasons.append(f"the time of {baseline.model} was not measured")
    elif candidate.ratio_p95 > SLOWER_LIMIT * baseline.ratio_p95:
        reasons.append(
            f"p95 takes {candidate.ratio_p95:.2f} × the reference,"
            f" {baseline.model} {baseline.ratio_p95:.2f} ×"
        )
    return reasons


def judge_against(candidate: dict[str, Any], baseline: dict[str, Any], model: str) -> list[str]:
    """Reasons why figures are beyond the interval of the baseline ``model``, or are missing."""
    reasons = []
    for name, larger in JUDGED:
        value, interval = number_of(candidate.get(name)), _interval(baseline, name)
        if value is None:
            reasons.append(f"{name} was not measured")
        elif interval is None:
            reasons.append(f"{name} of {model} was not measured")
        elif value < interval[0] if larger else value > interval[1]:
            reasons.append(
                f"{name} is {value:.4f}, beyond {model}'s interval"
                f" {interval[0]:.4f} to {interval[1]:.4f}"
            )
    return reasons


def judge(candidate: Measured, baseline: Measured | None, floors: Floors) -> list[str]:
    """Reasons to refuse, empty when the candidate may land."""
    reasons = judge_floors(candidate.metrics, floors)
    reasons += judge_time(candidate, baseline, floors)
    if baseline is not None:
        more = judge_against(candidate.metrics, baseline.metrics, baseline.model)
        reasons += [r for r in more if r not in reasons]
    return reasons
