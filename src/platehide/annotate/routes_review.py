"""Looking at answers side by side, and the experts' queue."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from pydantic import Field

from platehide.annotate import schema
from platehide.annotate.context import Expert, Parts, expert_project
from platehide.annotate.faults import NotFound
from platehide.annotate.routes_people import Strict
from platehide.annotate.settings import ProjectSettings
from platehide.annotate.stats import disagreements

router = APIRouter(prefix="/api", tags=["review"])


class PhotoDecision(Strict):
    """``expert``: these plates it is; ``accept``: the label as it stands; ``reopen``: ask on."""

    kind: Literal["expert", "accept", "reopen"]
    plates: list[Any] | None = Field(default=None, max_length=30)


@router.get("/expert/projects")
def expert_projects(context: Parts, caller: Expert) -> list[dict[str, Any]]:
    """Projects with the number of photos that wait for an expert."""
    p, m, s = schema.projects, schema.members, schema.photo_state
    query = sa.select(p).order_by(p.c.created_at.desc())
    if caller.role != "requester":
        query = query.join(m, m.c.project_id == p.c.id).where(m.c.user_id == caller.user_id)
    with context.db.read() as connection:
        waiting = {
            r.project_id: int(r.n)
            for r in connection.execute(
                sa.select(s.c.project_id, sa.func.count().label("n"))
                .where(s.c.status == "escalated")
                .group_by(s.c.project_id)
            )
        }
        rows = connection.execute(query).all()
    return [
        {
            "id": r.id,
            "name": r.name,
            "instructions": r.instructions,
            "several_plates": ProjectSettings.from_json(r.settings).several_plates,
            "waiting": waiting.get(r.id, 0),
        }
        for r in rows
    ]


@router.get("/projects/{project}/review")
def review(
    project: str,
    context: Parts,
    caller: Expert,
    status: Literal["", "open", "agreed", "escalated"] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Photos with all their answers and the label, the greatest disagreement first."""
    project_id = expert_project(context, caller, project)
    found = disagreements(context.db, project_id, status=status, limit=limit, offset=offset)
    if caller.role != "requester":  # an expert judges answers, not people
        for photo in found["photos"]:
            for number, answer in enumerate(photo["answers"], start=1):
                answer["name"] = f"Answer {number}"
                del answer["worker"]
    return found


@router.get("/projects/{project}/photos/{photo}/file")
def photo_file(project: str, photo: str, context: Parts, caller: Expert) -> Response:
    """A photo of the project."""
    project_id = expert_project(context, caller, project)
    p = schema.photos
    with context.db.read() as connection:
        row = connection.execute(
            sa.select(p.c.blob, p.c.media_type).where(p.c.id == photo, p.c.project_id == project_id)
        ).first()
    if row is None:
        raise NotFound("no such photo in this project")
    return Response(
        context.photos.get(row.blob),
        media_type=row.media_type,
        headers={"cache-control": "private, max-age=3600"},
    )


@router.post("/projects/{project}/photos/{photo}/decision")
def decide(
    project: str, photo: str, context: Parts, caller: Expert, body: PhotoDecision
) -> dict[str, Any]:
    """Settle a photo, or ask for another answer."""
    project_id = expert_project(context, caller, project)
    context.projects.decide(
        project_id,
        caller.user_id,
        body.kind,
        photo_id=photo,
        body={"plates": body.plates or []} if body.kind == "expert" else {},
    )
    context.deriver.wake()
    return {"decided": photo, "kind": body.kind}
