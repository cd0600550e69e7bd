"""From the log to everything derived: labels, photo states, workers' figures, bans.

One pass over the log in order, resumable at any place: ``cursor:<project>`` in ``meta`` says
how far it came, and moves in the same transaction as what it led to. What is derived can
therefore be thrown away and computed again (``recompute``), and a process that was killed
between taking an answer and drawing conclusions from it catches up when it starts.

An answer is acknowledged before it gets here; nobody can tell from a reply, or from its time,
whether the task was a control task.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.db import AnyRow, Database, upsert
from platehide.annotate.photo_states import refresh_free, restore
from platehide.annotate.records import counted_judgements, photo_judgements, quads
from platehide.annotate.settings import ProjectSettings
from platehide.annotate.workers import WorkerBook
from platehide.crowd.aggregate import (
    Aggregation,
    CrowdModel,
    Label,
    aggregate,
    aggregate_task,
    initial_model,
)
from platehide.crowd.judgements import Judgement
from platehide.crowd.matching import answer_right
from platehide.crowd.overlap import slots_wanted
from platehide.crowd.rules import Decision, Watcher
from platehide.crowd.sequential import ControlPolicy
from platehide.crowd.skills import skill_of

_log = logging.getLogger("platehide.annotate")
BATCH = 64
BATCH_SECONDS = 0.05
REFRESH_MIN = 100
REFRESH_SHARE = 0.05


@dataclass
class _Project:
    """What the pass keeps in memory of a project between batches."""

    settings: ProjectSettings
    model: CrowdModel
    since_refresh: int
    judgements: int
    watchers: dict[str, Watcher] = field(default_factory=dict)


def label_row(label: Label) -> dict[str, Any]:
    """A label's plates as stored and exported."""
    return {
        "plates": [
            {
                "quad": [[round(float(x), 2), round(float(y), 2)] for x, y in p.quad],
                "agreement": round(float(p.agreement), 4),
                "spread_px": round(float(p.spread_px), 3),
            }
            for p in label.plates
        ]
    }


