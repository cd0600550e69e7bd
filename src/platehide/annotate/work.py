"""Handing out work and taking answers: leases, control tasks, training, captcha, caps.

What a worker's browser gets of a task is an id without meaning, the photo and its size. Control
tasks take exactly the same path as ordinary ones: same fields, same price, same database work,
and what an answer leads to is decided later by :mod:`platehide.annotate.derive`, so that not
even the time of the reply tells them apart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import captcha, schema
from platehide.annotate.answers import read_answer, tell
from platehide.annotate.db import AnyRow, Database, new_id, serialise
from platehide.annotate.faults import BadAnswer, Conflict, Denied, NotFound
from platehide.annotate.photo_states import control_state, lowest_slot, refresh_free
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.overlap import control_due

DESK = 2
"""Leases that a worker holds: the task on screen and the preloaded one."""
TRAINING_ATTEMPTS = 3
_DAY = 86_400.0


@dataclass(frozen=True)
class Submitted:
    """What came of an answer. ``feedback`` only for training tasks."""

    duplicate: bool
    feedback: dict[str, Any] | None


class WorkDesk:
    """The workers' side of the store.

    Args:
        clock: Unix seconds; replaced in tests and simulations.
        rng: which task comes next; the system's unpredictable source unless simulated.
        wake: called after the log grew.
        desk: leases that a worker holds at a time.
    """

    def __init__(
        self,
        db: Database,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        wake: Callable[[], None] = lambda: None,
        desk: int = DESK,
    ) -> None:
        self.db = db
        self.desk = desk
        self.clock = clock
        self.rng = rng or random.SystemRandom()
        self.wake = wake

    # What the page shows ---------------------------------------------------------------

    def view(self, worker_id: str, project_id: str) -> dict[str, Any]:
        """Tasks on the worker's desk, topped up to two, with progress; or why there are none."""
        with self.db.write(project_id) as connection:
            return self._view(connection, worker_id, project_id, self.clock())

    def _view(
        self, connection: Connection, worker_id: str, project_id: str, now: float
    ) -> dict[str, Any]:
        project, member = self._membership(connection, worker_id, project_id)
        settings = ProjectSettings.from_json(project.settings)
        progress = self._progress(connection, worker_id, project_id, settings, member, now)
        reply: dict[str, Any] = {
            "project": {"id": project.id, "name": project.name},
            "progress": progress,
            "tasks": [],
            "captcha": None,
        }

        def stopped(state: str, message: str) -> dict[str, Any]:
            return reply | {"state": state, "message": message}

        banned = _ban(connection, worker_id, project_id, now)
        if banned:
            return stopped("banned", "You cannot take more tasks in this project.")
        if project.status != "active":
            return stopped("paused", "This project is paused. Please come back later.")
        if member.captcha_due:
            riddle = self._open_captcha(connection, worker_id, project_id, now)
            return stopped("captcha", "") | {"captcha": {"id": riddle}}
        self._expire(connection, project_id, now)
        if self._needs_training(connection, member, project_id, settings):
            tasks = self._training_desk(connection, worker_id, project_id, settings, now)
            state = "training"
        else:
            tasks, state = self._desk(connection, worker_id, project_id, settings, progress, now)
            if state == "cap":
                return stopped("cap", "You have reached today's limit. Thank you; see you later.")
        if not tasks:
            return stopped("waiting", "There is nothing to do right now. Please look in later.")
        reply["tasks"] = [self._public(t, settings, now) for t in tasks]
        return reply | {"state": state, "message": ""}

    def _public(self, row: AnyRow, settings: ProjectSettings, now: float) -> dict[str, Any]:
        """The only task fields that ever leave for a worker's browser."""
        proposal = None
        if row.proposed and row.kind == "task" and row.proposal:
            plates = row.proposal["plates"]
            proposal = plates if settings.several_plates else plates[:1]
        return {
            "id": row.id,
            "width": row.width,
            "height": row.height,
            "training": row.kind == "training",
            "proposal": proposal,
            "expires_in": round(max(0.0, row.expires_at - now)),
        }

    def _progress(
        self,
        connection: Connection,
        worker_id: str,
        project_id: str,
        settings: ProjectSettings,
        member: AnyRow,
        now: float,
    ) -> dict[str, Any]:
        a = schema.assignments
        today = sa.case((a.c.submitted_at >= now - now % _DAY, 1), else_=0)
        done, earned, done_today, earned_today = connection.execute(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(a.c.price), 0.0),
                sa.func.coalesce(sa.func.sum(today), 0),
                sa.func.coalesce(sa.func.sum(today * a.c.price), 0.0),
            ).where(
                a.c.worker_id == worker_id,
                a.c.project_id == project_id,
                a.c.state == "submitted",
                a.c.kind != "training",
            )
        ).one()
        return {
            "done": int(done),
            "done_today": int(done_today),
            "earned": round(float(earned), 4),
            "earned_today": round(float(earned_today), 4),
            "price": settings.price,
            "currency": settings.currency,
            "income_cap": settings.income_cap,
            "trained": int(member.trained),
        }

    def _membership(
        self, connection: Connection, worker_id: str, project_id: str
    ) -> tuple[AnyRow, AnyRow]:
        p, m = schema.projects, schema.members
        project = connection.execute(sa.select(p).where(p.c.id == project_id)).first()
        member = connection.execute(
            sa.select(m).where(m.c.project_id == project_id, m.c.user_id == worker_id)
        ).first()
        if project is None or member is None or project.status == "draft":
            raise NotFound("no such project, or you have not been invited to it")
        return project, member

    # Leases ----------------------------------------------------------------------------

    def _held(self, connection: Connection, worker_id: str, project_id: str) -> list[AnyRow]:
        a, p = schema.assignments, schema.photos
        return list(
            connection.execute(
                sa.select(a, p.c.width, p.c.height, p.c.proposal)
                .join(p, p.c.id == a.c.photo_id)
                .where(
                    a.c.worker_id == worker_id,
                    a.c.project_id == project_id,
                    a.c.state == "leased",
                )
                .order_by(a.c.leased_at)
            )
        )

    def _expire(self, connection: Connection, project_id: str, now: float) -> None:
        a = schema.assignments
        late = connection.execute(
            sa.select(a.c.id, a.c.photo_id).where(
                a.c.project_id == project_id, a.c.state == "leased", a.c.expires_at < now
            )
        ).all()
        if not late:
            return
        connection.execute(
            a.update().where(a.c.id.in_([r.id for r in late])).values(state="expired")
        )
        for photo_id in {r.photo_id for r in late}:
            refresh_free(connection, photo_id)

    def _desk(
        self,
        connection: Connection,
        worker_id: str,
        project_id: str,
        settings: ProjectSettings,
        progress: dict[str, Any],
        now: float,
    ) -> tuple[list[AnyRow], str]:
        held = self._held(connection, worker_id, project_id)
        room = self.desk - len(held)
        if settings.income_cap and settings.price:
            left = settings.income_cap - progress["earned_today"] + 1e-9
            affordable = int(left / settings.price) - len(held)
            room = min(room, affordable)
            if not held and room <= 0:
                return [], "cap"
        taken = 0
        for index in range(max(0, room)):
            if not self._lease_next(
                connection, worker_id, project_id, settings, now + index * 1e-6
            ):
                break
            taken += 1
        return (self._held(connection, worker_id, project_id) if taken else held), "work"

    def _lease_next(
        self,
        connection: Connection,
        worker_id: str,
        project_id: str,
        settings: ProjectSettings,
        now: float,
    ) -> bool:
        photo = self._free_photo(connection, worker_id, project_id)
        if photo is None:
            return False
        # Drawn in any case, and the control photo looked up in any case: same work, same time.
        control = self._unseen(connection, worker_id, project_id, "control")
        state = control_state(connection, worker_id, project_id)
        due = control_due(state, self.rng.random(), settings.overlap_policy())
        if due and control is not None:
            self._insert(connection, worker_id, project_id, control, "control", -1, settings, now)
            return True
        slot = lowest_slot(connection, photo.id)
        proposed = bool(
            slot == 0 and photo.proposal and self.rng.random() < settings.proposal_share
        )
        self._insert(
            connection, worker_id, project_id, photo.id, "task", slot, settings, now, proposed
        )
        refresh_free(connection, photo.id)
        return True

    def _free_photo(self, connection: Connection, worker_id: str, project_id: str) -> AnyRow | None:
        s, a, p = schema.photo_state, schema.assignments, schema.photos
        seen = sa.exists().where(
            a.c.photo_id == s.c.photo_id, a.c.worker_id == worker_id, a.c.state != "expired"
        )
        return connection.execute(
            sa.select(p.c.id, p.c.proposal)
            .join(s, s.c.photo_id == p.c.id)
            .where(s.c.project_id == project_id, s.c.free > 0, ~seen)
            .order_by(s.c.rank, s.c.photo_id)
            .limit(1)
        ).first()

    def _unseen(
        self, connection: Connection, worker_id: str, project_id: str, purpose: str
    ) -> str | None:
        """A random photo of that purpose that the worker has not had yet."""
        a, p = schema.assignments, schema.photos
        seen = sa.exists().where(
            a.c.photo_id == p.c.id, a.c.worker_id == worker_id, a.c.state != "expired"
        )
        where = (p.c.project_id == project_id, p.c.purpose == purpose, ~seen)
        count = connection.execute(sa.select(sa.func.count()).select_from(p).where(*where)).scalar()
        if not count:
            return None
        pick = self.rng.randrange(count)
        found = connection.execute(
            sa.select(p.c.id).where(*where).order_by(p.c.id).offset(pick).limit(1)
        ).scalar_one()
        return str(found)

    def _insert(
        self,
        connection: Connection,
        worker_id: str,
        project_id: str,
        photo_id: str,
        kind: str,
        slot: int,
        settings: ProjectSettings,
        now: float,
        proposed: bool = False,
    ) -> None:
        connection.execute(
            schema.assignments.insert().values(
                id=new_id(),
                project_id=project_id,
                photo_id=photo_id,
                worker_id=worker_id,
                kind=kind,
                slot=slot,
                state="leased",
                proposed=proposed,
                price=0.0 if kind == "training" else settings.price,
                leased_at=now,
                expires_at=now + settings.lease_seconds,
                attempts=0,
            )
        )

    # Training --------------------------------------------------------------------------

    def _needs_training(
        self, connection: Connection, member: AnyRow, project_id: str, settings: ProjectSettings
    ) -> bool:
        if member.trained >= settings.training_tasks:
            return False
        p = schema.photos
        there = connection.execute(
            sa.select(sa.func.count()).where(
                p.c.project_id == project_id, p.c.purpose == "training"
            )
        ).scalar_one()
        return bool(member.trained < min(settings.training_tasks, there))

    def _training_desk(
        self,
        connection: Connection,
        worker_id: str,
        project_id: str,
        settings: ProjectSettings,
        now: float,
    ) -> list[AnyRow]:
        held = self._held(connection, worker_id, project_id)
        training = [r for r in held if r.kind == "training"]
        if not training:
            photo_id = self._unseen(connection, worker_id, project_id, "training")
            if photo_id is None:
                return []
            self._insert(connection, worker_id, project_id, photo_id, "training", -1, settings, now)
            training = [
                r for r in self._held(connection, worker_id, project_id) if r.kind == "training"
            ]
        return training[:1]

    def _train(
        self,
        connection: Connection,
        task: AnyRow,
        client_id: str,
        answer: dict[str, Any],
        now: float,
    ) -> dict[str, Any]:
        """Check a training answer; the task stays until it is right or tried three times."""
        feedback = tell(answer, task.truth)
        attempts = task.attempts + 1
        over = feedback["right"] or attempts >= TRAINING_ATTEMPTS
        a, m = schema.assignments, schema.members
        values: dict[str, Any] = {"attempts": attempts, "client_id": client_id}
        if over:
            values |= {"state": "submitted", "submitted_at": now}
            connection.execute(
                m.update()
                .where(m.c.project_id == task.project_id, m.c.user_id == task.worker_id)
                .values(trained=m.c.trained + 1, last_submit_at=now)
            )
        connection.execute(a.update().where(a.c.id == task.id).values(**values))
        self._log(connection, now, task, "training", {"answer": answer, "right": feedback["right"]})
        return feedback | {"over": over}

    # Answers ---------------------------------------------------------------------------

    def submit(
        self, worker_id: str, assignment_id: str, client_id: str, answer: object
    ) -> tuple[Submitted, dict[str, Any]]:
        """Take one answer; returns what came of it and the next view.

        The same ``client_id`` again (a retry over a bad line) changes nothing and says so.

        Raises:
            NotFound: no such task on this worker's desk.
            Conflict: already answered otherwise, or the lease ended and the slot is gone.
            BadAnswer: the answer makes no sense; the lease stays.
            Denied: banned, or a captcha is due first.
        """
        if not 8 <= len(client_id) <= 64 or not client_id.isascii() or not client_id.isprintable():
            raise BadAnswer("client_id takes 8 to 64 ASCII characters")
        with self.db.write() as connection:
            now = self.clock()
            task = self._task(connection, worker_id, assignment_id)
            serialise(connection, task.project_id)
            task = self._task(connection, worker_id, assignment_id)
            settings = ProjectSettings.from_json(task.settings)
            if task.state in {"submitted", "dropped"} or task.client_id == client_id:
                if task.client_id != client_id:
                    raise Conflict("this task was already answered", code="already_answered")
                return (
                    self._repeated(task, answer, settings),
                    self._view(connection, worker_id, task.project_id, now),
                )
            if _ban(connection, worker_id, task.project_id, now):
                raise Denied("you cannot take part in this project any more", code="banned")
            if task.captcha_due:
                raise Denied("a captcha is due first", code="captcha_due")
            clean = read_answer(answer, task.width, task.height, several=settings.several_plates)
            if task.state == "expired":
                self._take_back(connection, task)
            if task.kind == "training":
                feedback = self._train(connection, task, client_id, clean, now)
                done = Submitted(False, feedback)
            else:
                self._record(connection, task, client_id, clean, settings, now)
                done = Submitted(False, None)
            view = self._view(connection, worker_id, task.project_id, now)
        self.wake()
        return done, view

    def _repeated(self, task: AnyRow, answer: object, settings: ProjectSettings) -> Submitted:
        if task.kind != "training":
            return Submitted(True, None)
        clean = read_answer(answer, task.width, task.height, several=settings.several_plates)
        over = task.state == "submitted"
        return Submitted(True, tell(clean, task.truth) | {"over": over})

    def _task(self, connection: Connection, worker_id: str, assignment_id: str) -> AnyRow:
        a, p, j, m = schema.assignments, schema.photos, schema.projects, schema.members
        task = connection.execute(
            sa.select(
                a,
                p.c.width,
                p.c.height,
                p.c.truth,
                j.c.settings,
                m.c.captcha_due,
                m.c.since_captcha,
                m.c.last_submit_at,
            )
            .join(p, p.c.id == a.c.photo_id)
            .join(j, j.c.id == a.c.project_id)
            .join(m, sa.and_(m.c.project_id == a.c.project_id, m.c.user_id == a.c.worker_id))
            .where(a.c.id == assignment_id, a.c.worker_id == worker_id)
        ).first()
        if task is None:
            raise NotFound("no such task on your desk")
        return task

    def _take_back(self, connection: Connection, task: AnyRow) -> None:
        """A lease ran out: the late answer still counts if nobody has the slot now."""
        a, s = schema.assignments, schema.photo_state
        if task.kind == "task":
            free = connection.execute(
                sa.select(s.c.free).where(s.c.photo_id == task.photo_id)
            ).scalar()
            if not free:
                raise Conflict(
                    "this took too long and the photo went to someone else", code="lease_lost"
                )
        again = connection.execute(
            sa.select(a.c.id).where(
                a.c.photo_id == task.photo_id,
                a.c.worker_id == task.worker_id,
                a.c.state != "expired",
            )
        ).first()
        if again is not None:
            raise Conflict("this took too long; you have the photo again", code="lease_lost")
        slot = lowest_slot(connection, task.photo_id) if task.kind == "task" else -1
        connection.execute(a.update().where(a.c.id == task.id).values(state="leased", slot=slot))

    def _record(
        self,
        connection: Connection,
        task: AnyRow,
        client_id: str,
        answer: dict[str, Any],
        settings: ProjectSettings,
        now: float,
    ) -> None:
        a, m = schema.assignments, schema.members
        # A preloaded task can be looked at only once the one before is done.
        begun = max(task.leased_at, task.last_submit_at or 0.0)
        seconds = round(max(0.0, now - begun), 3)
        self._log(
            connection,
            now,
            task,
            "judgement",
            {
                "answer": answer,
                "seconds": seconds,
                "client_id": client_id,
                "kind": task.kind,
                "proposed": bool(task.proposed),
                "price": task.price,
            },
        )
        connection.execute(
            a.update()
            .where(a.c.id == task.id)
            .values(state="submitted", submitted_at=now, client_id=client_id)
        )
        since = task.since_captcha + 1
        due = 0
        if settings.captcha_every:
            jitter = settings.captcha_every // 4
            due = int(since >= settings.captcha_every + self.rng.randint(-jitter, jitter))
        connection.execute(
            m.update()
            .where(m.c.project_id == task.project_id, m.c.user_id == task.worker_id)
            .values(last_submit_at=now, since_captcha=since, captcha_due=due)
        )
        # Being active renews what is left on the desk.
        connection.execute(
            a.update()
            .where(
                a.c.worker_id == task.worker_id,
                a.c.project_id == task.project_id,
                a.c.state == "leased",
            )
            .values(expires_at=now + settings.lease_seconds)
        )

    def _log(
        self, connection: Connection, now: float, task: AnyRow, kind: str, body: dict[str, Any]
    ) -> None:
        connection.execute(
            schema.log.insert().values(
                at=now,
                project_id=task.project_id,
                kind=kind,
                actor_id=task.worker_id,
                photo_id=task.photo_id,
                assignment_id=task.id,
                body=body,
            )
        )

    # Captcha ---------------------------------------------------------------------------

    def _open_captcha(
        self, connection: Connection, worker_id: str, project_id: str, now: float
    ) -> str:
        c = schema.captchas
        current = connection.execute(
            sa.select(c.c.id).where(
                c.c.user_id == worker_id,
                c.c.project_id == project_id,
                c.c.open.is_(True),
                c.c.created_at > now - captcha.LIFETIME_SECONDS,
            )
        ).scalar()
        if current is not None:
            return str(current)
        return self._new_captcha(connection, worker_id, project_id, now)

    def _new_captcha(
        self, connection: Connection, worker_id: str, project_id: str, now: float
    ) -> str:
        c = schema.captchas
        connection.execute(c.delete().where(c.c.user_id == worker_id, c.c.project_id == project_id))
        riddle, captcha_id = captcha.new_riddle(), new_id()
        connection.execute(
            c.insert().values(
                id=captcha_id,
                user_id=worker_id,
                project_id=project_id,
                picture=riddle.picture,
                sound=riddle.sound,
                created_at=now,
                open=True,
            )
        )
        return captcha_id

    def riddle(self, worker_id: str, captcha_id: str) -> captcha.Riddle:
        """The riddle behind a captcha that is this worker's and still open."""
        c = schema.captchas
        with self.db.read() as connection:
            row = connection.execute(
                sa.select(c).where(
                    c.c.id == captcha_id, c.c.user_id == worker_id, c.c.open.is_(True)
                )
            ).first()
        if row is None or row.created_at < self.clock() - captcha.LIFETIME_SECONDS:
            raise NotFound("this captcha is over; a new one is ready")
        return captcha.Riddle(row.picture, row.sound)

    def solve(self, worker_id: str, captcha_id: str, text: str) -> tuple[bool, dict[str, Any]]:
        """Check a captcha; a wrong answer brings a new one. Returns (right, next view)."""
        riddle = self.riddle(worker_id, captcha_id)
        right = captcha.is_right(riddle, text)
        c, m = schema.captchas, schema.members
        with self.db.write() as connection:
            now = self.clock()
            project_id = connection.execute(
                sa.select(c.c.project_id).where(c.c.id == captcha_id, c.c.open.is_(True))
            ).scalar()
            if project_id is None:
                raise NotFound("this captcha is over; a new one is ready")
            connection.execute(
                schema.log.insert().values(
                    at=now,
                    project_id=project_id,
                    kind="captcha",
                    actor_id=worker_id,
                    body={"right": right},
                )
            )
            connection.execute(c.delete().where(c.c.id == captcha_id))
            if right:
                connection.execute(
                    m.update()
                    .where(m.c.project_id == project_id, m.c.user_id == worker_id)
                    .values(captcha_due=0, since_captcha=0, last_submit_at=now)
                )
            view = self._view(connection, worker_id, project_id, now)
        self.wake()
        return right, view

    # Photos ----------------------------------------------------------------------------

    def photo_of(self, worker_id: str, assignment_id: str) -> tuple[str, str]:
        """(blob, media type) of a photo on the worker's own desk."""
        a, p = schema.assignments, schema.photos
        with self.db.read() as connection:
            row = connection.execute(
                sa.select(p.c.blob, p.c.media_type)
                .join(a, a.c.photo_id == p.c.id)
                .where(
                    a.c.id == assignment_id,
                    a.c.worker_id == worker_id,
                    a.c.state == "leased",
                )
            ).first()
        if row is None:
            raise NotFound("no such task on your desk")
        return str(row.blob), str(row.media_type)


def _ban(connection: Connection, worker_id: str, project_id: str, now: float) -> bool:
    w = schema.worker_state
    row = connection.execute(
        sa.select(w.c.banned, w.c.banned_until).where(
            w.c.project_id == project_id, w.c.worker_id == worker_id
        )
    ).first()
    if row is None or not row.banned:
        return False
    return row.banned_until is None or row.banned_until > now
