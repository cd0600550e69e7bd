"""Do the committed figures still hold? ``evaluation.json`` against what is measured now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platehide.errors import WeightsError
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.gate import Measured, number_of

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


def _tipped(old: Any, new: Any) -> bool:
    """Whether two counted shares differ by more than another processor could tip over."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return True
    if old.get("total") != new.get("total"):
        return True
    return bool(abs(old["count"] - new["count"]) > max(2.0, TOLERANCE * old["total"]))


def consistent(saved: dict[str, Any], model: str) -> list[str]:
    """Reasons why committed figures contradict themselves or are another model's."""
    reasons = []
    split = saved.get("split")
    if saved.get("model") != model:
        reasons.append(f"evaluation.json is of {saved.get('model')}, not of {model}")
    for name in COUNTED:
        total = saved["all"].get(name)
        if not isinstance(total, dict):
            reasons.append(f"evaluation.json: {name} is missing for {split}")
            continue
        for key in ("count", "total"):
            added = sum(s[name][key] for s in saved["sets"].values() if name in s)
            if added != total[key]:
                reasons.append(
                    f"evaluation.json: {name} counts {total[key]} for {split}, its sets {added}"
                )
        value = total["count"] / total["total"] if total["total"] else None
        if value != total["value"] and abs((value or 0.0) - (total["value"] or 0.0)) > 1e-6:
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
                was, found = old.get(name) or {}, new[name]
                reasons.append(
                    f"evaluation.json says {name} {was.get('count')}/{was.get('total')} on"
                    f" {where}, measured {found['count']}/{found['total']}"
                )
    if whole:
        for name in ("quad_iou", "corner_error_median", "over_cover"):
            was, found = number_of(saved["all"].get(name)), number_of(candidate.metrics.get(name))
            if found is not None and (was is None or abs(was - found) > MEAN_TOLERANCE):
                reasons.append(f"evaluation.json says {name} {was}, measured {found:.4f}")
    return reasons + _crops_differ(saved, candidate.result.get("crops"), split, whole)


def _crops_differ(
    saved: dict[str, Any], now: dict[str, Any] | None, split: str, whole: bool
) -> list[str]:
    """Reasons against the committed false covers on crops. Where only some photos or crops were
    looked at, their presence is all that can be checked."""
    if now is None:
        return []
    old = saved.get("crops")
    if not isinstance(old, dict):
        return [f"evaluation.json: no figures for plate-free crops of {split}"]
    same = whole and now["crops"] == old.get("crops")
    if same and _tipped(old.get("false_covers"), now["false_covers"]):
        return [
            f"evaluation.json says {old['false_covers']['count']} false covers on {old['crops']}"
            f" crops, measured {now['false_covers']['count']}"
        ]
    return []
