"""Do the committed figures still hold? ``evaluation.json`` against what is measured now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platehide.errors import WeightsError
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.gate import CROPS, Measured, number_of

COUNTED: tuple[str, ...] = (
    "recall50",
    "recall50_ge32",
    "recall75",
    "leak",
    "leak_ge32",
    "leak_ge32_quads",
    "false_covers",
    "unsure",
    "errors",
)
"""Counts that add up over the sets."""
BANDED: tuple[tuple[str, str], ...] = (("leak_by_width", "leak"), ("recall50_by_width", "recall50"))
"""Counts by plate width, and what they add up to."""
MEANS: tuple[str, ...] = ("quad_iou", "corner_error_median", "corner_error_p95", "over_cover")
"""Not counted; ``null`` where there was nothing to measure, but never left out."""
TOLERANCE = 0.01
"""Share of a set's plates or photos that other arithmetic (another processor) may tip over."""
MEAN_TOLERANCE = 0.03


def saved_evaluation(folder: Path, split: str) -> dict[str, Any]:
    """The committed figures of a split.

    Raises:
        WeightsError: there are none.
    """
    path = folder / "evaluation.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[split]
        if not isinstance(found["all"], dict) or not isinstance(found["sets"], dict):
            raise TypeError("'all' and 'sets' are tables")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: no figures for {split} ({error})") from error
    return dict(found)


def whole_sets(records: Sequence[PhotoRecord], limit: int) -> list[PhotoRecord]:
    """The records of whole sets, smallest sets first, as many sets as have ``limit`` photos
    together (one at least).

    Sets are never cut: the committed figures are by set, so that a set which is measured whole can
    be compared with them exactly.
    """
    sizes: dict[str, int] = {}
    for r in records:
        sizes[r.set_name] = sizes.get(r.set_name, 0) + 1
    chosen: set[str] = set()
    together = 0
    for name, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if not chosen or together + size <= limit:
            chosen.add(name)
            together += size
    return [r for r in records if r.set_name in chosen]


def _counts(share: Any) -> tuple[int, int] | None:
    """Count and total of a counted share; ``None`` where it is none."""
    if not isinstance(share, dict):
        return None
    count, total = (share.get(key, "") for key in ("count", "total"))
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in (count, total)):
        return None
    return (int(count), int(total)) if 0 <= int(count) <= int(total) else None


def _tipped(old: Any, new: Any) -> bool:
    """Whether two counted shares differ by more than another processor could tip over."""
    was, found = _counts(old), _counts(new)
    if was is None or found is None or was[1] != found[1]:
        return True
    return abs(was[0] - found[0]) > max(2.0, TOLERANCE * was[1])


def _bands(bands: Any) -> tuple[int, int] | None:
    """Count and total of all bands of plate widths together; ``None`` where one is none."""
    parts = [_counts(v) for v in bands.values()] if isinstance(bands, dict) else []
    known = [c for c in parts if c is not None]
    if not known or len(known) < len(parts):
        return None
    return sum(c[0] for c in known), sum(c[1] for c in known)


def _gaps(figures: Any, where: str) -> list[str]:
    """Reasons why one group's figures are not all there."""
    if not isinstance(figures, dict):
        return [f"evaluation.json: {where} is no table of figures"]
    reasons = []
    for name in ("photos", "plates"):
        if number_of(figures.get(name)) is None:
            reasons.append(f"evaluation.json: {name} is missing for {where}")
    for name in (*COUNTED, "precision50"):
        if _counts(figures.get(name)) is None:
            reasons.append(f"evaluation.json: {name} is missing for {where}")
    for name in MEANS:
        if name not in figures or (figures[name] is not None and number_of(figures[name]) is None):
            reasons.append(f"evaluation.json: {name} is missing for {where}")
    for name, _ in BANDED:
        if _bands(figures.get(name)) is None:
            reasons.append(f"evaluation.json: {name} is missing for {where}")
    return reasons


def half_measured(saved: dict[str, Any]) -> list[str]:
    """Reasons why committed figures are not all there, one a group and figure."""
    split = str(saved.get("split"))
    reasons = [] if saved["sets"] else [f"evaluation.json: there are no sets for {split}"]
    reasons += _gaps(saved["all"], split)
    for name, figures in saved["sets"].items():
        reasons += _gaps(figures, f"{name} of {split}")
    return reasons


