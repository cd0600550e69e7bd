"""Routes that work on photos: hide, detect, batch, cover by hand, and the list of covers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import zipfile
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from platehide.serve import schemas
from platehide.serve.covers import preview_png
from platehide.serve.models import parse_quads
from platehide.serve.options import (
    Body,
    HideOptions,
    hide_options,
    is_form,
    json_text,
    known_query,
    prefers,
    read_photos,
)
from platehide.serve.problems import STATUS_OF_CODE, Problem
from platehide.serve.service import Service
from platehide.types import HideResult

PROBLEM: dict[str, Any] = {
    "description": "Problem document with a stable code",
    "content": {
        "application/problem+json": {
            "schema": {"$ref": "#/components/schemas/ProblemDocument"},
        }
    },
}
_HEADERS = {
    "X-Plate-Status": {"schema": {"type": "string", "enum": ["hidden", "none", "unsure"]}},
    "X-Plate-Count": {"schema": {"type": "integer"}},
    "X-Model-Version": {"schema": {"type": "string"}, "description": "name@version"},
    "X-Request-Id": {"schema": {"type": "string"}},
}
BINARY = {"type": "string", "format": "binary"}


_STATUSES = (400, 401, 403, 405, 408, 413, 415, 422, 429, 500, 503, 504)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problem answers of a route that takes photos."""
    return dict.fromkeys((*_STATUSES, *more), PROBLEM)


