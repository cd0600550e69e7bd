"""Pool simulated runs and print them beside the goals and the published cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from platehide.crowd.sim_world import PUBLISHED_PHOTOS, SimResult, SimSettings


@dataclass(frozen=True)
class Goal:
    """A figure of the table: its name, the pooled value, and what it must not exceed."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Pooled:
    """Runs of equal settings but for the seed, taken together.

    Attributes:
        bots: share of bots.
        runs: how many.
        photos: over all runs.
        goals: the figures that have one, in the order of the table.
        open: photos left when the crowd ran out.
        bad_banned: share of bots and sloppy workers that were banned, by kind.
        cost: of 4,000 photos at the settings' price.
    """

    bots: float
    runs: int
    photos: int
    goals: tuple[Goal, ...]
    open: int
    bad_banned: Mapping[str, float]
    cost: float


def pool(results: Sequence[SimResult]) -> list[Pooled]:
    """Pool runs by their settings without the seed, in the order of the first of each."""
    groups: dict[SimSettings, list[SimResult]] = {}
    for r in results:
        groups.setdefault(replace(r.settings, seed=0), []).append(r)
    pooled = []
    for settings, group in groups.items():
        photos = sum(r.settings.photos for r in group)
        errors = np.concatenate([r.corner_errors_px for r in group])
        median, p95 = np.percentile(errors, [50, 95]) if len(errors) else (np.inf, np.inf)
        honest = sum(r.honest for r in group)
        each = sum(r.judgements for r in group) / max(photos, 1)
        kinds = sorted({kind for r in group for kind in r.bad})
        pooled.append(
            Pooled(
                bots=settings.bots,
                runs=len(group),
                photos=photos,
                goals=(
                    Goal("median corner px", float(median), 2.1),
                    Goal("p95 corner px", float(p95), 6.0),
                    Goal("wrong labels %", 100.0 * sum(r.wrong for r in group) / photos, 0.2),
                    Goal("escalated %", 100.0 * sum(r.escalated for r in group) / photos, 0.5),
                    Goal("judgements a photo", each, 3.2),
                    Goal(
                        "honest banned %",
                        100.0 * sum(r.honest_banned for r in group) / max(honest, 1),
                        2.0,
                    ),
                ),
                open=sum(r.open for r in group),
                bad_banned={
                    kind: sum(r.bad_banned.get(kind, 0) for r in group)
                    / max(sum(r.bad.get(kind, 0) for r in group), 1)
                    for kind in kinds
                },
                cost=each * settings.price * PUBLISHED_PHOTOS,
            )
        )
    return pooled


def table(results: Sequence[SimResult]) -> str:
    """A printed table: seeds pooled, the goals (set at 30 % bots), and the cost of 4,000 photos.

    The published data set paid $28 for 4,000 photos with three answers each; the price of one
    judgement is taken from there, control tasks are paid too.
    """
    pools = pool(results)
    if not pools:
        return "no runs"
    names = [g.name for g in pools[0].goals]
    header = ["bots", "runs", "photos", *names, "left open", "4,000 photos"]
    limits = ["goal", "", "", *(f"<= {g.limit:g}" for g in pools[0].goals), "", "published $28"]
    rows = [header, limits]
    for p in pools:
        values = [f"{g.value:.2f}{'' if g.met else ' !'}" for g in p.goals]
        row = [f"{100 * p.bots:.0f} %", str(p.runs), str(p.photos), *values, str(p.open)]
        rows.append([*row, f"${p.cost:.2f}"])
    widths = [max(len(r[k]) for r in rows) for k in range(len(header))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    for p in pools:
        shares = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in p.bad_banned.items())
        lines.append(f"banned at {100 * p.bots:.0f} % bots: {shares}")
    return "\n".join(lines)
