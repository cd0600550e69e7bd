"""What a requester watches: throughput, agreement, spend, time left, workers, their bans."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.db import Database
from platehide.annotate.projects import GOOD_CONTROLS
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.events import Event
from platehide.crowd.rules import DryRun, Rule, dry_run
from platehide.crowd.sequential import wilson

_BUCKETS = 48


def overview(db: Database, project_id: str, now: float) -> dict[str, Any]:
    """The figures of a project's front page and the series of its plots."""
    with db.read() as connection:
        project = connection.execute(
            sa.select(schema.projects).where(schema.projects.c.id == project_id)
        ).one()
        settings = ProjectSettings.from_json(project.settings)
        photos = _photos(connection, project_id)
        paid = _paid(connection, project_id)
        series = _series(connection, project_id, now)
        agreement = _histogram(connection, project_id)
        purposes = _purposes(connection, project_id)
        wanted = _wanted(connection, project_id)
        rate = _rate(connection, project_id, now)
        banned, active = _people(connection, project_id, now)
    settled = photos["agreed"]
    per_photo = paid["amount"] / settled if settled else None
    # Control tasks come on top of the answers that photos still need.
    share = paid["controls"] / paid["count"] if paid["count"] else settings.control_share
    left = wanted / max(0.05, 1.0 - share)
    warnings = []
    if 0 < purposes["control"] < GOOD_CONTROLS:
        warnings.append(
            f"control photos in rotation: {purposes['control']}; below {GOOD_CONTROLS} a ring "
            "that shares answers can slip through"
        )
    if not purposes["control"] and purposes["task"]:
        warnings.append("no control photos: bots and careless work are found late")
    if settings.training_tasks and not purposes["training"]:
        warnings.append("no training photos: nobody is shown how to do it before being paid")
    return {
        "project": project.id,
        "status": project.status,
        "photos": photos,
        "purposes": purposes,
        "judgements": paid,
        "currency": settings.currency,
        "spend": round(paid["amount"], 4),
        "cost_per_photo": None if per_photo is None else round(per_photo, 5),
        "judgements_per_photo": round(paid["count"] / settled, 3) if settled else None,
        "rate_per_hour": round(rate * 3600, 1),
        "judgements_left": round(left),
        "eta_seconds": round(left / rate) if rate > 0 and left else (0 if not left else None),
        "forecast_spend": round(paid["amount"] + left * settings.price, 2),
        "workers": {"active": active, "banned": banned},
        "series": series,
        "agreement": agreement,
        "warnings": warnings,
    }


def _photos(connection: Connection, project_id: str) -> dict[str, int]:
    s = schema.photo_state
    counts = {"open": 0, "agreed": 0, "escalated": 0}
    for row in connection.execute(
        sa.select(s.c.status, sa.func.count().label("n"))
        .where(s.c.project_id == project_id)
        .group_by(s.c.status)
    ):
        counts[row.status] = int(row.n)
    return counts | {"total": sum(counts.values())}


def _purposes(connection: Connection, project_id: str) -> dict[str, int]:
    p = schema.photos
    counts = {"task": 0, "control": 0, "training": 0}
    for row in connection.execute(
        sa.select(p.c.purpose, sa.func.count().label("n"))
        .where(p.c.project_id == project_id)
        .group_by(p.c.purpose)
    ):
        counts[row.purpose] = int(row.n)
    return counts


def _paid(connection: Connection, project_id: str) -> dict[str, Any]:
    """Answers that count and are paid; dropped ones are not."""
    a = schema.assignments
    control = sa.case((a.c.kind == "control", 1), else_=0)
    row = connection.execute(
        sa.select(
            sa.func.count().label("n"),
            sa.func.coalesce(sa.func.sum(a.c.price), 0.0).label("amount"),
            sa.func.coalesce(sa.func.sum(control), 0).label("controls"),
        ).where(a.c.project_id == project_id, a.c.state == "submitted", a.c.kind != "training")
    ).one()
    dropped = connection.execute(
        sa.select(sa.func.count()).where(a.c.project_id == project_id, a.c.state == "dropped")
    ).scalar_one()
    return {
        "count": int(row.n),
        "amount": float(row.amount),
        "controls": int(row.controls),
        "dropped": int(dropped),
    }


def _wanted(connection: Connection, project_id: str) -> int:
    s = schema.photo_state
    total = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(s.c.wanted - s.c.judgements), 0)).where(
            s.c.project_id == project_id, s.c.final.is_(False)
        )
    ).scalar_one()
    return max(0, int(total))