def _photo_body(many: bool, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    photo: dict[str, Any] = {"type": "array", "items": BINARY} if many else BINARY
    form = {
        "type": "object",
        "required": ["photo"],
        "properties": {
            "photo": photo,
            "cover": {**BINARY, "description": "a PNG or SVG to put on the plates"},
            **(extra or {}),
        },
    }
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if not many:
        content = {
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
            **content,
        }
    return {"requestBody": {"required": True, "content": content}}


_PHOTO_ANSWER: dict[str, Any] = {
    "description": "The finished photo, in the format that came in (HEIC and AVIF as JPEG); with"
    " Accept: application/json the report row",
    "headers": _HEADERS,
    "content": {
        "image/*": {"schema": BINARY},
        "application/json": {"schema": {"$ref": "#/components/schemas/ReportRow"}},
    },
}


def get_service(request: Request) -> Service:
    """Return the application's service (a FastAPI dependency)."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]
OptionsDep = Annotated[HideOptions, Depends(hide_options)]
router = APIRouter(tags=["photos"])


def result_headers(result: HideResult) -> dict[str, str]:
    """Headers that every answer about a photo carries."""
    timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in result.ms.items())
    return {
        "X-Plate-Status": result.status,
        "X-Plate-Count": str(len(result.plates)),
        "X-Model-Version": result.model,
        "Server-Timing": timing,
        "Cache-Control": "no-store",
    }


def failure(result: HideResult, name: str) -> Problem:
    """Return the problem for a photo that must not leave or could not be read."""
    code = result.code if result.code in STATUS_OF_CODE else "corrupt"
    assert code is not None
    return Problem(
        code,
        result.error or "the photo could not be processed",
        headers=result_headers(result),
        extra={"image": name, "plate_status": result.status, "model": result.model},
    )


def full_row(result: HideResult, name: str, *, photo: bool) -> dict[str, Any]:
    """Return the report row, with the photo as base64 where asked for and there is one."""
    row = result.row(name, None)
    if result.media_type is not None:
        row["media_type"] = result.media_type
    if photo and result.data is not None:
        row["image_base64"] = base64.b64encode(result.data).decode()
    return row


def _row_json(result: HideResult, name: str, photo: bool) -> bytes:
    return json.dumps(full_row(result, name, photo=photo)).encode()


def _batch_json(results: list[tuple[str, HideResult]], failed: int, photo: bool) -> bytes:
    rows = [full_row(result, name, photo=photo) for name, result in results]
    return json.dumps({"results": rows, "failed": failed}).encode()


async def answer(request: Request, result: HideResult, body: Body) -> Response:
    """Return the HTTP answer for one photo."""
    name, base64_too = body.photos[0][0], body.asked.image_base64
    if result.status in {"unsure", "error"} or result.data is None:
        raise failure(result, name)
    headers = result_headers(result)
    if prefers(request, "application/json", "image/*"):
        document = await asyncio.to_thread(_row_json, result, name, base64_too)
        return Response(document, 200, {**headers, "Vary": "Accept"}, "application/json")
    media = result.media_type or "application/octet-stream"
    return Response(result.data, 200, {**headers, "Vary": "Accept"}, media)


async def _one_photo(
    service: Service,
    request: Request,
    options: HideOptions,
    work: Callable[[Body], Awaitable[HideResult]],
    route: str,
    fields: frozenset[str] = frozenset(),
) -> tuple[HideResult, Body]:
    """Admit, receive, work on and count one photo; ``fields``: text fields that are no options."""
    service.enter(request)
    max_body = service.settings.max_body
    place, upload = service.admit(request, max_body)
    try:
        await service.receive(request, upload, max_body)
        if is_form(request):
            body = await asyncio.to_thread(read_photos, request, upload.data, options, 1, fields)
        else:  # nothing to take apart: not worth a thread
            body = read_photos(request, upload.data, options, 1, fields)
        place.confirm()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        result = await work(body)
        place.release()
        service.count(request, route, result, body.photos[0][1])
        service.telemetry.photo_seconds.labels(route, result.model).observe(loop.time() - begin)
        return result, body
    finally:
        place.release()
        upload.close()


@router.post(
    "/v1/hide",
    dependencies=[Depends(known_query)],
    summary="Hide the plates on a photo",
    response_class=Response,
    responses={200: _PHOTO_ANSWER, **problems(404)},
    openapi_extra=_photo_body(False),
)
async def hide(request: Request, service: ServiceDep, options: OptionsDep) -> Response:
    """Body: the photo's bytes, or multipart with ``photo`` and, if wanted, ``cover``.

    ``unsure`` answers 422 with code ``unsure`` and never a photo.
    """
    service.models.find(options.model)  # a wrong one is told before the body is read
    request_id: str = request.state.request_id
    unit = request.headers.get(service.settings.unit_header)

    async def work(body: Body) -> HideResult:
        asked = body.asked.model
        named = None if asked is None else service.models.find(asked)
        arm = service.two.choose(unit)
        model = named or arm.model
        request.state.note["model"] = model
        data = body.photos[0][1]
        result = await service.work(request, service.models.hide_call(model, data, body.options))
        if named is None:
            service.two.exposed(arm, request_id)
            other = service.models.candidate_name
            if other is not None:
                shadow = service.models.hide_call(other, data, body.options)
                service.two.shadow(service.pool, result, request_id, shadow)
        return result

    return await answer(request, *await _one_photo(service, request, options, work, "/v1/hide"))


@router.post(
    "/v1/detect",
    dependencies=[Depends(known_query)],
    summary="Find the plates on a photo, paint nothing",
    response_model=schemas.ReportRow,
    responses={200: {"headers": _HEADERS}, **problems(404)},
    openapi_extra=_photo_body(False),
)
async def detect(
    request: Request,
    service: ServiceDep,
    model: Annotated[str | None, Query(max_length=128)] = None,
    conf: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
) -> Response:
    """Answer the report row with ``painted`` empty; ``unsure`` is an answer here, not a failure."""
    service.models.find(model)

    async def work(body: Body) -> HideResult:
        name = service.models.find(body.asked.model)
        call = service.models.detect_call(name, body.photos[0][1], body.options.conf)
        return await service.work(request, call)

    options = hide_options(model=model, conf=conf)
    result, body = await _one_photo(service, request, options, work, "/v1/detect")
    image = body.photos[0][0]
    if result.status == "error":
        raise failure(result, image)
    return JSONResponse(full_row(result, image, photo=False), headers=result_headers(result))


@router.post(
    "/v1/cover",
    dependencies=[Depends(known_query)],
    summary="Cover exactly the plates that a person has marked",
    response_class=Response,
    responses={200: _PHOTO_ANSWER, **problems(404)},
    openapi_extra=_photo_body(
        False, {"quads": {"type": "string", "description": "the quads as JSON, instead of query"}}
    ),
)
async def cover_by_hand(
    request: Request,
    service: ServiceDep,
    options: OptionsDep,
    quads: Annotated[
        str | None,
        Query(description="JSON [[[x,y] x 4], ...] px, TL TR BR BL", max_length=20_000),
    ] = None,
) -> Response:
    """No detector looks at the photo: what is marked is covered, nothing else.

    ``[]`` means that a person found no plate: the photo is only scrubbed.
    """

    async def work(body: Body) -> HideResult:
        text = body.fields.get("quads", quads)
        if text is None:
            raise Problem("bad_quads", "quads is missing (query or multipart field)")
        marked = parse_quads(json_text(text, "quads", "bad_quads"))
        call = service.models.cover_call(body.photos[0][1], marked, body.options)
        return await service.work(request, call)

    fields = frozenset({"quads"})
    done = await _one_photo(service, request, options, work, "/v1/cover", fields)
    return await answer(request, *done)


@router.post(
    "/v1/hide:batch",
    dependencies=[Depends(known_query)],
    summary="Hide the plates on several photos",
    response_model=schemas.BatchOut,
    responses={
        200: {
            "description": "One row a photo with its photo as base64; with Accept:"
            " application/zip the photos and report.jsonl",
            "content": {"application/zip": {"schema": BINARY}},
        },
        **problems(404),
    },
    openapi_extra=_photo_body(True),
)
async def batch(
    request: Request,
    service: ServiceDep,
    options: OptionsDep,
    rows_only: Annotated[bool, Query(description="leave the photos out")] = False,
) -> Response:
    """Multipart with several ``photo`` parts. A photo that fails has its row, without a photo."""
    settings = service.settings
    service.enter(request)
    service.models.find(options.model)
    place, upload = service.admit(request, settings.max_batch_body)
    try:
        await service.receive(request, upload, settings.max_batch_body)
        body = await asyncio.to_thread(
            read_photos, request, upload.data, options, settings.max_batch
        )
        name = service.models.find(body.asked.model)
        upload.data = b""
        place.confirm()
        service.guard.spend(service.guard.caller(request, "photos"), len(body.photos) - 1)
        results = await service.while_connected(request, _batch(service, request, name, body))
    finally:
        place.release()
        upload.close()
    failed = sum(result.status in {"unsure", "error"} for _, result in results)
    headers = {"Cache-Control": "no-store", "X-Model-Version": name, "Vary": "Accept"}
    if prefers(request, "application/zip", "application/json"):
        packed = await asyncio.to_thread(_zip, results)
        return Response(packed, 200, headers, "application/zip")
    document = await asyncio.to_thread(_batch_json, results, failed, not rows_only)
    return Response(document, 200, headers, "application/json")


async def _batch(
    service: Service, request: Request, model: str, body: Body
) -> list[tuple[str, HideResult]]:
    """One photo after the other, so that a batch never holds more than one thread."""
    results = []
    for image, data in body.photos:
        call = service.models.hide_call(model, data, body.options)
        result = await service.pool.run(call, timeout=service.settings.timeout)
        service.count(request, "/v1/hide:batch", result, data)
        results.append((image, result))
    return results


def safe_name(name: str, index: int, suffix: str = "") -> str:
    """Return a file name for an archive: no folders, unique by its number."""
    base = re.sub(r"[^\w.\- ]", "_", name).lstrip(".") or "photo"
    return f"{index + 1:03d}-{base}{suffix}"


def _zip(results: list[tuple[str, HideResult]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        rows = []
        for index, (image, result) in enumerate(results):
            target = None
            if result.data is not None:
                target = safe_name(image, index, result.suffix)
                archive.writestr(target, result.data)
            rows.append(json.dumps(result.row(image, target)))
        archive.writestr("report.jsonl", "\n".join(rows) + "\n")
    return out.getvalue()


@router.get(
    "/v1/covers", summary="The covers that requests can name", response_model=schemas.CoversOut
)
async def covers(service: ServiceDep) -> dict[str, Any]:
    """List the covers with their previews."""
    return {
        "covers": [
            {"id": name, "preview": f"v1/covers/{name}/preview"}
            for name in service.models.covers.by_id
        ],
        "default": service.settings.cover,
    }


@router.get(
    "/v1/covers/{cover}/preview",
    summary="A small PNG of a cover",
    response_class=Response,
    responses={200: {"content": {"image/png": {"schema": BINARY}}}, 404: PROBLEM, 400: PROBLEM},
)
async def cover_preview(
    service: ServiceDep, cover: Annotated[str, Path(max_length=64)]
) -> Response:
    """Answer the preview; it may be cached."""
    png = await asyncio.to_thread(preview_png, service.models.covers.get(cover))
    return Response(png, 200, {"Cache-Control": "public, max-age=300"}, "image/png")
