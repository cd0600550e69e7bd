"""From rows of the log to the values that :mod:`platehide.crowd` computes with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.db import AnyRow
from platehide.crowd.judgements import Judgement
from platehide.types import FloatArray, as_quad

COUNTED = "submitted"
"""State of an assignment whose answer counts; a dropped answer stays in the log only."""


def quads(plates: Collection[Any]) -> tuple[FloatArray, ...]:
    """Stored plates as quads."""
    return tuple(as_quad(np.array(p, dtype=np.float64)) for p in plates)


def judgement_of(row: AnyRow) -> Judgement:
    """A judgement from a row with the columns of ``judgement_query``."""
    body = row.body
    answer = body["answer"]
    control = row.purpose == "control"
    return Judgement(
        task=row.photo_id,
        worker=row.actor_id,
        width=row.width,
        height=row.height,
        submitted_at=row.at,
        seconds=body["seconds"],
        plates=() if answer.get("skip") else quads(answer["plates"]),
        skip=bool(answer.get("skip")),
        golden=quads(row.truth["plates"]) if control and row.truth else None,
    )


def judgement_query(project_id: str) -> sa.Select[Any]:
    """All logged judgements of a project, oldest first, with what their photo and state say."""
    g, p, a = schema.log, schema.photos, schema.assignments
    return (
        sa.select(
            g.c.seq,
            g.c.at,
            g.c.actor_id,
            g.c.photo_id,
            g.c.assignment_id,
            g.c.body,
            p.c.width,
            p.c.height,
            p.c.purpose,
            p.c.truth,
            p.c.name,
            a.c.state,
        )
        .join(p, p.c.id == g.c.photo_id)
        .join(a, a.c.id == g.c.assignment_id)
        .where(g.c.project_id == project_id, g.c.kind == "judgement")
        .order_by(g.c.seq)
    )


def counted_judgements(connection: Connection, project_id: str, upto: int) -> list[Judgement]:
    """Judgements up to a place in the log that count (no dropped ones)."""
    g, a = schema.log, schema.assignments
    query = judgement_query(project_id).where(g.c.seq <= upto, a.c.state == COUNTED)
    return [judgement_of(r) for r in connection.execute(query)]


def photo_judgements(
    connection: Connection, project_id: str, photo_id: str, upto: int | None = None
) -> list[Judgement]:
    """The judgements of one photo that count."""
    g, a = schema.log, schema.assignments
    query = judgement_query(project_id).where(g.c.photo_id == photo_id, a.c.state == COUNTED)
    if upto is not None:
        query = query.where(g.c.seq <= upto)
    return [judgement_of(r) for r in connection.execute(query)]