def _rate(connection: Connection, project_id: str, now: float) -> float:
    """Answers a second: over the last hour, or since the first answer where that is less."""
    g = schema.log
    row = connection.execute(
        sa.select(sa.func.count().label("n"), sa.func.min(g.c.at).label("first")).where(
            g.c.project_id == project_id, g.c.kind == "judgement", g.c.at > now - 3600
        )
    ).one()
    if not row.n:
        return 0.0
    return float(row.n) / max(60.0, min(3600.0, now - float(row.first)))


def _people(connection: Connection, project_id: str, now: float) -> tuple[int, int]:
    w, m = schema.worker_state, schema.members
    banned = connection.execute(
        sa.select(sa.func.count()).where(
            w.c.project_id == project_id, w.c.banned.is_(True), w.c.banned_until.is_(None)
        )
    ).scalar_one()
    active = connection.execute(
        sa.select(sa.func.count()).where(
            m.c.project_id == project_id, m.c.last_submit_at > now - 900
        )
    ).scalar_one()
    return int(banned), int(active)


def _series(connection: Connection, project_id: str, now: float) -> dict[str, Any]:
    """Answers and settled photos over time, in at most 48 equal steps."""
    g, s = schema.log, schema.photo_state
    first = connection.execute(
        sa.select(sa.func.min(g.c.at)).where(g.c.project_id == project_id, g.c.kind == "judgement")
    ).scalar()
    if first is None:
        return {"start": now, "step": 60.0, "judgements": [], "settled": []}
    step = max(60.0, (now - float(first)) / _BUCKETS)

    def buckets(column: Any, *where: Any) -> list[int]:
        index = sa.cast(sa.func.floor((column - float(first)) / step), sa.Integer)
        counts = [0] * (int((now - float(first)) // step) + 1)
        query = sa.select(index.label("i"), sa.func.count().label("n")).where(*where).group_by("i")
        for row in connection.execute(query):
            if 0 <= row.i < len(counts):
                counts[row.i] += int(row.n)
        return counts

    return {
        "start": float(first),
        "step": step,
        "judgements": buckets(g.c.at, g.c.project_id == project_id, g.c.kind == "judgement"),
        "settled": buckets(
            s.c.updated_at,
            s.c.project_id == project_id,
            s.c.status == "agreed",
            s.c.updated_at >= float(first),
        ),
    }


def _histogram(connection: Connection, project_id: str) -> list[int]:
    """Settled photos by agreement in ten steps of a tenth."""
    s = schema.photo_state
    counts = [0] * 10
    for value in connection.execute(
        sa.select(s.c.agreement).where(
            s.c.project_id == project_id, s.c.status == "agreed", s.c.judgements > 0
        )
    ).scalars():
        counts[min(9, int(float(value) * 10))] += 1
    return counts


def worker_table(db: Database, project_id: str) -> list[dict[str, Any]]:
    """A row for every worker: skill, speed, control record, agreement, pay, ban and reason."""
    m, u, w, a = schema.members, schema.users, schema.worker_state, schema.assignments
    with db.read() as connection:
        rows = connection.execute(
            sa.select(
                u.c.id,
                u.c.name,
                u.c.disabled,
                m.c.joined_at,
                m.c.trained,
                m.c.last_submit_at,
                w.c.skill,
                w.c.golden_right,
                w.c.golden_total,
                w.c.judgements,
                w.c.seconds_sum,
                w.c.agreed,
                w.c.compared,
                w.c.banned,
                w.c.banned_until,
                w.c.reason,
                w.c.control,
            )
            .join(u, u.c.id == m.c.user_id)
            .join(
                w,
                sa.and_(w.c.worker_id == u.c.id, w.c.project_id == m.c.project_id),
                isouter=True,
            )
            .where(m.c.project_id == project_id, u.c.role == "worker")
            .order_by(m.c.joined_at)
        ).all()
        pay = {
            r.worker_id: float(r.amount)
            for r in connection.execute(
                sa.select(a.c.worker_id, sa.func.sum(a.c.price).label("amount"))
                .where(a.c.project_id == project_id, a.c.state == "submitted")
                .group_by(a.c.worker_id)
            )
        }
        d = schema.decisions
        notes: dict[str, list[dict[str, Any]]] = {}
        for r in connection.execute(
            sa.select(d).where(d.c.project_id == project_id).order_by(d.c.id)
        ):
            notes.setdefault(r.worker_id, []).append(
                {"at": r.at, "rule": r.rule, "action": r.action, "reason": r.reason}
            )
    table = []
    for r in rows:
        total = int(r.golden_total or 0)
        low, high = wilson(int(r.golden_right or 0), total)
        table.append(
            {
                "worker": r.id,
                "name": r.name,
                "imported": bool(r.disabled),  # a stand-in for another tool's worker
                "joined_at": r.joined_at,
                "last_seen": r.last_submit_at,
                "trained": int(r.trained),
                "judgements": int(r.judgements or 0),
                "skill": None if not r.judgements or not r.skill else round(float(r.skill), 3),
                "seconds": (
                    round(float(r.seconds_sum) / int(r.judgements), 1) if r.judgements else None
                ),
                "golden_right": int(r.golden_right or 0),
                "golden_total": total,
                "golden_interval": [round(low, 3), round(high, 3)],
                "verdict": (r.control or {}).get("verdict", "probation"),
                "agreed": int(r.agreed or 0),
                "compared": int(r.compared or 0),
                "earned": round(pay.get(r.id, 0.0), 4),
                "banned": bool(r.banned),
                "banned_until": r.banned_until,
                "reason": r.reason or "",
                "decisions": notes.get(r.id, []),
            }
        )
    return table


def rules_dry_run(db: Database, project_id: str, rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """What each rule alone would have done to this project's past."""
    e, u = schema.events, schema.users
    with db.read() as connection:
        events = [
            Event(r.at, r.worker_id, r.kind, r.value, r.task)
            for r in connection.execute(
                sa.select(e).where(e.c.project_id == project_id).order_by(e.c.id)
            )
        ]
        names = {r.id: r.name for r in connection.execute(sa.select(u.c.id, u.c.name))}
    runs: tuple[DryRun, ...] = dry_run(rules, events)
    return [
        {
            "rule": run.rule,
            "sentence": run.sentence,
            "workers_seen": run.workers_seen,
            "answers_dropped": run.answers_dropped,
            "decisions": [
                {
                    "worker": d.worker,
                    "name": names.get(d.worker, d.worker),
                    "at": d.at,
                    "action": d.action.kind,
                    "reason": d.reason,
                }
                for d in run.decisions
            ],
        }
        for run in runs
    ]


def disagreements(
    db: Database, project_id: str, *, status: str = "", limit: int = 50, offset: int = 0
) -> dict[str, Any]:
    """Photos whose answers differ most, each with every answer and the label beside it;
    ``status`` picks ``open``, ``agreed`` or ``escalated`` ones.
    """
    s, p, g, a, u = (
        schema.photo_state,
        schema.photos,
        schema.log,
        schema.assignments,
        schema.users,
    )
    where = [s.c.project_id == project_id, s.c.judgements > 0]
    if status:
        where.append(s.c.status == status)
    with db.read() as connection:
        total = connection.execute(
            sa.select(sa.func.count()).select_from(s).where(*where)
        ).scalar_one()
        rows = connection.execute(
            sa.select(s, p.c.name, p.c.width, p.c.height)
            .join(p, p.c.id == s.c.photo_id)
            .where(*where)
            .order_by(s.c.agreement, s.c.posterior, s.c.photo_id)
            .limit(limit)
            .offset(offset)
        ).all()
        found = []
        for row in rows:
            answers = connection.execute(
                sa.select(
                    g.c.at,
                    g.c.actor_id,
                    g.c.assignment_id,
                    g.c.body,
                    a.c.state,
                    u.c.name,
                )
                .join(a, a.c.id == g.c.assignment_id)
                .join(u, u.c.id == g.c.actor_id)
                .where(g.c.photo_id == row.photo_id, g.c.kind == "judgement")
                .order_by(g.c.seq)
            ).all()
            found.append(
                {
                    "photo": row.photo_id,
                    "name": row.name,
                    "width": row.width,
                    "height": row.height,
                    "status": row.status,
                    "final": bool(row.final),
                    "agreement": row.agreement,
                    "posterior": row.posterior,
                    "label": row.result,
                    "answers": [
                        {
                            "id": r.assignment_id,
                            "worker": r.actor_id,
                            "name": r.name,
                            "at": r.at,
                            "seconds": r.body["seconds"],
                            "answer": r.body["answer"],
                            "counts": r.state == "submitted",
                            "proposed": r.body.get("proposed", False),
                        }
                        for r in answers
                    ],
                }
            )
    return {"total": int(total), "photos": found}


__all__ = ["disagreements", "overview", "rules_dry_run", "worker_table"]
