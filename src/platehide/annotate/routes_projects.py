"""What requesters do: projects, photos, people, rules, export."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.background import BackgroundTask

from platehide.annotate import schema
from platehide.annotate.context import Context, Parts, Requester
from platehide.annotate.exporting import (
    answer_annotations,
    export_layout,
    judgement_rows,
    label_annotations,
    label_rows,
)
from platehide.annotate.faults import Denied
from platehide.annotate.importing import Use, import_annotations
from platehide.annotate.media import Incoming, clean_name, iter_source
from platehide.annotate.proposals import rank_photos
from platehide.annotate.routes_people import Strict
from platehide.annotate.settings import ProjectSettings
from platehide.annotate.stats import overview, rules_dry_run, worker_table
from platehide.crowd.interchange import FormatName as AnnotationFormat
from platehide.crowd.interchange import write
from platehide.crowd.rules import default_rules, dump_rules
from platehide.errors import UsageError

router = APIRouter(prefix="/api/projects", tags=["projects"])
Purpose = Literal["task", "control", "training"]


class NewProject(Strict):
    """A new project; settings left out have their defaults."""

    name: str = Field(min_length=1, max_length=120)
    instructions: str = Field(default="", max_length=20_000)
    settings: dict[str, Any] = Field(default_factory=dict)


class ProjectChange(Strict):
    """What to change."""

    name: str | None = Field(default=None, min_length=1, max_length=120)
    instructions: str | None = Field(default=None, max_length=20_000)
    status: Literal["draft", "active", "paused", "closed"] | None = None
    settings: dict[str, Any] | None = None


class Import(Strict):
    """A folder or fsspec URL below one of the server's ``--import-root``."""

    source: str = Field(min_length=1, max_length=1000)
    purpose: Purpose = "task"


class Controls(Strict):
    """Share of the settled photos to turn into control photos."""

    share: float = Field(default=0.1, gt=0, le=1)


class Rules(Strict):
    """Rules as YAML; empty for the recommended ones."""

    rules: str = Field(default="", max_length=20_000)


class Ban(Strict):
    """Why."""

    reason: str = Field(default="", max_length=300)


class Model(Strict):
    """Which weights; the released ones where left out."""

    model: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._@-]{1,80}$")


@router.get("")
def projects(context: Parts, caller: Requester) -> list[dict[str, Any]]:
    """All projects with their progress."""
    del caller
    s = schema.photo_state
    with context.db.read() as connection:
        counts: dict[str, dict[str, int]] = {}
        for r in connection.execute(
            sa.select(s.c.project_id, s.c.status, sa.func.count().label("n")).group_by(
                s.c.project_id, s.c.status
            )
        ):
            counts.setdefault(r.project_id, {})[r.status] = int(r.n)
    return [
        {
            "id": p.id,
            "slug": p.slug,
            "name": p.name,
            "status": p.status,
            "created_at": p.created_at,
            "photos": counts.get(p.id, {}),
        }
        for p in context.projects.all()
    ]


@router.post("", status_code=201)
def create(context: Parts, caller: Requester, body: NewProject) -> dict[str, Any]:
    """Create a project (status ``draft``)."""
    del caller
    settings = ProjectSettings.from_json(body.settings)
    project_id = context.projects.create(
        body.name, instructions=body.instructions, settings=settings
    )
    return show(project_id, context)


def show(key: str, context: Context) -> dict[str, Any]:
    """A project as the API gives it."""
    p = context.projects.find(key)
    return {
        "id": p.id,
        "slug": p.slug,
        "name": p.name,
        "status": p.status,
        "instructions": p.instructions,
        "settings": ProjectSettings.from_json(p.settings).to_json(),
        "created_at": p.created_at,
    }