class Deriver:
    """Draws conclusions from the log, one project at a time, in log order."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._projects: dict[str, _Project] = {}
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None

    # Running ---------------------------------------------------------------------------

    def start(self) -> None:
        """Run in a thread from now on, first catching up."""
        self._thread = threading.Thread(target=self._run, name="derive", daemon=True)
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand and end the thread."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """The log grew (or settings changed)."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(timeout=5.0)
            self._wake.clear()
            try:
                self.catch_up()
            except Exception:
                # Nothing is lost: the cursor has not moved. The operator sees why it stands.
                _log.exception("deriving stopped; trying again in 5 s")

    def catch_up(self) -> int:
        """Process everything new in the log; returns the number of entries."""
        total = 0
        with self.db.read() as connection:
            projects = list(connection.execute(sa.select(schema.projects.c.id)).scalars())
        for project_id in projects:
            while not self._stop:
                count = self.step(project_id)
                total += count
                if count == 0:
                    break
        return total

    def forget(self, project_id: str) -> None:
        """Settings changed: read them again."""
        with self._turn:
            self._projects.pop(project_id, None)

    # One batch -------------------------------------------------------------------------

    def step(self, project_id: str) -> int:
        """Process a batch of new log entries of a project; returns how many."""
        with self._turn:
            try:
                return self._step(project_id)
            except BaseException:
                # What is kept in memory may be ahead of the transaction that was rolled back.
                self._projects.pop(project_id, None)
                raise

    def _step(self, project_id: str) -> int:
        done = 0
        g = schema.log
        with self.db.write(project_id) as connection:
            project = self._project(connection, project_id)
            cursor = _get(connection, f"cursor:{project_id}", 0)
            rows = connection.execute(
                sa.select(g)
                .where(g.c.project_id == project_id, g.c.seq > cursor)
                .order_by(g.c.seq)
                .limit(BATCH)
            ).all()
            # Annotators wait while this transaction holds the writers' lock: keep it short.
            end = time.monotonic() + BATCH_SECONDS
            for row in rows:
                self._entry(connection, project, row)
                done += 1
                if project.since_refresh >= self._refresh_at(project) or time.monotonic() > end:
                    break
            if done:
                _put(connection, f"cursor:{project_id}", int(rows[done - 1].seq))
                _put(connection, f"pace:{project_id}", [project.since_refresh, project.judgements])
        if project.since_refresh >= self._refresh_at(project):
            self._refresh(project_id, project)
        return done

    def _refresh_at(self, project: _Project) -> float:
        return max(REFRESH_MIN, REFRESH_SHARE * project.judgements)

    def _project(self, connection: Connection, project_id: str) -> _Project:
        known = self._projects.get(project_id)
        if known is not None:
            return known
        p = schema.projects
        stored = connection.execute(
            sa.select(p.c.settings).where(p.c.id == project_id)
        ).scalar_one()
        pace = _get(connection, f"pace:{project_id}", [0, 0])
        model = _get(connection, f"model:{project_id}", None)
        known = _Project(
            settings=ProjectSettings.from_json(stored),
            model=CrowdModel(**model) if model else initial_model(),
            since_refresh=pace[0],
            judgements=pace[1],
        )
        self._projects[project_id] = known
        return known

    # Entries ---------------------------------------------------------------------------

    def _entry(self, connection: Connection, project: _Project, row: AnyRow) -> None:
        book = WorkerBook(connection, row.project_id, project.settings, row.at, project.watchers)
        match row.kind:
            case "judgement":
                self._judgement(connection, project, book, row)
                project.since_refresh += 1
                project.judgements += 1
            case "training":
                book.event(row.actor_id, "training", float(row.body["right"]), row.photo_id)
            case "captcha":
                book.event(row.actor_id, "captcha", float(row.body["right"]))
            case "ban":
                worker = row.body["worker"]
                self._ban(connection, project, book, worker, row.body["reason"], row.seq)
            case "unban":
                photos = book.unban(row.body["worker"])
                self._relabel_all(connection, project, photos, row.seq, row.at)
            case "drop":
                self._drop(connection, project, book, row)
            case "expert" | "accept":
                self._decide(connection, project, book, row)
            case "reopen":
                s = schema.photo_state
                connection.execute(
                    s.update().where(s.c.photo_id == row.photo_id).values(final=False)
                )
                self._reopen(connection, project, row)
            case "rules":
                project.settings = ProjectSettings.from_json(row.body["settings"])
                book.settings = project.settings
                for worker in book.workers():
                    book.look_back(worker)
            case _:
                raise ValueError(f"log entry {row.seq} has the unknown kind {row.kind!r}")
        while decisions := book.take_decisions():
            for decision in decisions:
                self._carry_out(connection, project, book, decision, row.seq)

    def _judgement(
        self, connection: Connection, project: _Project, book: WorkerBook, row: AnyRow
    ) -> None:
        body = row.body
        worker = row.actor_id
        a, p = schema.assignments, schema.photos
        state = connection.execute(
            sa.select(a.c.state).where(a.c.id == row.assignment_id)
        ).scalar_one()
        seconds = body["seconds"]  # not known of some imported answers
        book.answered(worker, seconds or 0.0, body["price"])
        if state == "dropped":  # a ban was quicker than this entry
            return
        if book.is_banned(worker):
            book.drop_assignment(row.assignment_id)
            return
        skip = bool(body["answer"].get("skip"))
        if skip:
            book.event(worker, "skipped", 1.0, row.photo_id)
        if seconds is not None:
            book.event(worker, "submitted", seconds, row.photo_id)
        book.event(worker, "paid", body["price"], row.photo_id)
        photo = connection.execute(
            sa.select(p.c.purpose, p.c.truth).where(p.c.id == row.photo_id)
        ).one()
        if photo.purpose == "control":
            plates = () if skip else quads(body["answer"]["plates"])
            right = not skip and answer_right(plates, quads(photo.truth["plates"]))
            control = book.control(worker, right, ControlPolicy())
            book.event(worker, "control", float(right), row.photo_id)
            if control.verdict == "banned" and not book.is_pardoned(worker):
                self._ban(connection, project, book, worker, control.reason, row.seq)
        else:
            self._relabel(connection, project, row.photo_id, row.seq, row.at, book)

    def _carry_out(
        self,
        connection: Connection,
        project: _Project,
        book: WorkerBook,
        decision: Decision,
        seq: int,
    ) -> None:
        """Do what a rule decided."""
        worker, action = decision.worker, decision.action
        until = None if action.seconds is None else decision.at + action.seconds
        match action.kind:
            case "ban":
                if not book.is_banned(worker):
                    self._ban(connection, project, book, worker, decision.reason, seq, until=until)
            case "pause":
                if not book.is_banned(worker):
                    book.pause(worker, until or decision.at + 3600.0, decision.reason)
            case "captcha":
                book.ask_captcha(worker)
            case "reject":
                photos = book.drop_all(worker)
                self._relabel_all(connection, project, photos, seq, book.now)
            case "more_overlap":
                self._more(connection, worker, int(decision.value or action.value or 1))
            case "set_skill":
                book.set_skill(worker, float(decision.value or action.value or 0.0))
            case _:
                pass  # accept and flag: the decision in the worker's table is the effect

    def _ban(
        self,
        connection: Connection,
        project: _Project,
        book: WorkerBook,
        worker: str,
        reason: str,
        seq: int,
        *,
        until: float | None = None,
    ) -> None:
        photos = book.ban(worker, reason, until)
        self._relabel_all(connection, project, photos, seq, book.now)

    def _drop(
        self, connection: Connection, project: _Project, book: WorkerBook, row: AnyRow
    ) -> None:
        worker = book.drop_assignment(row.assignment_id)
        if worker is not None:
            book.event(worker, "assessed", 0.0, row.photo_id)
            self._relabel(connection, project, row.photo_id, row.seq, row.at, book)

    def _decide(
        self, connection: Connection, project: _Project, book: WorkerBook, row: AnyRow
    ) -> None:
        """A person settled the photo: an expert's plates, or the label accepted as it is."""
        s = schema.photo_state
        current = connection.execute(
            sa.select(s.c.result).where(s.c.photo_id == row.photo_id)
        ).scalar()
        if row.kind == "expert":
            plates = row.body["plates"]
            result = {"plates": [{"quad": q, "agreement": 1.0, "spread_px": 0.0} for q in plates]}
        else:
            result = current or {"plates": []}
            plates = [p["quad"] for p in result["plates"]]
        connection.execute(
            s.update()
            .where(s.c.photo_id == row.photo_id)
            .values(
                status="agreed",
                final=True,
                free=0,
                result=result,
                posterior=1.0,
                agreement=1.0,
                updated_at=row.at,
            )
        )
        truth = quads(plates)
        for j in photo_judgements(connection, row.project_id, row.photo_id, row.seq):
            right = not j.skip and answer_right(j.plates, truth)
            book.event(j.worker, "assessed", float(right), row.photo_id)

    def _reopen(self, connection: Connection, project: _Project, row: AnyRow) -> None:
        s = schema.photo_state
        self._relabel(connection, project, row.photo_id, row.seq, row.at, None)
        state = connection.execute(
            sa.select(s.c.status, s.c.judgements).where(s.c.photo_id == row.photo_id)
        ).one()
        if state.status != "open":  # one more answer although the rules would not ask for it
            connection.execute(
                s.update()
                .where(s.c.photo_id == row.photo_id)
                .values(status="open", wanted=state.judgements + 1)
            )
            refresh_free(connection, row.photo_id)

    def _more(self, connection: Connection, worker: str, count: int) -> None:
        """Ask for further answers on the open photos that a worker answered."""
        s, a = schema.photo_state, schema.assignments
        mine = sa.select(a.c.photo_id).where(
            a.c.worker_id == worker, a.c.kind == "task", a.c.state == "submitted"
        )
        photos = connection.execute(
            sa.select(s.c.photo_id).where(s.c.photo_id.in_(mine), s.c.status == "open")
        ).scalars()
        for photo_id in list(photos):
            connection.execute(
                s.update().where(s.c.photo_id == photo_id).values(wanted=s.c.wanted + count)
            )
            refresh_free(connection, photo_id)

    # Labels ----------------------------------------------------------------------------

    def _relabel_all(
        self, connection: Connection, project: _Project, photos: set[str], seq: int, at: float
    ) -> None:
        for photo_id in sorted(photos):
            self._relabel(connection, project, photo_id, seq, at, None)

    def _relabel(
        self,
        connection: Connection,
        project: _Project,
        photo_id: str,
        seq: int,
        at: float,
        book: WorkerBook | None,
    ) -> None:
        s, p = schema.photo_state, schema.photos
        found = connection.execute(
            sa.select(s.c.status, s.c.final, p.c.project_id)
            .join(p, p.c.id == s.c.photo_id)
            .where(s.c.photo_id == photo_id)
        ).first()
        if found is None or found.final:
            return
        judgements = photo_judgements(connection, found.project_id, photo_id, seq)
        policy = project.settings.aggregate_policy()
        model = live_model(connection, found.project_id, project.model, judgements)
        label = aggregate_task(judgements, model, policy) if judgements else None
        store_label(connection, project.settings, photo_id, label, len(judgements), at)
        if book is not None and label is not None and label.status == "agreed":
            for j in judgements if found.status != "agreed" else []:
                others = [o for o in judgements if o.worker != j.worker]
                # Left out of the label that it is compared with; alone, against the label.
                rest = aggregate_task(others, model, policy) if others else label
                wanted = tuple(q.quad for q in rest.plates)
                agrees = not j.skip and answer_right(j.plates, wanted)
                book.compared(j.worker, agrees, photo_id)

    def _refresh(self, project_id: str, project: _Project) -> None:
        """All labels and skills again, from all that counts so far. No lock while computing."""
        with self.db.read() as connection:
            upto = _get(connection, f"cursor:{project_id}", 0)
            judgements = counted_judgements(connection, project_id, upto)
            last = connection.execute(
                sa.select(schema.log.c.at).where(schema.log.c.seq == upto)
            ).scalar()
            banned = bans(connection, project_id)
        result: Aggregation = aggregate(
            judgements, project.settings.aggregate_policy(), banned=banned
        )
        counts: dict[str, int] = {}
        for j in judgements:
            counts[j.task] = counts.get(j.task, 0) + 1
        with self.db.write(project_id) as connection:
            now = float(last or 0.0)
            project.model = result.model
            project.since_refresh = 0
            _put(connection, f"model:{project_id}", _plain(asdict(result.model)))
            _put(connection, f"pace:{project_id}", [0, project.judgements])
            s = schema.photo_state
            kept = {
                r.photo_id: r
                for r in connection.execute(sa.select(s).where(s.c.project_id == project_id))
            }
            for label in result.labels:
                old = kept.get(label.task)
                if old is None or old.final:
                    continue
                store_label(
                    connection, project.settings, label.task, label, counts[label.task], now, old
                )
            book = WorkerBook(connection, project_id, project.settings, now, project.watchers)
            for report in result.workers:
                book.peers(
                    report.worker,
                    report.skill,
                    result.peer_right[report.worker],
                    result.peer_total[report.worker],
                )
                settled = book.is_banned(report.worker) or book.is_pardoned(report.worker)
                if report.banned and not settled:
                    self._ban(connection, project, book, report.worker, report.reason, upto)

    def refresh(self, project_id: str) -> None:
        """Look at the whole crowd now, not only after so many answers."""
        with self._turn:
            with self.db.read() as connection:
                project = self._project(connection, project_id)
            self._refresh(project_id, project)

    # Again from the start --------------------------------------------------------------

    def recompute(self, project_id: str) -> None:
        """Throw away what is derived of a project and compute it again from the log."""
        with self._turn:
            self._projects.pop(project_id, None)
            with self.db.write(project_id) as connection:
                reset(connection, project_id)
        while self.step(project_id):
            pass


