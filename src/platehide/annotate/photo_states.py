"""Small derived figures that handing out work needs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.crowd.sequential import ControlState


def refresh_free(connection: Connection, photo_id: str) -> None:
    """Recount the slots of an ordinary photo that may be handed out now."""
    s, a = schema.photo_state, schema.assignments
    taken = (
        sa.select(sa.func.count())
        .where(
            a.c.photo_id == photo_id,
            a.c.kind == "task",
            a.c.state.in_(("leased", "submitted")),
        )
        .scalar_subquery()
    )
    open_slots = s.c.wanted - taken
    free = sa.case((sa.and_(s.c.final.is_(False), open_slots > 0), open_slots), else_=0)
    connection.execute(s.update().where(s.c.photo_id == photo_id).values(free=free))


def control_state(connection: Connection, worker_id: str, project_id: str) -> ControlState:
    """What a worker's control answers say so far."""
    w = schema.worker_state
    stored = connection.execute(
        sa.select(w.c.control).where(w.c.project_id == project_id, w.c.worker_id == worker_id)
    ).scalar()
    return ControlState(**stored) if stored else ControlState()


def restore(connection: Connection, assignment_id: str, photo_id: str, kind: str) -> None:
    """Let a dropped answer count again; its old slot may be taken, so it gets a new one."""
    a = schema.assignments
    slot = -1
    if kind == "task":
        top = connection.execute(
            sa.select(sa.func.max(a.c.slot)).where(a.c.photo_id == photo_id)
        ).scalar()
        slot = int(top or 0) + 1
    connection.execute(
        a.update().where(a.c.id == assignment_id).values(state="submitted", slot=slot)
    )


def lowest_slot(connection: Connection, photo_id: str) -> int:
    """The first slot of a photo that nobody holds or has answered."""
    a = schema.assignments
    used = set(
        connection.execute(
            sa.select(a.c.slot).where(
                a.c.photo_id == photo_id,
                a.c.kind == "task",
                a.c.state.in_(("leased", "submitted")),
            )
        ).scalars()
    )
    return next(i for i in range(len(used) + 1) if i not in used)