@router.get("/{project}")
def project(project: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """A project."""
    del caller
    return show(project, context)


@router.patch("/{project}")
def change(project: str, context: Parts, caller: Requester, body: ProjectChange) -> dict[str, Any]:
    """Change a project: name, instructions, status (start, pause, close), settings."""
    del caller
    row = context.projects.find(project)
    context.projects.change(
        row.id,
        name=body.name,
        instructions=body.instructions,
        status=body.status,
        settings=body.settings,
    )
    context.deriver.forget(row.id)
    context.deriver.wake()
    return show(row.id, context)


# Photos ------------------------------------------------------------------------------------


@router.post("/{project}/photos", status_code=201)
async def upload(
    project: str,
    request: Request,
    context: Parts,
    caller: Requester,
    name: Annotated[str, Query(min_length=1, max_length=300)],
    purpose: Purpose = "task",
    truth: Annotated[str, Query(max_length=8000)] = "",
) -> dict[str, Any]:
    """Add a photo: its bytes are the body. ``truth`` is ``{"plates": […]}`` as JSON, for
    control and training photos.
    """
    del caller
    data = await request.body()
    known = None
    if truth:
        try:
            known = json.loads(truth)
        except ValueError as error:
            raise UsageError(f"truth is not JSON: {error}") from error

    def add() -> bool:
        row = context.projects.find(project)
        item = Incoming(clean_name(name), data, {})
        return context.projects.add_photo(row.id, item, purpose=purpose, truth=known)

    return {"added": await run_in_threadpool(add), "name": name}


@router.post("/{project}/import", status_code=202)
def import_photos(project: str, context: Parts, caller: Requester, body: Import) -> dict[str, Any]:
    """Import a folder or URL that the server can read; gives a job to ask about."""
    del caller
    row = context.projects.find(project)
    source = allowed_source(context, body.source)
    job = context.jobs.run(
        row.id,
        "import",
        lambda: context.projects.add_photos(
            row.id, iter_source(source), purpose=body.purpose
        ).to_json(),
    )
    return job.to_json()


def allowed_source(context: Context, source: str) -> str:
    """``source`` if it lies below an import root.

    Raises:
        Denied: it does not; the API must not read what the server's account can read.
    """
    refused = Denied(
        "the server may not import from there; start it with --import-root, upload the photos, "
        "or use `platehide annotate add` on the server"
    )
    if "://" in source:
        roots = [r.rstrip("/") + "/" for r in context.import_roots if "://" in r]
        if "/../" in source + "/" or not any((source + "/").startswith(r) for r in roots):
            raise refused
        return source
    path = Path(source).resolve()
    folders = [Path(r).resolve() for r in context.import_roots if "://" not in r]
    if not any(path == f or path.is_relative_to(f) for f in folders):
        raise refused
    return str(path)


@router.post("/{project}/annotations", status_code=202)
async def import_file(
    project: str,
    request: Request,
    context: Parts,
    caller: Requester,
    format: AnnotationFormat,  # noqa: A002 - the query parameter's name
    use: Use | None = None,
    name: Annotated[str, Query(max_length=300)] = "upload",
) -> dict[str, Any]:
    """Put the answers or labels of another tool's file (the body; YOLO-pose as a ZIP) on the
    project's photos; gives a job to ask about. ``use`` is ``answers`` for formats that name
    workers and ``labels`` for the others, unless it says otherwise.
    """
    data = await request.body()
    row = await run_in_threadpool(context.projects.find, project)

    def work() -> dict[str, Any]:
        report = import_annotations(
            context.db,
            context.projects,
            row.id,
            caller.user_id,
            data,
            name=name,
            form=format,
            use=use,
        )
        context.deriver.wake()
        return report.to_json()

    return context.jobs.run(row.id, "annotations", work).to_json()


@router.get("/{project}/jobs/{job}")
def job(project: str, job: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """How a job is doing."""
    del caller
    return context.jobs.get(context.projects.find(project).id, job).to_json()


@router.get("/{project}/photos")
def photos(
    project: str,
    context: Parts,
    caller: Requester,
    purpose: Purpose = "task",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Photos of a project, newest first."""
    del caller
    row = context.projects.find(project)
    p, s = schema.photos, schema.photo_state
    where = (p.c.project_id == row.id, p.c.purpose == purpose)
    with context.db.read() as connection:
        total = connection.execute(
            sa.select(sa.func.count()).select_from(p).where(*where)
        ).scalar_one()
        rows = connection.execute(
            sa.select(p, s.c.status, s.c.judgements)
            .join(s, s.c.photo_id == p.c.id, isouter=True)
            .where(*where)
            .order_by(p.c.created_at.desc(), p.c.id)
            .limit(limit)
            .offset(offset)
        ).all()
    return {
        "total": int(total),
        "photos": [
            {
                "photo": r.id,
                "name": r.name,
                "width": r.width,
                "height": r.height,
                "purpose": r.purpose,
                "truth": r.truth,
                "status": r.status,
                "judgements": r.judgements,
                "priority": r.priority,
                "proposal": r.proposal,
            }
            for r in rows
        ],
    }


@router.post("/{project}/controls")
def controls(project: str, context: Parts, caller: Requester, body: Controls) -> dict[str, Any]:
    """Turn settled photos into control photos, the surest first."""
    del caller
    row = context.projects.find(project)
    return {"turned": context.projects.make_control(row.id, body.share)}


@router.post("/{project}/rank", status_code=202)
def rank(project: str, context: Parts, caller: Requester, body: Model) -> dict[str, Any]:
    """Run the detector: order open photos by its uncertainty and keep its proposals."""
    del caller
    row = context.projects.find(project)

    def work() -> dict[str, Any]:
        from platehide.detector import load_detector

        detector = load_detector(body.model)
        return rank_photos(context.db, context.photos, row.id, detector)

    return context.jobs.run(row.id, "rank", work).to_json()


# Watching ----------------------------------------------------------------------------------


@router.get("/{project}/overview")
def project_overview(project: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """Figures and series: photos, spend, throughput, agreement, time left, cost a photo."""
    del caller
    return overview(context.db, context.projects.find(project).id, context.clock())


@router.get("/{project}/workers")
def workers(project: str, context: Parts, caller: Requester) -> list[dict[str, Any]]:
    """Workers with skill, speed, control record, agreement, pay, bans and their reasons."""
    del caller
    return worker_table(context.db, context.projects.find(project).id)


@router.post("/{project}/workers/{worker}/ban")
def ban(project: str, worker: str, context: Parts, caller: Requester, body: Ban) -> dict[str, Any]:
    """Ban a worker: the answers are dropped, the photos reopened."""
    row = context.projects.find(project)
    context.projects.decide(
        row.id, caller.user_id, "ban", body={"worker": worker, "reason": body.reason}
    )
    context.deriver.wake()
    return {"banned": worker}


@router.post("/{project}/workers/{worker}/unban")
def unban(project: str, worker: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """Lift a ban: the answers count again, and rules leave the worker alone."""
    row = context.projects.find(project)
    context.projects.decide(row.id, caller.user_id, "unban", body={"worker": worker})
    context.deriver.wake()
    return {"unbanned": worker}


@router.post("/{project}/answers/{answer}/reject")
def reject(
    project: str, answer: str, context: Parts, caller: Requester, body: Ban
) -> dict[str, Any]:
    """Reject one answer: it is not paid, does not count, and the photo is asked again."""
    row = context.projects.find(project)
    context.projects.decide(
        row.id, caller.user_id, "drop", assignment_id=answer, body={"reason": body.reason}
    )
    context.deriver.wake()
    return {"rejected": answer}


@router.get("/{project}/rules/default")
def recommended_rules(project: str, context: Parts, caller: Requester) -> dict[str, Any]:
    """The recommended rules, as a document."""
    del project, context, caller
    return dump_rules(default_rules())


@router.post("/{project}/rules/dry-run")
def dry_run(project: str, context: Parts, caller: Requester, body: Rules) -> list[dict[str, Any]]:
    """What each of these rules alone would have done to the project's past."""
    del caller
    row = context.projects.find(project)
    settings = ProjectSettings.from_json({**row.settings, "rules": body.rules})
    return rules_dry_run(context.db, row.id, settings.quality_rules())


# The way out -------------------------------------------------------------------------------

Format = Literal[
    "layout",
    "labels",
    "judgements",
    "workers",
    "toloka",
    "label-studio",
    "cvat",
    "coco",
    "yolo-pose",
]
_SUFFIX = {"toloka": ".tsv", "label-studio": ".json", "cvat": ".xml", "coco": ".json"}


@router.get("/{project}/export")
def export(
    project: str,
    context: Parts,
    caller: Requester,
    format: Format = "labels",  # noqa: A002 - the query parameter's name
    all_answers: bool = False,
) -> Response:
    """Labels or answers in a format; ``layout`` and ``yolo-pose`` come as a ZIP."""
    del caller
    row = context.projects.find(project)
    if format == "labels":
        lines = label_rows(context.db, row.id)
        for line in lines:
            del line["blob"]
        return _lines(lines, f"{row.slug}-labels.jsonl")
    if format == "judgements":
        lines = judgement_rows(context.db, row.id, all_answers=all_answers)
        return _lines(lines, f"{row.slug}-judgements.jsonl")
    if format == "workers":
        return _lines(worker_table(context.db, row.id), f"{row.slug}-workers.jsonl")
    folder = Path(tempfile.mkdtemp(prefix="platehide-export-"))
    try:
        if format == "layout":
            export_layout(context.db, context.photos, row.id, folder / row.slug)
            made = _zip(folder, row.slug)
        elif format == "yolo-pose":
            write(folder / row.slug, label_annotations(context.db, row.id), "yolo-pose")
            made = _zip(folder, row.slug)
        else:
            made = folder / f"{row.slug}-{format}{_SUFFIX[format]}"
            rows = (
                answer_annotations(context.db, row.id)
                if format in {"toloka", "label-studio"}
                else label_annotations(context.db, row.id)
            )
            write(made, rows, format)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        made,
        filename=made.name,
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


def _zip(folder: Path, slug: str) -> Path:
    return Path(shutil.make_archive(str(folder / f"{slug}-export"), "zip", folder, slug))


def _lines(rows: list[dict[str, Any]], name: str) -> Response:
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    return Response(
        text,
        media_type="application/x-ndjson",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )
