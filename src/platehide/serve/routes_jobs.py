"""Asynchronous jobs over HTTP."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import zipfile
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Path
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from platehide.serve import schemas
from platehide.serve.intake import media_type
from platehide.serve.jobs import Jobs, job_options
from platehide.serve.options import hide_options, json_text, read_photos, with_fields
from platehide.serve.problems import STATUS_OF_CODE, Problem
from platehide.serve.routes_photos import BINARY, PROBLEM, ServiceDep, problems, safe_name
from platehide.serve.service import Service

router = APIRouter(tags=["jobs"], prefix="/v1/jobs")
JobId = Annotated[str, Path(max_length=64)]
Index = Annotated[int, Path(ge=0, le=100_000)]
_OPTIONS = ("model", "conf", "verify", "keep_metadata", "cover", "style", "text", "variant")

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": {
                        "photo": {"type": "array", "items": BINARY},
                        "webhook": {"type": "string"},
                        "options": {"type": "string", "description": "JSON object"},
                    },
                }
            },
        },
    }
}


def _jobs(service: Service) -> Jobs:
    assert service.jobs is not None  # the routes exist only then
    return service.jobs


@router.post(
    "",
    summary="Hand in photos (or their URLs) to be worked on later",
    status_code=202,
    response_model=schemas.JobOut,
    responses=problems(),
    openapi_extra=_BODY,
)
async def create(request: Request, service: ServiceDep) -> Response:
    """Answer 202 and the job; ``Location`` is its address.

    Uploads are kept in the job store until they were worked on, results until the job expires
    or is deleted.
    """
    jobs, settings = _jobs(service), service.settings
    caller = service.enter(request, scope="jobs")
    place, upload = service.admit(request, settings.max_batch_body)
    try:
        await service.receive(request, upload, settings.max_batch_body)
        place.release()  # the work is not now
        if media_type(request.headers) == "multipart/form-data":
            photos, webhook, options = await asyncio.to_thread(
                _uploads, request, upload.data, settings.max_batch
            )
        else:
            photos, webhook, options = _urls(jobs, upload.data, settings.max_batch)
        _check(service, jobs, webhook, options)
        service.guard.spend(caller, len(photos) - 1)
        job = await jobs.call(
            jobs.store.create,
            caller.name if caller.key else "",
            photos,
            options=options,
            webhook=webhook,
            ttl=settings.job_ttl,
            most_pending=settings.job_pending,
        )
    finally:
        place.release()
        upload.close()
    if job is None:
        raise Problem("job_queue_full", "too many photos wait", headers={"Retry-After": "30"})
    service.telemetry.jobs.labels("accepted").inc()
    jobs.wake()
    headers = {"Location": f"{request.scope.get('root_path', '')}/v1/jobs/{job}"}
    return JSONResponse(await _status(service, request, job), 202, headers)


Photos = list[tuple[str, str | None, bytes | None]]


def _uploads(request: Request, data: bytes, most: int) -> tuple[Photos, str | None, dict[str, Any]]:
    names = frozenset({"options", "webhook", *_OPTIONS})
    body = read_photos(request, data, hide_options(), most, names)
    if body.options.cover is not None:
        raise Problem("invalid_parameter", "a job takes a cover id, not an uploaded cover")
    options = json_text(body.fields.get("options", "{}"), "options", "invalid_parameter")
    if not isinstance(options, dict):
        raise Problem("invalid_parameter", "options is a JSON object")
    # single options may come as fields of their own, like those of /v1/hide
    single = {k: v for k, v in body.fields.items() if k in _OPTIONS and v != ""}
    asked = with_fields(hide_options(), single)
    options = {k: asked.photo.conf if k == "conf" else v for k, v in single.items()} | options
    return [(name, None, photo) for name, photo in body.photos], body.fields.get("webhook"), options


def _urls(jobs: Jobs, data: bytes, most: int) -> tuple[Photos, str | None, dict[str, Any]]:
    try:
        asked = schemas.JobRequest.model_validate(
            json_text(data.decode("utf-8"), "the body", "bad_request")
        )
    except UnicodeDecodeError:
        raise Problem("bad_request", "the body is not JSON") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Problem("invalid_parameter", f"{where}: {first['msg']}") from None
    if len(asked.urls) > most:
        raise Problem("too_many_photos", f"at most {most} photos in one job")
    for url in asked.urls:
        jobs.policy.check_url(url)
    photos: Photos = [
        ((urlsplit(url).path.rsplit("/", 1)[-1] or "photo")[:200], url, None) for url in asked.urls
    ]
    return photos, asked.webhook, asked.options


def _check(service: Service, jobs: Jobs, webhook: str | None, options: dict[str, Any]) -> None:
    """Refuse now what could only fail later."""
    unknown = set(options) - set(_OPTIONS)
    if unknown:
        raise Problem("invalid_parameter", f"unknown options: {', '.join(sorted(unknown))}")
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and name == "conf" and 0 <= value <= 1:
            continue
        if name == "conf" or not isinstance(value, str) or len(value) > 128:
            raise Problem("invalid_parameter", f"options.{name}: a value that does not fit")
    allowed = {
        "verify": ("full", "fast", "off"),
        "keep_metadata": ("none", "safe", "location"),
        "variant": ("light", "dark"),
    }
    for name, values in allowed.items():
        if options.get(name, values[0]) not in values:
            raise Problem("invalid_parameter", f"options.{name}: one of {', '.join(values)}")
    service.models.find(options.get("model"))
    service.models.cover_for(job_options(options))
    if webhook is not None:
        if service.settings.webhook_secret is None:
            raise Problem("webhooks_disabled", "this service has no --webhook-secret")
        jobs.policy.check_url(webhook)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _owner(service: Service, request: Request) -> str:
    caller = service.guard.caller(request, "jobs")
    return caller.name if caller.key else ""


async def _status(service: Service, request: Request, job: str) -> dict[str, Any]:
    jobs = _jobs(service)
    found = await jobs.call(jobs.store.get, job, _owner(service, request))
    if found is None:
        raise Problem("unknown_job", "no such job (it may have expired)")
    states = [item["state"] for item in found["items"]]
    counts = {name: states.count(name) for name in ("waiting", "running", "done", "failed")}
    started = counts["waiting"] < len(states)
    state = "done" if found["finished"] else "running" if started else "waiting"
    base = f"{request.scope.get('root_path', '')}/v1/jobs/{job}"
    items = [
        {**item, "result": f"{base}/photos/{item['index']}" if item["state"] == "done" else None}
        for item in found["items"]
    ]
    return {
        "id": job,
        "state": state,
        "created": _time(found["created"]),
        "finished": _time(found["finished"]),
        "expires": _time(found["expires"]) if found["finished"] else None,
        "counts": counts,
        "items": items,
        "webhook": found["webhook"],
    }


@router.get(
    "/{job}",
    summary="Status of a job",
    response_model=schemas.JobOut,
    responses=dict.fromkeys((400, 401, 403, 404), PROBLEM),
)
async def status(request: Request, service: ServiceDep, job: JobId) -> Response:
    """Answer the job with a row for each photo."""
    return JSONResponse(await _status(service, request, job), headers={"Cache-Control": "no-store"})


@router.get(
    "/{job}/photos/{index}",
    summary="A finished photo of a job",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {"schema": BINARY}}},
        **dict.fromkeys((400, 401, 403, 404, 409, 415, 422, 500), PROBLEM),
    },
)
async def photo(request: Request, service: ServiceDep, job: JobId, index: Index) -> Response:
    """Answer the photo, 409 while it waits, or the problem that it ended with."""
    jobs = _jobs(service)
    found = await jobs.call(jobs.store.result, job, index, _owner(service, request))
    if found is None:
        raise Problem("unknown_job", "no such job or photo (it may have expired)")
    state, (data, media, name, suffix, row) = found
    if state in {"waiting", "running"}:
        raise Problem("not_finished", f"the photo is {state}", headers={"Retry-After": "1"})
    headers = {
        "X-Plate-Status": row["status"],
        "X-Plate-Count": str(len(row["plates"])),
        "X-Model-Version": row["model"],
        "Cache-Control": "no-store",
    }
    if data is None:
        code = "unsure" if row["status"] == "unsure" else row.get("code")
        known = code if code in STATUS_OF_CODE else "corrupt"
        extra = {"photo_code": row.get("code", known)}
        raise Problem(known, row.get("error", ""), headers=headers, extra=extra)
    filename = quote(name + (suffix or ""))
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{filename}"
    return Response(data, 200, headers, media)


@router.get(
    "/{job}/result",
    summary="All finished photos of a job and report.jsonl in a zip",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": {"schema": BINARY}}},
        **dict.fromkeys((400, 401, 403, 404, 409), PROBLEM),
    },
)
async def result(request: Request, service: ServiceDep, job: JobId) -> Response:
    """Answer the archive, or 409 while photos wait."""
    jobs = _jobs(service)
    found = await _status(service, request, job)
    if found["state"] != "done":
        raise Problem("not_finished", f"the job is {found['state']}", headers={"Retry-After": "1"})
    owner = _owner(service, request)
    packed = await jobs.call(_pack, jobs, job, owner, len(found["items"]))
    headers = {
        "Content-Disposition": f'attachment; filename="{job}.zip"',
        "Cache-Control": "no-store",
    }
    return Response(packed, 200, headers, "application/zip")


def _pack(jobs: Jobs, job: str, owner: str, count: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        rows = []
        for index in range(count):
            found = jobs.store.result(job, index, owner)
            if found is None:
                continue
            data, _, name, suffix, row = found[1]
            if data is not None:
                row["output"] = safe_name(name, index, suffix or "")
                archive.writestr(row["output"], data)
            rows.append(json.dumps(row))
        archive.writestr("report.jsonl", "\n".join(rows) + "\n")
    return out.getvalue()


@router.delete(
    "/{job}",
    summary="Delete a job and its photos",
    status_code=204,
    response_class=Response,
    responses=dict.fromkeys((400, 401, 403, 404), PROBLEM),
)
async def delete(request: Request, service: ServiceDep, job: JobId) -> Response:
    """Delete at once; photos that run are finished and dropped."""
    jobs = _jobs(service)
    if not await jobs.call(jobs.store.delete, job, _owner(service, request)):
        raise Problem("unknown_job", "no such job (it may have expired)")
    return Response(status_code=204)
