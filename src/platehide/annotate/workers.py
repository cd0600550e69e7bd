"""Derived figures of workers, and what bans and rules do to them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.db import AnyRow
from platehide.annotate.photo_states import control_state, refresh_free, restore
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.events import Event, EventKind
from platehide.crowd.rules import Decision, Watcher
from platehide.crowd.sequential import ControlPolicy, ControlState, advance


class WorkerBook:
    """Reads and writes the derived rows of a project's workers inside one transaction.

    Args:
        now: time of the log entry that is being processed (not of the processing).
        watchers: kept by the caller between log entries; filled from the stored events.
    """

    def __init__(
        self,
        connection: Connection,
        project_id: str,
        settings: ProjectSettings,
        now: float,
        watchers: dict[str, Watcher],
    ) -> None:
        self.watchers = watchers
        self._pending: list[Decision] = []
        self.connection = connection
        self.project_id = project_id
        self.settings = settings
        self.now = now

    def _where(self, worker: str) -> Any:
        w = schema.worker_state
        return sa.and_(w.c.project_id == self.project_id, w.c.worker_id == worker)

    def _ensure(self, worker: str) -> AnyRow:
        w = schema.worker_state
        row = self.connection.execute(sa.select(w).where(self._where(worker))).first()
        if row is not None:
            return row
        fresh = {"project_id": self.project_id, "worker_id": worker}
        self.connection.execute(
            w.insert().values(
                **fresh,
                skill=0.0,
                golden_right=0,
                golden_total=0,
                judgements=0,
                seconds_sum=0.0,
                agreed=0,
                compared=0,
                paid=0,
                banned=False,
                reason="",
                pardoned=False,
                updated_at=self.now,
            )
        )
        return self.connection.execute(sa.select(w).where(self._where(worker))).one()

    def _set(self, worker: str, **values: Any) -> None:
        w = schema.worker_state
        change = w.update().where(self._where(worker)).values(**values, updated_at=self.now)
        if not self.connection.execute(change).rowcount:
            self._ensure(worker)
            self.connection.execute(change)

    def workers(self) -> list[str]:
        """Everyone with a row in this project."""
        w = schema.worker_state
        return sorted(
            self.connection.execute(
                sa.select(w.c.worker_id).where(w.c.project_id == self.project_id)
            ).scalars()
        )

    # Events ----------------------------------------------------------------------------

    def event(self, worker: str, kind: EventKind, value: float, task: str | None = "") -> None:
        """Add an event and let the rules look at it."""
        watcher = self._watcher(worker)
        fresh = Event(self.now, worker, kind, float(value), task or "")
        self._pending.extend(watcher.feed(fresh))
        self.connection.execute(
            schema.events.insert().values(
                project_id=self.project_id,
                at=self.now,
                worker_id=worker,
                kind=kind,
                value=float(value),
                task=task or "",
            )
        )

    def answered(self, worker: str, seconds: float, price: float) -> None:
        """Count an answer."""
        del price  # what is paid follows from the assignments that count
        w = schema.worker_state
        self._set(
            worker, judgements=w.c.judgements + 1, seconds_sum=w.c.seconds_sum + float(seconds)
        )

    def compared(self, worker: str, agrees: bool, photo_id: str) -> None:
        """Count a comparison with the label that the others made."""
        w = schema.worker_state
        self._set(worker, compared=w.c.compared + 1, agreed=w.c.agreed + int(agrees))
        self.event(worker, "agreement", float(agrees), photo_id)

    def control(self, worker: str, right: bool, policy: ControlPolicy) -> ControlState:
        """Count a control answer; returns the worker's state after it."""
        state = advance(control_state(self.connection, worker, self.project_id), right, policy)
        self._set(worker, control=asdict(state), golden_right=state.right, golden_total=state.total)
        return state

    def peers(self, worker: str, skill: float, right: float, total: float) -> None:
        """Write down the skill and the comparison with peers of a look at the whole crowd."""
        self._set(worker, skill=round(skill, 6), peer_right=right, peer_total=total)

    def set_skill(self, worker: str, skill: float) -> None:
        """Write down the newest skill."""
        row = self._ensure(worker)
        if abs(row.skill - skill) > 1e-9:
            self._set(worker, skill=round(float(skill), 6))

    # Rules -----------------------------------------------------------------------------

    def events_of(self, worker: str) -> list[Event]:
        """The worker's events in this project, oldest first."""
        e = schema.events
        rows = self.connection.execute(
            sa.select(e)
            .where(e.c.project_id == self.project_id, e.c.worker_id == worker)
            .order_by(e.c.id)
        )
        return [Event(r.at, r.worker_id, r.kind, r.value, r.task) for r in rows]

    def _watcher(self, worker: str) -> Watcher:
        """The rules' view of a worker, caught up with the stored events."""
        watcher = self.watchers.get(worker)
        if watcher is None:
            watcher = self.watchers[worker] = Watcher(self.settings.quality_rules())
            for event in self.events_of(worker):
                watcher.feed(event)
        return watcher

    def take_decisions(self) -> list[Decision]:
        """What the rules decided since the last call, written down."""
        fresh, self._pending = self._pending, []
        kept = [d for d in fresh if not self.is_pardoned(d.worker)]
        for d in kept:
            self.decide(d.worker, d.rule, d.action.kind, d.reason, d.at)
        return kept

    def look_back(self, worker: str) -> None:
        """New rules: let them look at the worker's past; what they decide is pending."""
        d = schema.decisions
        known = {
            (r.rule, round(r.at, 6))
            for r in self.connection.execute(
                sa.select(d.c.rule, d.c.at).where(
                    d.c.project_id == self.project_id, d.c.worker_id == worker
                )
            )
        }
        watcher = self.watchers[worker] = Watcher(self.settings.quality_rules())
        for event in self.events_of(worker):
            self._pending.extend(
                f for f in watcher.feed(event) if (f.rule, round(f.at, 6)) not in known
            )

    def decide(self, worker: str, rule: str, action: str, reason: str, at: float) -> None:
        """Write down a decision about a worker."""
        self.connection.execute(
            schema.decisions.insert().values(
                project_id=self.project_id,
                at=at,
                worker_id=worker,
                rule=rule,
                action=action,
                reason=reason,
            )
        )

    # Bans ------------------------------------------------------------------------------

    def is_banned(self, worker: str) -> bool:
        """Whether the worker's answers do not count (a pause is no ban)."""
        row = self._ensure(worker)
        return bool(row.banned and row.banned_until is None)

    def is_pardoned(self, worker: str) -> bool:
        """Whether a requester lifted a ban, which keeps rules from banning again."""
        return bool(self._ensure(worker).pardoned)

    def ban(self, worker: str, reason: str, until: float | None) -> set[str]:
        """Ban, drop the worker's answers, take the leases away; returns the photos touched."""
        self._set(worker, banned=True, reason=reason, banned_until=until, pardoned=False)
        self.event(worker, "banned", 1.0)
        photos = self.drop_all(worker)
        a = schema.assignments
        mine = (
            a.c.worker_id == worker,
            a.c.project_id == self.project_id,
            a.c.state == "leased",
        )
        held = self.connection.execute(sa.select(a.c.photo_id).where(*mine)).scalars().all()
        self.connection.execute(a.update().where(*mine).values(state="expired"))
        for photo_id in held:
            refresh_free(self.connection, photo_id)
        return photos

    def pause(self, worker: str, until: float, reason: str) -> None:
        """No tasks until then; what was answered counts."""
        self._set(worker, banned=True, banned_until=until, reason=reason)

    def unban(self, worker: str) -> set[str]:
        """Lift a ban and let the answers count again; returns the photos touched."""
        self._set(worker, banned=False, reason="", banned_until=None, pardoned=True)
        a, g = schema.assignments, schema.log
        rejected = sa.select(g.c.assignment_id).where(
            g.c.project_id == self.project_id, g.c.kind == "drop"
        )
        rows = self.connection.execute(
            sa.select(a.c.id, a.c.photo_id, a.c.kind).where(
                a.c.worker_id == worker,
                a.c.project_id == self.project_id,
                a.c.state == "dropped",
                a.c.id.not_in(rejected),
            )
        ).all()
        for row in rows:
            restore(self.connection, row.id, row.photo_id, row.kind)
        return {r.photo_id for r in rows if r.kind == "task"}

    def drop_all(self, worker: str) -> set[str]:
        """Let none of the worker's answers count; returns the photos touched."""
        a = schema.assignments
        mine = (
            a.c.worker_id == worker,
            a.c.project_id == self.project_id,
            a.c.state == "submitted",
            a.c.kind != "training",
        )
        rows = self.connection.execute(sa.select(a.c.photo_id, a.c.kind).where(*mine)).all()
        self.connection.execute(a.update().where(*mine).values(state="dropped"))
        return {r.photo_id for r in rows if r.kind == "task"}

    def drop_assignment(self, assignment_id: str) -> str | None:
        """Let one answer not count; returns whose it was, ``None`` where it did not count."""
        a = schema.assignments
        row = self.connection.execute(
            sa.select(a.c.worker_id).where(a.c.id == assignment_id, a.c.state == "submitted")
        ).first()
        if row is None:
            return None
        self.connection.execute(a.update().where(a.c.id == assignment_id).values(state="dropped"))
        return str(row.worker_id)

    def ask_captcha(self, worker: str) -> None:
        """The worker's next task waits for a captcha."""
        m = schema.members
        self.connection.execute(
            m.update()
            .where(m.c.project_id == self.project_id, m.c.user_id == worker)
            .values(captcha_due=1)
        )