def consistent(saved: dict[str, Any], model: str) -> list[str]:
    """Reasons why committed figures are half-measured, contradict themselves or are of another
    model."""
    reasons = half_measured(saved)
    split = str(saved.get("split"))
    if saved.get("model") != model:
        reasons.append(f"evaluation.json is of {saved.get('model')}, not of {model}")
    if reasons:
        return reasons
    for where, figures in ((split, saved["all"]), *saved["sets"].items()):
        for banded, name in BANDED:
            if _bands(figures[banded]) != _counts(figures[name]):
                reasons.append(f"evaluation.json: {banded} does not add up to {name} for {where}")
    for name in COUNTED:
        whole = _counts(saved["all"][name]) or (0, 0)
        parts = [_counts(s[name]) or (0, 0) for s in saved["sets"].values()]
        for index, key in enumerate(("counts", "is of")):
            added = sum(p[index] for p in parts)
            if added != whole[index]:
                reasons.append(
                    f"evaluation.json: {name} {key} {whole[index]} for {split}, its sets {added}"
                )
        value = whole[0] / whole[1] if whole[1] else None
        said = number_of(saved["all"][name])
        if (value is None) != (said is None) or abs((value or 0.0) - (said or 0.0)) > 1e-6:
            reasons.append(f"evaluation.json: {name} is not its own count over its total")
    return reasons


def reproduces(folder: Path, candidate: Measured, split: str) -> list[str]:
    """Reasons why the committed evaluation.json is not what was measured now: set by set over the
    sets that were measured, and over all photos and crops where all were.
    """
    try:
        saved = saved_evaluation(folder, split)
    except WeightsError as error:
        return [str(error)]
    if half := half_measured(saved):
        return half
    reasons = consistent(saved, candidate.model)
    now = candidate.result["sets"]
    pairs = [(name, saved["sets"].get(name), now[name]) for name in now]
    whole = set(saved["sets"]) == set(now)
    if whole:
        pairs.append(("all photos", saved["all"], candidate.result["all"]))
    for where, old, new in pairs:
        if old is None or old.get("photos") != new["photos"]:
            reasons.append(f"evaluation.json: {where} has other photos than were measured")
            continue
        for name in COUNTED:
            if _tipped(old.get(name), new[name]):
                was, found = old[name], new[name]
                reasons.append(
                    f"evaluation.json says {name} {was['count']}/{was['total']} on {where},"
                    f" measured {found['count']}/{found['total']}"
                )
    if whole:
        for name in ("quad_iou", "corner_error_median", "over_cover"):
            was, found = number_of(saved["all"].get(name)), number_of(candidate.metrics.get(name))
            if (was is None) != (found is None) or abs((was or 0) - (found or 0)) > MEAN_TOLERANCE:
                reasons.append(f"evaluation.json says {name} {was}, measured {found}")
    return reasons + _crops_differ(saved, candidate.result.get("crops"), split, whole)


def _crops_differ(
    saved: dict[str, Any], now: dict[str, Any] | None, split: str, whole: bool
) -> list[str]:
    """Reasons against the committed false covers on crops. Where only some photos or crops were
    looked at, all that can be checked is that there are as many."""
    if now is None:
        return []
    old = saved.get("crops")
    looked_at = number_of(old.get("crops")) if isinstance(old, dict) else None
    if not isinstance(old, dict) or _counts(old.get("false_covers")) is None or looked_at is None:
        return [f"evaluation.json: no figures for plate-free crops of {split}"]
    if looked_at < min(now["crops"], CROPS):
        return [
            f"evaluation.json has {looked_at:.0f} plate-free crops of {split}, the photos give"
            f" {now['crops']}"
        ]
    same = whole and now["crops"] == looked_at
    if same and _tipped(old["false_covers"], now["false_covers"]):
        return [
            f"evaluation.json says {old['false_covers']['count']} false covers on {old['crops']}"
            f" crops, measured {now['false_covers']['count']}"
        ]
    return []