def live_model(
    connection: Connection, project_id: str, model: CrowdModel, judgements: list[Judgement]
) -> CrowdModel:
    """The model with the newest skills of the workers of some judgements: the control answers
    so far, and the comparison with peers as of the last look at the whole crowd.
    """
    w = schema.worker_state
    rows = connection.execute(
        sa.select(
            w.c.worker_id, w.c.golden_right, w.c.golden_total, w.c.peer_right, w.c.peer_total
        ).where(w.c.project_id == project_id, w.c.worker_id.in_({j.worker for j in judgements}))
    )
    skill = {
        r.worker_id: skill_of(
            r.golden_right, r.golden_total, r.peer_right, r.peer_total, model.default_skill
        )
        for r in rows
    }
    return replace(model, skill=skill)


def store_label(
    connection: Connection,
    settings: ProjectSettings,
    photo_id: str,
    label: Label | None,
    counted: int,
    at: float,
    old: AnyRow | None = None,
) -> None:
    """Write a photo's label and how many answers it now wants."""
    s = schema.photo_state
    more = slots_wanted(label, counted, 0, settings.overlap_policy())
    agreement = 0.0
    if label is not None and label.plates:
        agreement = min(float(p.agreement) for p in label.plates)
    elif label is not None and label.status == "agreed":
        agreement = float(label.posterior)
    values: dict[str, Any] = {
        "status": "open" if label is None else label.status,
        "wanted": counted + more,
        "judgements": counted,
        "posterior": 0.0 if label is None else round(float(label.posterior), 6),
        "agreement": round(agreement, 6),
        "result": None if label is None else label_row(label),
    }
    if old is not None and all(getattr(old, k) == v for k, v in values.items()):
        return
    connection.execute(s.update().where(s.c.photo_id == photo_id).values(**values, updated_at=at))
    refresh_free(connection, photo_id)


