"""What is left to do: the listing against the manifest, one shard at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from platehide.batch.facts import RowFacts
from platehide.batch.listing import Entry, Grouping
from platehide.files import planned_name
from platehide.report_file import FINISHED

AD_PHOTOS = 64
"""A folder with more photos is not an ad; its photos stand alone."""

UNIT_PHOTOS = 8

PASSING_CODES = frozenset(
    (
        *("not_found", "unreadable", "write_failed", "worker_died", "out_of_memory"),
        *("internal", "name_taken"),
    )
)
"""Errors that another try may mend. The others are about the photo itself."""


@dataclass(frozen=True)
class UnitPhoto:
    """One photo of a unit.

    Attributes:
        old_output: what an earlier run wrote for it (removed if it now fails).
        known: status that an earlier run settled; such a photo is only looked at again, more
            closely, if its ad turns out to have a plate.
        attempt: how many workers have died over it.
    """

    entry: Entry
    old_output: str | None = None
    known: str | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Unit:
    """Photos that one worker does in a row: an ad (``group`` set), or a handful of others.

    ``plates_known``: an earlier run found a plate on a photo of this ad.
    """

    shard: int
    photos: tuple[UnitPhoto, ...]
    group: str | None = None
    plates_known: bool = False


@dataclass(frozen=True)
class Redo:
    """What is done again although it has a row.

    Attributes:
        older_than: ``NAME@VERSION``: rows of an older version, or of another model.
        failed: photos set aside for a lasting reason too.
        missing: tells whether an output is there; ``None`` = the manifest is believed.
    """

    older_than: tuple[str, str] | None = None
    failed: bool = False
    missing: Callable[[str], bool] | None = None

    def wants(self, row: RowFacts, key: str) -> bool:
        """True if the photo is to be done again."""
        if self.older_than is not None and _is_older(row.model, self.older_than):
            return True
        if row.status in FINISHED:
            if self.missing is None:
                return False
            renamed = row.output is not None and row.output.endswith(key + ".jpg")
            return self.missing(key + ".jpg" * renamed)
        return self.failed or row.code in PASSING_CODES


@dataclass
class ShardPlan:
    """Todo of one shard; ``kept`` are the rows that stay as they are."""

    units: list[Unit] = field(default_factory=list)
    kept: list[RowFacts] = field(default_factory=list)
    listed: int = 0
    todo: int = 0
    clashes: list[Entry] = field(default_factory=list)


def parse_model(text: str) -> tuple[str, str]:
    """``name@version`` as a pair; a bare version (it begins with a digit) is of any model."""
    name, at, version = text.partition("@")
    return ("", name) if not at and name[:1].isdigit() else (name, version)


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions: numbers by value, words after numbers."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


def _is_older(model: str, limit: tuple[str, str]) -> bool:
    name, _, version = model.partition("@")
    return limit[0] not in ("", name) or version_key(version) < version_key(limit[1])


def plan_shard(
    shard: int,
    entries: Iterable[Entry],
    rows: Mapping[str, RowFacts],
    grouping: Grouping,
    redo: Redo,
) -> ShardPlan:
    """Compare a shard's listing with its rows.

    Of two inputs with one output the first by name wins, in every run, whatever the order of the
    listing.
    """
    plan = ShardPlan()
    owners: dict[str, str] = {}
    seen: set[str] = set()
    ads: dict[str, list[UnitPhoto]] = {}
    plates_known: set[str] = set()
    alone: list[UnitPhoto] = []
    for entry in sorted(entries, key=lambda entry: entry.key):
        name = planned_name(entry.key)
        other = owners.setdefault(name, entry.key)
        if other != entry.key:
            plan.clashes.append(entry)
            continue
        if entry.key in seen:
            continue  # listed twice
        seen.add(entry.key)
        plan.listed += 1
        row = rows.get(entry.key)
        group = grouping.group(entry)
        keep = row is not None and not redo.wants(row, entry.key)
        if row is not None and keep:
            plan.kept.append(row)
            if group is not None and row.status == "hidden":
                plates_known.add(group)
            if group is None or row.status != "none" or row.second_look:
                continue
        else:
            plan.todo += 1
        photo = UnitPhoto(
            entry,
            old_output=None if row is None else row.output,
            known=row.status if row is not None and keep else None,
        )
        (alone if group is None else ads.setdefault(group, [])).append(photo)
    for group, photos in ads.items():
        fresh = [p for p in photos if p.known is None]
        if len(photos) > AD_PHOTOS and grouping.kind == "folder":
            alone.extend(fresh)
        elif fresh:
            plan.units.append(Unit(shard, tuple(photos), group, group in plates_known))
    plan.units.extend(
        Unit(shard, tuple(alone[i : i + UNIT_PHOTOS])) for i in range(0, len(alone), UNIT_PHOTOS)
    )
    return plan


def without(unit: Unit, done: frozenset[int]) -> Unit | None:
    """What is left of a unit without the photos numbered in ``done``; ``None`` for nothing."""
    left = tuple(p for n, p in enumerate(unit.photos) if n not in done)
    return replace(unit, photos=left) if left else None
