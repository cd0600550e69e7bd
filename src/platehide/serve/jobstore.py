"""Where asynchronous jobs live: SQLite by default, Postgres by URL.

Several processes (and machines) may share a store: a photo is claimed with a lease, so one whose
worker was killed is taken up again by another, at most ``MAX_ATTEMPTS`` times. An uploaded photo
is deleted from the store the moment it was worked on; a finished one when the job expires.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from platehide.errors import UsageError

MAX_ATTEMPTS = 3
CREATE_SECONDS = 30.0
_CREATE_LOCK = 0x706C6174  # any number that is ours

_meta = sa.MetaData()
_jobs = sa.Table(
    "platehide_jobs",
    _meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("owner", sa.String(80), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("finished", sa.Float),
    sa.Column("expires", sa.Float, nullable=False, index=True),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("webhook", sa.Text),
    sa.Column("webhook_state", sa.String(16)),
    sa.Column("webhook_attempts", sa.Integer, nullable=False, default=0),
    sa.Column("webhook_due", sa.Float, index=True),
)
_items = sa.Table(
    "platehide_job_items",
    _meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.ForeignKey("platehide_jobs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("idx", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text),
    sa.Column("upload", sa.LargeBinary),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("lease", sa.Float),
    sa.Column("row", sa.Text),
    sa.Column("result", sa.LargeBinary),
    sa.Column("media_type", sa.String(80)),
    sa.Column("suffix", sa.String(16)),
    sa.UniqueConstraint("job", "idx"),
)


@dataclass(frozen=True)
class Claim:
    """One photo to work on; exactly one of ``url`` and ``upload`` is given."""

    seq: int
    job: str
    idx: int
    name: str
    url: str | None
    upload: bytes | None
    attempts: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    """One webhook to send."""

    job: str
    url: str
    attempts: int


class JobStore:
    """Blocking; call it from a thread."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise UsageError("--job-store: sqlite:///FILE or postgresql://...") from None
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+pg8000")
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if not self._sqlite and parsed.get_backend_name() != "postgresql":
            raise UsageError("--job-store: sqlite:///FILE or postgresql://...")
        try:
            self._engine = sa.create_engine(
                parsed,
                pool_pre_ping=not self._sqlite,
                connect_args={"timeout": 15} if self._sqlite else {},
            )
        except ModuleNotFoundError:
            raise UsageError("--job-store postgresql needs pg8000") from None
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _tune_sqlite)
        try:
            self._create_tables()
        except sa.exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise UsageError(
                f"--job-store {parsed.render_as_string()}: {error.__cause__ or error}"
            ) from None

    def _create_tables(self) -> None:
        """Make the tables that are missing; several processes may do so in the same moment.

        The look and the making happen under one lock: SQLite's write lock, or an advisory lock of
        Postgres. SQLite does not wait for every lock it needs (the change to WAL), hence the tries.
        """
        end = time.monotonic() + CREATE_SECONDS
        while True:
            try:
                with self._engine.connect() as db:
                    if self._sqlite:
                        db.exec_driver_sql("BEGIN IMMEDIATE")
                    else:
                        db.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
                    _meta.create_all(db)
                    db.commit()
                return
            except sa.exc.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def create(
        self,
        owner: str,
        photos: Sequence[tuple[str, str | None, bytes | None]],
        *,
        options: dict[str, Any],
        webhook: str | None,
        ttl: float,
        most_pending: int,
    ) -> str | None:
        """Store a job of (name, url, upload); return its id, ``None`` when the store is full."""
        job = secrets.token_urlsafe(18)
        now = time.time()
        with self._engine.begin() as db:
            if self._pending(db) + len(photos) > most_pending:
                return None
            db.execute(
                _jobs.insert().values(
                    id=job,
                    owner=owner,
                    created=now,
                    expires=now + 24 * ttl,
                    options=json.dumps(options),
                    webhook=webhook,
                    webhook_state=None if webhook is None else "waiting",
                    webhook_attempts=0,
                )
            )
            db.execute(
                _items.insert(),
                [
                    {
                        "job": job,
                        "idx": i,
                        "name": name,
                        "url": url,
                        "upload": upload,
                        "state": "waiting",
                        "attempts": 0,
                    }
                    for i, (name, url, upload) in enumerate(photos)
                ],
            )
        return job

    @staticmethod
    def _pending(db: sa.Connection) -> int:
        waiting = _items.c.state.in_(("waiting", "running"))
        return db.scalar(sa.select(sa.func.count()).select_from(_items).where(waiting)) or 0

    def pending(self) -> int:
        """Photos that wait or run."""
        with self._engine.connect() as db:
            return self._pending(db)

    def claim(self, lease: float) -> Claim | None:
        """Take the oldest photo that waits, or whose worker's lease has run out."""
        now = time.time()
        free = sa.or_(
            _items.c.state == "waiting",
            sa.and_(_items.c.state == "running", _items.c.lease < now),
        )
        oldest = sa.select(_items.c.seq).where(free).order_by(_items.c.seq).limit(1)
        chosen = oldest.with_for_update(skip_locked=True).scalar_subquery()
        take = (
            _items.update()
            .where(_items.c.seq == chosen)
            .values(state="running", lease=now + lease, attempts=_items.c.attempts + 1)
            .returning(
                _items.c.seq,
                _items.c.job,
                _items.c.idx,
                _items.c.name,
                _items.c.url,
                _items.c.upload,
                _items.c.attempts,
            )
        )
        with self._engine.begin() as db:
            row = db.execute(take).first()
            if row is None:
                return None
            options = db.scalar(sa.select(_jobs.c.options).where(_jobs.c.id == row.job))
        return Claim(
            row.seq, row.job, row.idx, row.name, row.url, row.upload, row.attempts,
            json.loads(options or "{}"),
        )  # fmt: skip

    def renew(self, claim: Claim, lease: float) -> None:
        """Keep a claimed photo for another ``lease`` seconds."""
        with self._engine.begin() as db:
            db.execute(
                _items.update()
                .where(_items.c.seq == claim.seq, _items.c.attempts == claim.attempts)
                .values(lease=time.time() + lease)
            )

    def release(self, claim: Claim) -> None:
        """Put a claimed photo back unworked (the process is going down)."""
        with self._engine.begin() as db:
            db.execute(
                _items.update()
                .where(_items.c.seq == claim.seq, _items.c.attempts == claim.attempts)
                .values(state="waiting", lease=None, attempts=_items.c.attempts - 1)
            )

    def finish(
        self,
        claim: Claim,
        row: dict[str, Any],
        *,
        result: bytes | None,
        media_type: str | None,
        suffix: str,
        ttl: float,
    ) -> bool:
        """Keep a photo's outcome, delete its upload; True when its job is finished now."""
        now = time.time()
        with self._engine.begin() as db:
            done = db.execute(
                _items.update()
                .where(_items.c.seq == claim.seq, _items.c.attempts == claim.attempts)
                .values(
                    state="done" if result is not None else "failed",
                    row=json.dumps(row),
                    result=result,
                    media_type=media_type,
                    suffix=suffix,
                    upload=None,
                    lease=None,
                )
            )
            if done.rowcount == 0:
                return False
            # The job's own row is locked first, so two last photos cannot both miss the end.
            db.execute(
                _jobs.update().where(_jobs.c.id == claim.job).values(options=_jobs.c.options)
            )
            open_items = db.scalar(
                sa.select(sa.func.count())
                .select_from(_items)
                .where(_items.c.job == claim.job, _items.c.state.in_(("waiting", "running")))
            )
            if open_items:
                return False
            db.execute(
                _jobs.update()
                .where(_jobs.c.id == claim.job)
                .values(
                    finished=now,
                    expires=now + ttl,
                    webhook_due=sa.case((_jobs.c.webhook.is_not(None), now), else_=None),
                )
            )
        return True

    def get(self, job: str, owner: str) -> dict[str, Any] | None:
        """Return the job's status for its owner."""
        with self._engine.connect() as db:
            head = db.execute(
                sa.select(_jobs).where(_jobs.c.id == job, _jobs.c.owner == owner)
            ).first()
            if head is None:
                return None
            rows = db.execute(
                sa.select(_items.c.idx, _items.c.name, _items.c.state, _items.c.row)
                .where(_items.c.job == job)
                .order_by(_items.c.idx)
            ).all()
        items = [
            {
                "index": r.idx,
                "name": r.name,
                "state": r.state,
                "row": None if r.row is None else json.loads(r.row),
            }
            for r in rows
        ]
        return {
            "id": head.id,
            "created": head.created,
            "finished": head.finished,
            "expires": head.expires,
            "webhook": head.webhook_state,
            "items": items,
        }

    def result(self, job: str, index: int, owner: str) -> tuple[str, Any] | None:
        """Return the state and, when done, (bytes, media type, name, suffix, row) of a photo."""
        query = (
            sa.select(_items)
            .join(_jobs, _jobs.c.id == _items.c.job)
            .where(_items.c.job == job, _items.c.idx == index, _jobs.c.owner == owner)
        )
        with self._engine.connect() as db:
            found = db.execute(query).first()
        if found is None:
            return None
        row = None if found.row is None else json.loads(found.row)
        return found.state, (found.result, found.media_type, found.name, found.suffix, row)

    def delete(self, job: str, owner: str) -> bool:
        """Delete a job and its photos."""
        with self._engine.begin() as db:
            owned = sa.select(_jobs.c.id).where(_jobs.c.id == job, _jobs.c.owner == owner)
            db.execute(_items.delete().where(_items.c.job.in_(owned)))
            gone = db.execute(_jobs.delete().where(_jobs.c.id == job, _jobs.c.owner == owner))
        return gone.rowcount > 0

    def purge(self) -> int:
        """Delete the jobs that have expired; return how many."""
        with self._engine.begin() as db:
            old = sa.select(_jobs.c.id).where(_jobs.c.expires < time.time())
            db.execute(_items.delete().where(_items.c.job.in_(old)))
            gone = db.execute(_jobs.delete().where(_jobs.c.expires < time.time()))
        return gone.rowcount

    def due_webhook(self, lease: float) -> Delivery | None:
        """Take a webhook that should be sent now."""
        now = time.time()
        due = sa.select(_jobs.c.id).where(_jobs.c.webhook_due < now).limit(1)
        take = (
            _jobs.update()
            .where(_jobs.c.id == due.with_for_update(skip_locked=True).scalar_subquery())
            .values(webhook_due=now + lease, webhook_attempts=_jobs.c.webhook_attempts + 1)
            .returning(_jobs.c.id, _jobs.c.webhook, _jobs.c.webhook_attempts)
        )
        with self._engine.begin() as db:
            row = db.execute(take).first()
        return None if row is None else Delivery(row[0], row[1], row[2])

    def webhook_result(self, job: str, state: str, due: float | None) -> None:
        """Keep what became of a delivery; ``due`` is the time of the next try."""
        with self._engine.begin() as db:
            db.execute(
                _jobs.update().where(_jobs.c.id == job).values(webhook_state=state, webhook_due=due)
            )

    def owner_of(self, job: str) -> str | None:
        """Return who made the job."""
        with self._engine.connect() as db:
            return db.scalar(sa.select(_jobs.c.owner).where(_jobs.c.id == job))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _tune_sqlite(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
