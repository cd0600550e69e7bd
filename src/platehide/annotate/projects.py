"""The requester's side of the store: projects, photos, control photos, people."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.answers import MAX_PLATES, read_quad
from platehide.annotate.db import AnyRow, Database, new_id, serialise
from platehide.annotate.faults import BadAnswer, Conflict, NotFound
from platehide.annotate.media import (
    Incoming,
    PhotoStore,
    clean_name,
    read_picture,
    truth_from_row,
)
from platehide.annotate.settings import DEFAULT_INSTRUCTIONS, ProjectSettings
from platehide.errors import ImageError, UsageError

STATUSES = ("draft", "active", "paused", "closed")
PURPOSES = ("task", "control", "training")
GOOD_CONTROLS = 400
"""Control photos in rotation below which a ring that shares answers slips through."""


@dataclass
class ImportReport:
    """What came of adding photos."""

    added: int = 0
    known: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"added": self.added, "known": self.known, "refused": self.refused}


def slugify(name: str) -> str:
    """A project's name in URLs and on the command line."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50]
    return slug or "project"


class Projects:
    """Create and change projects. ``clock`` and ``rng`` are replaced in tests."""

    def __init__(
        self,
        db: Database,
        photos: PhotoStore,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.db = db
        self.photos = photos
        self.clock = clock
        self.rng = rng or random.SystemRandom()

    # Projects --------------------------------------------------------------------------

    def create(
        self, name: str, *, instructions: str = "", settings: ProjectSettings | None = None
    ) -> str:
        """Create a project in status ``draft``; returns its id."""
        name = _project_name(name)
        chosen = settings or ProjectSettings()
        chosen.quality_rules()  # broken rules are refused here, not when the first ban is due
        project_id = new_id()
        p = schema.projects
        with self.db.write() as connection:
            base, slug, number = slugify(name), slugify(name), 2
            while connection.execute(sa.select(p.c.id).where(p.c.slug == slug)).first():
                slug, number = f"{base}-{number}", number + 1
            connection.execute(
                p.insert().values(
                    id=project_id,
                    slug=slug,
                    name=name,
                    instructions=_instructions(instructions or DEFAULT_INSTRUCTIONS),
                    status="draft",
                    settings=chosen.to_json(),
                    created_at=self.clock(),
                )
            )
        return project_id

    def find(self, key: str) -> AnyRow:
        """A project by id or slug."""
        p = schema.projects
        with self.db.read() as connection:
            row = connection.execute(
                sa.select(p).where(sa.or_(p.c.id == key, p.c.slug == key))
            ).first()
        if row is None:
            raise NotFound(f"no project {key!r}")
        return row

    def all(self) -> list[AnyRow]:
        """Every project, newest first."""
        p = schema.projects
        with self.db.read() as connection:
            return list(connection.execute(sa.select(p).order_by(p.c.created_at.desc())))

    def change(
        self,
        project_id: str,
        *,
        name: str | None = None,
        instructions: str | None = None,
        status: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Change what is given; ``settings`` may name only some of them.

        Raises:
            UsageError: a value makes no sense (nothing is changed then).
        """
        with self.db.write(project_id) as connection:
            current = self._row(connection, project_id)
            values: dict[str, Any] = {}
            if name is not None:
                values["name"] = _project_name(name)
            if instructions is not None:
                values["instructions"] = _instructions(instructions)
            if status is not None:
                if status not in STATUSES:
                    raise UsageError(f"status is one of {', '.join(STATUSES)}")
                if status == "active" and not self._count(connection, project_id, "task"):
                    raise Conflict("a project without photos cannot start", code="no_photos")
                values["status"] = status
            if settings is not None:
                merged = ProjectSettings.from_json({**current.settings, **settings})
                merged.quality_rules()
                values["settings"] = merged.to_json()
            if not values:
                return
            p = schema.projects
            connection.execute(p.update().where(p.c.id == project_id).values(**values))
            if settings is not None:
                self._log(connection, project_id, "rules", {"settings": values["settings"]})

    def _row(self, connection: Connection, project_id: str) -> AnyRow:
        p = schema.projects
        row = connection.execute(sa.select(p).where(p.c.id == project_id)).first()
        if row is None:
            raise NotFound("no such project")
        return row

    def _count(self, connection: Connection, project_id: str, purpose: str) -> int:
        p = schema.photos
        count = connection.execute(
            sa.select(sa.func.count()).where(p.c.project_id == project_id, p.c.purpose == purpose)
        ).scalar_one()
        return int(count)

    def _log(
        self,
        connection: Connection,
        project_id: str,
        kind: str,
        body: dict[str, Any],
        *,
        actor_id: str = "system",
        photo_id: str | None = None,
        assignment_id: str | None = None,
    ) -> None:
        connection.execute(
            schema.log.insert().values(
                at=self.clock(),
                project_id=project_id,
                kind=kind,
                actor_id=actor_id,
                photo_id=photo_id,
                assignment_id=assignment_id,
                body=body,
            )
        )

    # Photos ----------------------------------------------------------------------------

    def add_photo(
        self,
        project_id: str,
        item: Incoming,
        *,
        purpose: str = "task",
        truth: dict[str, Any] | None = None,
    ) -> bool:
        """Add one photo; False when the project has this picture or name already.

        ``truth`` is the known answer of a control or training photo; it is taken from the
        photo's annotation line where ``None``.

        Raises:
            ImageError: it is not a photo.
            UsageError: a bad name or purpose.
            BadAnswer: the known answer makes no sense.
        """
        if purpose not in PURPOSES:
            raise UsageError(f"a photo's purpose is one of {', '.join(PURPOSES)}")
        name = clean_name(item.name)
        picture = read_picture(item.data, name)
        known = None
        if purpose != "task":
            given = truth if truth is not None else truth_from_row(item.row, name)
            known = check_truth(given, picture.width, picture.height, name)
        self.photos.put(picture)
        p = schema.photos
        with self.db.write(project_id) as connection:
            project = self._row(connection, project_id)
            same = connection.execute(
                sa.select(p.c.id).where(
                    p.c.project_id == project_id,
                    sa.or_(p.c.name == name, p.c.sha256 == picture.sha256),
                )
            ).first()
            if same is not None:
                return False
            photo_id = new_id()
            connection.execute(
                p.insert().values(
                    id=photo_id,
                    project_id=project_id,
                    name=name,
                    blob=picture.blob,
                    sha256=picture.sha256,
                    media_type=picture.media_type,
                    width=picture.width,
                    height=picture.height,
                    grp=str(item.row.get("group") or name)[:200],
                    source=str(item.row.get("source") or ""),
                    licence=str(item.row.get("licence") or ""),
                    purpose=purpose,
                    truth=known,
                    priority=0.0,
                    proposal=None,
                    created_at=self.clock(),
                )
            )
            if purpose == "task":
                settings = ProjectSettings.from_json(project.settings)
                connection.execute(
                    schema.photo_state.insert().values(
                        photo_id=photo_id,
                        project_id=project_id,
                        status="open",
                        final=False,
                        wanted=settings.overlap_min,
                        free=settings.overlap_min,
                        judgements=0,
                        posterior=0.0,
                        agreement=0.0,
                        rank=self.rng.random(),
                        updated_at=self.clock(),
                    )
                )
        return True

    def add_photos(self, project_id: str, items: Any, *, purpose: str = "task") -> ImportReport:
        """Add many; a bad photo is refused by name with the reason, the others are added."""
        report = ImportReport()
        for item in items:
            try:
                fresh = self.add_photo(project_id, item, purpose=purpose)
            except (ImageError, UsageError, BadAnswer) as error:
                report.refused.append({"name": item.name, "reason": str(error)})
                continue
            report.added += int(fresh)
            report.known += int(not fresh)
        return report

    def make_control(self, project_id: str, share: float, *, limit: int = 2000) -> int:
        """Turn settled photos into control photos: those that a person decided, or on which
        the answers agree best and lie closest. Returns how many were turned.

        A photo that becomes a control photo keeps its label in the export.
        """
        s, p = schema.photo_state, schema.photos
        turned = 0
        with self.db.write(project_id) as connection:
            rows = connection.execute(
                sa.select(p.c.id, p.c.name, s.c.result, s.c.final, s.c.posterior)
                .join(s, s.c.photo_id == p.c.id)
                .where(s.c.project_id == project_id, s.c.status == "agreed")
            ).all()

            def rank(row: AnyRow) -> tuple[bool, float]:
                spread = max((q["spread_px"] for q in row.result["plates"]), default=0.0)
                return (not row.final, float(spread))

            for row in sorted(rows, key=rank)[: min(limit, int(len(rows) * share))]:
                turned += int(self._copy_as_control(connection, project_id, row))
        return turned

    def _copy_as_control(self, connection: Connection, project_id: str, row: AnyRow) -> bool:
        p = schema.photos
        original = connection.execute(sa.select(p).where(p.c.id == row.id)).one()
        name = f"control/{row.name}"
        if connection.execute(
            sa.select(p.c.id).where(p.c.project_id == project_id, p.c.name == name)
        ).first():
            return False
        values = dict(original._mapping)
        values |= {
            "id": new_id(),
            "name": name,
            "purpose": "control",
            "truth": {"plates": [q["quad"] for q in row.result["plates"]]},
            "proposal": None,
            "created_at": self.clock(),
        }
        connection.execute(p.insert().values(**values))
        # Whoever answered the original must not get the copy: they hold a key to it.
        a = schema.assignments
        seen = connection.execute(
            sa.select(a.c.worker_id).where(a.c.photo_id == row.id, a.c.state != "expired")
        ).scalars()
        now = self.clock()
        for worker_id in set(seen):
            connection.execute(
                a.insert().values(
                    id=new_id(),
                    project_id=project_id,
                    photo_id=values["id"],
                    worker_id=worker_id,
                    kind="control",
                    slot=-1,
                    state="seen",
                    proposed=False,
                    price=0.0,
                    leased_at=now,
                    expires_at=now,
                    attempts=0,
                )
            )
        return True

    # Decisions by people ---------------------------------------------------------------

    def decide(
        self,
        project_id: str,
        actor_id: str,
        kind: str,
        *,
        photo_id: str | None = None,
        assignment_id: str | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        """Log a decision: ``expert`` (plates), ``accept``, ``reopen`` (photo), ``drop``
        (one answer), ``ban``, ``unban`` (worker). What follows is derived from the log.

        Raises:
            NotFound: the photo, answer or worker is not in this project.
            BadAnswer: an expert's plates make no sense.
        """
        body = dict(body or {})
        p, a, m = schema.photos, schema.assignments, schema.members
        with self.db.write(project_id) as connection:
            serialise(connection, project_id)
            if kind in {"expert", "accept", "reopen"}:
                photo = connection.execute(
                    sa.select(p).where(
                        p.c.id == photo_id, p.c.project_id == project_id, p.c.purpose == "task"
                    )
                ).first()
                if photo is None:
                    raise NotFound("no such photo in this project")
                if kind == "expert":
                    body = check_truth(body, photo.width, photo.height, photo.name)
            elif kind == "drop":
                found = connection.execute(
                    sa.select(a.c.photo_id, a.c.state).where(
                        a.c.id == assignment_id,
                        a.c.project_id == project_id,
                        a.c.kind == "task",
                        a.c.submitted_at.is_not(None),
                    )
                ).first()
                if found is None:
                    raise NotFound("no such answer in this project")
                photo_id = str(found.photo_id)
            elif kind in {"ban", "unban"}:
                member = connection.execute(
                    sa.select(m.c.user_id).where(
                        m.c.project_id == project_id, m.c.user_id == body.get("worker")
                    )
                ).first()
                if member is None:
                    raise NotFound("no such worker in this project")
                if kind == "ban":
                    body["reason"] = str(body.get("reason") or "banned by the requester")[:300]
            else:
                raise UsageError(f"unknown decision {kind!r}")
            self._log(
                connection,
                project_id,
                kind,
                body,
                actor_id=actor_id,
                photo_id=photo_id,
                assignment_id=assignment_id,
            )


def check_truth(value: object, width: int, height: int, name: str) -> dict[str, Any]:
    """Check a known answer.

    Raises:
        BadAnswer: not ``{"plates": [four corners …]}`` on this photo; begins with ``name``.
    """
    if not isinstance(value, dict) or not isinstance(value.get("plates"), list):
        raise BadAnswer(f"{name}: a known answer is {{'plates': [...]}}")
    if len(value["plates"]) > MAX_PLATES:
        raise BadAnswer(f"{name}: more than {MAX_PLATES} plates")
    try:
        return {"plates": [read_quad(q, width, height).tolist() for q in value["plates"]]}
    except BadAnswer as error:
        raise BadAnswer(f"{name}: {error}") from error


def split_of(group: str, val: float, test: float) -> str:
    """The split of a group, fixed by its hash: the same in every export, on every machine."""
    draw = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    if draw < test:
        return "test"
    return "val" if draw < test + val else "train"


def _project_name(name: str) -> str:
    clean = " ".join(name.split())
    if not 0 < len(clean) <= 120 or not clean.isprintable():
        raise UsageError("a project's name takes 1 to 120 printable characters")
    return clean


def _instructions(text: str) -> str:
    if len(text) > 20_000:
        raise UsageError("instructions are too long (20,000 characters)")
    return text
