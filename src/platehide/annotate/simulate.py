"""A simulated crowd on the real server code: store, leases, log, deriver; only HTTP is left out.

The crowd, its bots and the scores are those of :mod:`platehide.crowd.simulate`.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from platehide.annotate import schema
from platehide.annotate.auth import add_user, join
from platehide.annotate.db import AnyRow, Database, new_id
from platehide.annotate.derive import Deriver, bans
from platehide.annotate.faults import AnnotateError, BadAnswer
from platehide.annotate.records import judgement_of, judgement_query
from platehide.annotate.settings import ProjectSettings
from platehide.annotate.work import WorkDesk
from platehide.crowd.aggregate import Label, LabelledPlate
from platehide.crowd.judgements import Judgement
from platehide.crowd.sim_workers import Answer, SimPhoto
from platehide.crowd.sim_world import SimSettings, SimWorld
from platehide.crowd.simulate import Offer, run_many, table
from platehide.errors import UsageError
from platehide.files import write_result
from platehide.types import FloatArray, as_quad


class StoreServer:
    """``SimServer`` over a fresh SQLite store. Simulated workers keep one task on the desk."""

    def __init__(self, world: SimWorld, settings: SimSettings, folder: Path) -> None:
        self.db = Database(f"sqlite:///{folder / f'{new_id()}.sqlite3'}", durable=False)
        self.now = 0.0
        self.deriver = Deriver(self.db)
        self.desk = WorkDesk(
            self.db, clock=lambda: self.now, rng=random.Random(settings.seed), desk=1
        )
        self.users: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.project = new_id()
        self._world = world
        chosen = ProjectSettings(price=settings.price, captcha_every=0, training_tasks=0)
        rng = random.Random(settings.seed)
        with self.db.write() as connection:
            connection.execute(
                schema.projects.insert().values(
                    id=self.project,
                    slug="simulation",
                    name="Simulation",
                    instructions="",
                    status="active",
                    settings=chosen.to_json(),
                    created_at=0.0,
                )
            )
            for photo in world.photos.values():
                photo_id = self._photo(connection, photo, "task")
                connection.execute(
                    schema.photo_state.insert().values(
                        photo_id=photo_id,
                        project_id=self.project,
                        status="open",
                        final=False,
                        wanted=chosen.overlap_min,
                        free=chosen.overlap_min,
                        judgements=0,
                        posterior=0.0,
                        agreement=0.0,
                        rank=rng.random(),
                        updated_at=0.0,
                    )
                )
            for photo in world.controls.values():
                self._photo(connection, photo, "control")

    def _photo(self, connection: sa.Connection, photo: SimPhoto, purpose: str) -> str:
        photo_id = new_id()
        self.names[photo_id] = photo.name
        truth = {"plates": [q.tolist() for q in photo.plates]} if purpose == "control" else None
        connection.execute(
            schema.photos.insert().values(
                id=photo_id,
                project_id=self.project,
                name=photo.name,
                blob="",
                sha256="",
                media_type="image/jpeg",
                width=photo.width,
                height=photo.height,
                grp=photo.name,
                source="",
                licence="",
                purpose=purpose,
                truth=truth,
                priority=0.0,
                created_at=0.0,
            )
        )
        return photo_id

    def enrol(self, worker: str, now: float) -> None:
        """See ``SimServer``."""
        with self.db.write() as connection:
            user_id = add_user(connection, "worker", worker, now)
            join(connection, self.project, user_id, now)
        self.users[worker] = user_id

    def next_task(self, worker: str, now: float) -> Offer | None:
        """See ``SimServer``."""
        self.now = now
        view = self.desk.view(self.users[worker], self.project)
        if not view["tasks"]:
            return None
        task = view["tasks"][0]["id"]
        a = schema.assignments
        with self.db.read() as connection:
            photo_id = connection.execute(
                sa.select(a.c.photo_id).where(a.c.id == task)
            ).scalar_one()
        return Offer(self.names[photo_id], task)

    def submit(self, worker: str, offer: Offer, answer: Answer, now: float) -> None:
        """See ``SimServer``. Like the page, it keeps corners on the photo; what the server
        refuses to take (a folded outline of a random bot) is skipped.
        """
        self.now = now
        photo = self._world.photos.get(offer.photo) or self._world.controls[offer.photo]
        body: dict[str, Any] = {"skip": True}
        if not answer.skip:
            limit = np.array([photo.width, photo.height])
            body = {"plates": [np.clip(q, 0, limit).tolist() for q in answer.plates]}
        user = self.users[worker]
        try:
            self.desk.submit(user, offer.lease, new_id(), body)
        except BadAnswer:
            self.desk.submit(user, offer.lease, new_id(), {"skip": True})
        except AnnotateError:
            return  # banned, or the lease is gone
        self.deriver.catch_up()

    def banned(self) -> Mapping[str, str]:
        """See ``SimServer``."""
        names = {user: name for name, user in self.users.items()}
        with self.db.read() as connection:
            return {names[u]: r for u, r in bans(connection, self.project).items()}

    def judgements(self) -> Sequence[Judgement]:
        """See ``SimServer``."""
        names = {user: name for name, user in self.users.items()}
        with self.db.read() as connection:
            rows = connection.execute(judgement_query(self.project)).all()
        return [self._named(row, names) for row in rows]

    def _named(self, row: AnyRow, names: Mapping[str, str]) -> Judgement:
        j = judgement_of(row)
        return Judgement(
            task=self.names[j.task],
            worker=names[j.worker],
            width=j.width,
            height=j.height,
            submitted_at=j.submitted_at,
            seconds=j.seconds,
            plates=j.plates,
            skip=j.skip,
            golden=j.golden,
        )

    def labels(self) -> Sequence[Label]:
        """See ``SimServer``."""
        self.deriver.catch_up()
        self.deriver.refresh(self.project)
        s = schema.photo_state
        with self.db.read() as connection:
            rows = connection.execute(
                sa.select(s).where(s.c.project_id == self.project, s.c.result.is_not(None))
            ).all()
        return [
            Label(
                task=self.names[row.photo_id],
                plates=tuple(
                    LabelledPlate(as_quad(p["quad"]), p["agreement"], p["spread_px"])
                    for p in row.result["plates"]
                ),
                status=row.status,
                judgements=row.judgements,
                posterior=row.posterior,
            )
            for row in rows
        ]


def simulate(
    *,
    photos: int,
    controls: int,
    workers: int,
    sloppy: float,
    bots: Sequence[float],
    seeds: int,
    real_server: bool,
    json_path: Path | None,
) -> int:
    """Run and print the table; returns the exit code.

    Raises:
        UsageError: shares that do not fit together, or a file that cannot be written.
    """
    if any(share + sloppy > 1 for share in bots):
        raise UsageError("bots and sloppy workers together are more than all workers")
    if json_path is not None and not json_path.parent.is_dir():
        raise UsageError(f"{json_path}: no such folder")
    settings = SimSettings(photos=photos, controls=controls, workers=workers, sloppy=sloppy)
    with tempfile.TemporaryDirectory(prefix="platehide-simulate-") as folder:

        def make(world: SimWorld, chosen: SimSettings) -> StoreServer:
            return StoreServer(world, chosen, Path(folder))

        results = run_many(
            settings,
            range(seeds),
            bots,
            make if real_server else None,
            on_result=lambda r: print(
                f"bots {r.settings.bots:.0%} seed {r.settings.seed}: {r.judgements} judgements, "
                f"{r.agreed} agreed, {r.wrong} wrong, {r.escalated} escalated, {r.open} open",
                flush=True,
            ),
        )
    print(table(results))
    if json_path is not None:
        rows = [
            {
                "bots": r.settings.bots,
                "seed": r.settings.seed,
                "photos": r.settings.photos,
                "judgements": r.judgements,
                "control_judgements": r.control_judgements,
                "agreed": r.agreed,
                "wrong": r.wrong,
                "escalated": r.escalated,
                "open": r.open,
                "median_px": _percentile(r.corner_errors_px, 50),
                "p95_px": _percentile(r.corner_errors_px, 95),
                "honest": r.honest,
                "honest_banned": r.honest_banned,
                "bad": dict(r.bad),
                "bad_banned": dict(r.bad_banned),
            }
            for r in results
        ]
        write_result(json_path, (json.dumps(rows, indent=2) + "\n").encode())
    return 0


def _percentile(values: FloatArray, percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None