def bans(connection: Connection, project_id: str) -> dict[str, str]:
    """Banned workers (a pause is no ban) and the reasons."""
    w = schema.worker_state
    rows = connection.execute(
        sa.select(w.c.worker_id, w.c.reason).where(
            w.c.project_id == project_id, w.c.banned.is_(True), w.c.banned_until.is_(None)
        )
    )
    return {r.worker_id: r.reason for r in rows}


def reset(connection: Connection, project_id: str) -> None:
    """Put what is derived of a project back to the state before the first answer."""
    a, s = schema.assignments, schema.photo_state
    for table in (schema.events, schema.decisions, schema.worker_state):
        connection.execute(table.delete().where(table.c.project_id == project_id))
    keys = [f"{name}:{project_id}" for name in ("cursor", "pace", "model")]
    connection.execute(schema.meta.delete().where(schema.meta.c.key.in_(keys)))
    dropped = connection.execute(
        sa.select(a.c.id, a.c.photo_id, a.c.kind).where(
            a.c.project_id == project_id, a.c.state == "dropped"
        )
    ).all()
    for row in dropped:
        restore(connection, row.id, row.photo_id, row.kind)
    p = schema.projects
    stored = connection.execute(sa.select(p.c.settings).where(p.c.id == project_id)).scalar_one()
    first = ProjectSettings.from_json(stored).overlap_min
    connection.execute(
        s.update()
        .where(s.c.project_id == project_id)
        .values(
            status="open",
            final=False,
            wanted=first,
            free=first,
            judgements=0,
            posterior=0.0,
            agreement=0.0,
            result=None,
            updated_at=0.0,
        )
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=float))


def _get(connection: Connection, key: str, default: Any) -> Any:
    m = schema.meta
    text = connection.execute(sa.select(m.c.value).where(m.c.key == key)).scalar()
    return default if text is None else json.loads(text)


def _put(connection: Connection, key: str, value: Any) -> None:
    upsert(connection, schema.meta, ("key",), {"key": key, "value": json.dumps(value)})
