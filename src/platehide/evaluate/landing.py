"""May these weights land? Every check of the gate in order, cheap ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platehide.detector import OnnxDetector
from platehide.errors import PlateHideError, WeightsError
from platehide.evaluate import gate
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.memory import largest, peak_mib
from platehide.evaluate.reproduce import reproduces, saved_evaluation, whole_sets
from platehide.evaluate.runner import open_record
from platehide.model_spec import read_spec
from platehide.weights import Weights

AgainstTorch = Callable[[Weights, Sequence[PhotoRecord]], list[str]]
"""Compares a folder's files with torch on real photos (needs the extra ``train``)."""


@dataclass(frozen=True)
class Verdict:
    """``reasons`` to refuse, none where the candidate may land, and the figures of both."""

    reasons: tuple[str, ...]
    candidate: gate.Measured | None = None
    baseline: gate.Measured | None = None

    def to_json(self, folder: Path) -> dict[str, Any]:
        """JSON-ready."""
        measured = [m for m in (self.candidate, self.baseline) if m is not None]
        return {
            "candidate": str(folder),
            "reasons": list(self.reasons),
            "p95_ratio": {m.model: m.ratio_p95 for m in measured},
            "figures": {m.model: m.metrics for m in measured},
        }


def verdict(
    folder: Path,
    baseline: Path | None,
    records: Sequence[PhotoRecord],
    split: str,
    floors: gate.Floors,
    *,
    against_torch: AgainstTorch,
    limit: int | None = None,
    crops: int = gate.CROPS,
    quiet: bool = False,
) -> Verdict:
    """Judge a folder of weights against the floors and a baseline folder.

    Args:
        records: all photos of the split.
        limit: measure whole sets with about this many photos together. The floors are then held
            against the committed figures, once those sets have reproduced them.
    """
    reasons = gate.check_files(folder)
    if reasons:
        return Verdict(tuple(reasons))
    weights = Weights(folder, read_spec(folder / "spec.json"))
    part = list(records) if limit is None else whole_sets(records, limit)
    try:
        candidate_detector = OnnxDetector(weights)
        reasons = against_torch(weights, records)
        candidate_detector.detect(open_record(part[0]))
    except WeightsError as error:
        return Verdict((str(error),))
    except PlateHideError:  # a photo that cannot be read, not the weights
        raise
    except Exception as error:  # whatever files that do not fit their spec come up with
        first = (str(error).strip().splitlines() or [""])[0]
        said = f"does not run as its spec says: {type(error).__name__}: {first}"
        return Verdict((f"{weights.spec.model}: {said}",))
    detectors = [candidate_detector]
    if baseline is not None and baseline.resolve() != folder.resolve():
        detectors.append(OnnxDetector(Weights(baseline, read_spec(baseline / "spec.json"))))
    measured = gate.measure(detectors, part, crops=crops, quiet=quiet)
    measured = gate.measure_again(detectors, part, measured, floors)
    candidate = measured[0]
    candidate.metrics["memory_mib"] = peak_mib(str(folder), largest(part))
    base = None if baseline is None else measured[-1]
    reasons += gate.judge_time(candidate, base, floors)
    if base is not None:
        reasons += gate.judge_against(candidate.metrics, base.metrics, base.model)
    reasons += reproduces(folder, candidate, split)
    figures = candidate.metrics
    if len(part) < len(records):
        try:
            figures = saved_evaluation(folder, split)["all"]
        except WeightsError as error:
            reasons.append(str(error))
    reasons += gate.judge_floors(figures, floors)
    return Verdict(tuple(dict.fromkeys(reasons)), candidate, base)
