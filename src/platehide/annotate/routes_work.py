"""What annotators' browsers and scripts talk to."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Path, Response
from pydantic import Field

from platehide.annotate import captcha, schema
from platehide.annotate.context import Parts, Worker
from platehide.annotate.faults import AnnotateError
from platehide.annotate.routes_people import Strict
from platehide.annotate.settings import ProjectSettings

router = APIRouter(prefix="/api/work", tags=["work"])
Id = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]


class Answer(Strict):
    """An answer with the client's own id of it, which makes sending it again harmless.

    ``answer`` is ``{"plates": [[[x, y] × 4] …]}`` in pixels of the photo, corners in any order
    (no plates: there is none), or ``{"skip": true, "reason": "unreadable"}``.
    """

    client_id: str = Field(min_length=8, max_length=64)
    answer: dict[str, Any]


class Solution(Strict):
    """What was read or heard."""

    text: str = Field(min_length=1, max_length=40)


@router.get("/projects")
def my_projects(context: Parts, caller: Worker) -> list[dict[str, Any]]:
    """Projects that you were invited to."""
    p, m = schema.projects, schema.members
    with context.db.read() as connection:
        rows = connection.execute(
            sa.select(p)
            .join(m, m.c.project_id == p.c.id)
            .where(m.c.user_id == caller.user_id, p.c.status.in_(("active", "paused")))
            .order_by(p.c.created_at.desc())
        ).all()
    found = []
    for row in rows:
        settings = ProjectSettings.from_json(row.settings)
        found.append(
            {
                "id": row.id,
                "name": row.name,
                "status": row.status,
                "instructions": row.instructions,
                "price": settings.price,
                "currency": settings.currency,
                "several_plates": settings.several_plates,
            }
        )
    return found


@router.post("/projects/{project}/desk")
def desk(project: Id, context: Parts, caller: Worker) -> dict[str, Any]:
    """The tasks on your desk: the one to do and the next one. Asking again gives the same."""
    return context.desk.view(caller.user_id, project)


@router.post("/tasks/{task}/answer")
def answer(task: Id, context: Parts, caller: Worker, body: Answer) -> dict[str, Any]:
    """Send an answer; the reply is your desk, topped up."""
    done, view = context.desk.submit(caller.user_id, task, body.client_id, body.answer)
    return {"saved": True, "duplicate": done.duplicate, "feedback": done.feedback, "desk": view}


@router.get("/tasks/{task}/photo")
def photo(task: Id, context: Parts, caller: Worker) -> Response:
    """The photo of a task on your desk. No name, no date, nothing but pixels."""
    blob, media_type = context.desk.photo_of(caller.user_id, task)
    return Response(
        context.photos.get(blob),
        media_type=media_type,
        headers={"cache-control": "private, max-age=3600, immutable"},
    )


@router.get("/captcha/{captcha_id}/picture")
def captcha_picture(captcha_id: Id, context: Parts, caller: Worker) -> Response:
    """The captcha as a picture."""
    riddle = context.desk.riddle(caller.user_id, captcha_id)
    return Response(captcha.draw_picture(riddle), media_type="image/png")


@router.get("/captcha/{captcha_id}/sound")
def captcha_sound(captcha_id: Id, context: Parts, caller: Worker) -> Response:
    """The captcha as a sound."""
    riddle = context.desk.riddle(caller.user_id, captcha_id)
    return Response(captcha.play_sound(riddle), media_type="audio/wav")


@router.post("/captcha/{captcha_id}")
def captcha_solve(captcha_id: Id, context: Parts, caller: Worker, body: Solution) -> dict[str, Any]:
    """Solve a captcha."""
    if context.limits.attempts.take(f"captcha {caller.user_id}"):
        raise AnnotateError("too many attempts; wait a minute", code="rate_limited", status=429)
    right, view = context.desk.solve(caller.user_id, captcha_id, body.text)
    return {"right": right, "desk": view}
