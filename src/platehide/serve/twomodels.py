"""Two models in one process: ``split`` by unit, and ``shadow`` beside the current one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platehide import assignment, geometry
from platehide.serve.admission import Pool
from platehide.serve.exposures import open_exposures
from platehide.serve.logs import event
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings
from platehide.serve.telemetry import Telemetry
from platehide.types import HideResult

CONTROL, TREATMENT = "control", "treatment"
MAX_UNIT_CHARS = 256
MAX_SHADOWS = 4
_SAME_PLATE_IOU = 0.5


@dataclass(frozen=True)
class Arm:
    """Which model answers; ``variant`` is ``None`` where the request takes no part."""

    model: str
    variant: str | None = None
    unit: str | None = None


class TwoModels:
    """Chooses the model of a request, and runs the candidate in shadow."""

    def __init__(
        self, settings: Settings, telemetry: Telemetry, current: str, candidate: str | None
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._current = current
        self._candidate = candidate
        self._shadows: set[asyncio.Task[None]] = set()
        self._log = (
            open_exposures(Path(settings.exposure_log), settings.exposure_format)
            if settings.exposure_log and settings.candidate_mode == "split"
            else None
        )

    def choose(self, unit: str | None) -> Arm:
        """Return the arm of ``unit``: the same one for the same unit as long as shares only grow.

        Without a unit the current model answers and nothing is logged.
        """
        if self._settings.candidate_mode != "split" or self._candidate is None or not unit:
            return Arm(self._current)
        if len(unit) > MAX_UNIT_CHARS:
            raise Problem("bad_request", f"{self._settings.unit_header} is too long")
        share = self._settings.candidate_share
        shares = {CONTROL: 1 - share, TREATMENT: share}
        variant = assignment.assign(self._settings.experiment, unit, shares)
        model = self._candidate if variant == TREATMENT else self._current
        return Arm(model, variant, unit)

    def exposed(self, arm: Arm, request_id: str) -> None:
        """Count and log that the unit saw its arm's model."""
        if arm.variant is None:
            return
        self._telemetry.exposures.labels(arm.variant, arm.model).inc()
        if self._log is not None:
            now = time.time()
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            self._log.write(
                {
                    "time": f"{stamp}.{int(now % 1 * 1000):03d}Z",
                    "experiment": self._settings.experiment,
                    "unit": arm.unit,
                    "variant": arm.variant,
                    "model": arm.model,
                    "request_id": request_id,
                }
            )

    def shadow(
        self, pool: Pool, answered: HideResult, request_id: str, call: Callable[[], HideResult]
    ) -> None:
        """Run ``call`` (the candidate on the same photo) in the background and compare.

        Only where threads are idle: shadow never delays an answer; what does not fit is counted
        as ``skipped``. The candidate's photo is dropped.
        """
        if self._settings.candidate_mode != "shadow" or self._candidate is None:
            return
        if assignment.uniform("shadow", request_id) >= self._settings.candidate_share:
            return
        if len(self._shadows) >= MAX_SHADOWS or not pool.idle:
            self._count("skipped")
            return
        task = asyncio.create_task(self._compare(pool, answered, request_id, call))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _count(self, result: str) -> None:
        self._telemetry.shadow.labels(result, self._current, self._candidate).inc()

    async def _compare(
        self, pool: Pool, answered: HideResult, request_id: str, call: Callable[[], HideResult]
    ) -> None:
        try:
            other = await pool.run(call, background=True, deadline=5.0)
        except Problem:
            self._count("skipped")
            return
        except Exception as error:  # a candidate may fail in any way; the answer has long left
            self._count("error")
            event("shadow_failed", request_id=request_id, error=repr(error))
            return
        names = self._current, self._candidate
        self._telemetry.shadow_seconds.labels(*names).observe(other.ms.get("total", 0.0) / 1e3)
        verdict, ious = compare(answered, other)
        for iou in ious:
            self._telemetry.shadow_iou.labels(*names).observe(iou)
        self._count(verdict)
        if verdict != "agree":
            event(
                "shadow_differs",
                request_id=request_id,
                result=verdict,
                current=answered.status,
                candidate=other.status,
                current_plates=len(answered.plates),
                candidate_plates=len(other.plates),
            )

    async def settled(self) -> None:
        """Wait for running comparisons (used while draining)."""
        if self._shadows:
            await asyncio.wait(set(self._shadows), timeout=5)

    def close(self) -> None:
        """Finish the log of exposures (blocking)."""
        if self._log is not None:
            self._log.close()


def compare(a: HideResult, b: HideResult) -> tuple[str, list[float]]:
    """Return how two answers differ, and the IoU of the plates that match one-to-one.

    ``outcome`` (other status), ``count`` (other number of plates), ``geometry`` (a plate of one
    has no plate of the other at IoU 0.5), else ``agree``.
    """
    pairs = sorted(
        (
            (geometry.polygon_iou(p.quad, q.quad), i, j)
            for i, p in enumerate(a.plates)
            for j, q in enumerate(b.plates)
        ),
        reverse=True,
    )
    used_a: set[int] = set()
    used_b: set[int] = set()
    ious = []
    for iou, i, j in pairs:
        if iou >= _SAME_PLATE_IOU and i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            ious.append(iou)
    if a.status != b.status:
        return "outcome", ious
    if len(a.plates) != len(b.plates):
        return "count", ious
    return ("agree" if len(ious) == len(a.plates) else "geometry"), ious
