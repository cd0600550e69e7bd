"""Query options of the photo routes, and how the answer is negotiated."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import Query
from starlette.requests import Request

from platehide.serve.covers import uploaded_cover
from platehide.serve.intake import Part, media_type, parse_multipart
from platehide.serve.models import PhotoOptions
from platehide.serve.problems import Problem

PHOTO_PARTS = ("photo", "image", "file", "files", "photos")


@dataclass(frozen=True)
class HideOptions:
    """The options of ``/v1/hide``: which model, and how the photo is treated."""

    model: str | None
    photo: PhotoOptions
    image_base64: bool


def hide_options(
    model: Annotated[
        str | None, Query(max_length=128, description="NAME or NAME@VERSION of a loaded model")
    ] = None,
    style: Annotated[
        Literal["logo", "solid", "blur"] | None,
        Query(description="cover style; blur is NOT safe: blurred text can be recovered"),
    ] = None,
    cover: Annotated[
        str | None, Query(max_length=64, description="id of a cover, see /v1/covers")
    ] = None,
    variant: Annotated[
        Literal["light", "dark"] | None, Query(description="light or dark cover")
    ] = None,
    text: Annotated[
        str | None, Query(min_length=1, max_length=40, description="a line on the cover")
    ] = None,
    conf: Annotated[
        float | None,
        Query(ge=0, le=1, allow_inf_nan=False, description="cover plates from this confidence"),
    ] = None,
    verify: Annotated[
        Literal["full", "fast", "off"] | None, Query(description="proof on the finished photo")
    ] = None,
    keep_metadata: Annotated[
        Literal["none", "safe", "location"] | None, Query(description="metadata that stays")
    ] = None,
    image_base64: Annotated[
        bool, Query(description="with Accept: application/json: the photo too")
    ] = False,
) -> HideOptions:
    """Collect the query options (a FastAPI dependency)."""
    return HideOptions(
        model,
        PhotoOptions(
            conf=conf,
            verify=verify,
            keep_metadata=keep_metadata,
            cover_id=cover,
            style=style,
            text=text,
            variant=variant,
        ),
        image_base64,
    )


@dataclass(frozen=True)
class Body:
    """A request's photos (name, bytes) and options, whichever way they were sent."""

    photos: tuple[tuple[str, bytes], ...]
    options: PhotoOptions
    fields: dict[str, str]


def read_photos(request: Request, data: bytes, options: PhotoOptions, most: int) -> Body:
    """Take photos, an uploaded ``cover`` and plain fields out of a body.

    Raises:
        Problem: ``empty``, ``invalid_multipart``, ``too_many_photos``, ``bad_cover``.

    """
    if media_type(request.headers) != "multipart/form-data":
        if not data:
            raise Problem("empty", "the body is empty: send the photo's bytes")
        return Body((("photo", data),), options, {})
    photos: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    for part in parse_multipart(data, request.headers["content-type"]):
        if part.name == "cover" and part.filename is not None:
            options = replace(options, cover=uploaded_cover(part.data))
        elif part.name in PHOTO_PARTS:  # with or without a file name
            photos.append((_name(part, len(photos)), part.data))
        elif part.filename is None:
            fields[part.name] = part.data.decode("utf-8", "replace")
        else:
            raise Problem(
                "invalid_multipart", f"unknown part; a photo's is named {', '.join(PHOTO_PARTS)}"
            )
    if not photos:
        raise Problem("empty", "no photo in the multipart body: name its part 'photo'")
    if len(photos) > most:
        raise Problem("too_many_photos", f"at most {most} photos in one request")
    return Body(tuple(photos), options, fields)


def _name(part: Part, index: int) -> str:
    base = (part.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in base if c.isprintable())[:200]
    return name or f"photo-{index + 1}"


def json_text(text: str, what: str, code: str) -> object:
    """Return the JSON value of ``text``; a ``Problem`` with ``code`` where it is none."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(code, f"{what} is not JSON") from None
    return value


def prefers(request: Request, media: str, over: str) -> bool:
    """True when ``Accept`` names ``media`` and likes it at least as much as ``over``."""
    accept = request.headers.get("accept", "")
    quality = _quality(accept, media)
    return quality > 0 and quality >= _quality(accept, over)


def _quality(accept: str, media: str) -> float:
    """The q-value of ``media`` or its group; ``*/*`` does not count as naming it."""
    best = 0.0
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name != media and not (name.endswith("/*") and media.startswith(name[:-1])):
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        best = max(best, quality)
    return best
