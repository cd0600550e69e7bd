"""Query options of the photo routes, and how the answer is negotiated."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from platehide.serve.covers import uploaded_cover
from platehide.serve.intake import Part, media_type, parse_multipart
from platehide.serve.models import PhotoOptions
from platehide.serve.problems import Problem

PHOTO_PARTS = ("photo", "image", "file", "files", "photos")


Style = Literal["logo", "solid", "blur"]
Variant = Literal["light", "dark"]
Verify = Literal["full", "fast", "off"]
Keep = Literal["none", "safe", "location"]


@dataclass(frozen=True)
class HideOptions:
    """The options of ``/v1/hide``: which model, and how the photo is treated."""

    model: str | None
    photo: PhotoOptions
    image_base64: bool


class FormOptions(BaseModel):
    """The same options as fields of a multipart body."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=128)
    style: Style | None = None
    cover: str | None = Field(None, max_length=64, description="an id, where it is no file")
    variant: Variant | None = None
    text: str | None = Field(None, min_length=1, max_length=40)
    conf: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    verify: Verify | None = None
    keep_metadata: Keep | None = None
    image_base64: bool | None = None


QUERY_NAMES = frozenset(FormOptions.model_fields) | {"cover_id", "quads", "rows_only"}


def known_query(request: Request) -> None:
    """Refuse a misspelt query option (a FastAPI dependency): ignored, it would go unnoticed.

    Raises:
        Problem: ``invalid_parameter``.

    """
    unknown = sorted(set(request.query_params) - QUERY_NAMES)
    if unknown:
        raise Problem("invalid_parameter", f"unknown option: {', '.join(unknown)[:200]}")


def hide_options(
    model: Annotated[
        str | None, Query(max_length=128, description="NAME or NAME@VERSION of a loaded model")
    ] = None,
    style: Annotated[
        Style | None,
        Query(description="cover style; blur is NOT safe: blurred text can be recovered"),
    ] = None,
    cover: Annotated[
        str | None, Query(max_length=64, description="id of a cover, see /v1/covers")
    ] = None,
    cover_id: Annotated[
        str | None, Query(max_length=64, description="the same as cover", include_in_schema=False)
    ] = None,
    variant: Annotated[Variant | None, Query(description="light or dark cover")] = None,
    text: Annotated[
        str | None, Query(min_length=1, max_length=40, description="a line on the cover")
    ] = None,
    conf: Annotated[
        float | None,
        Query(ge=0, le=1, allow_inf_nan=False, description="cover plates from this confidence"),
    ] = None,
    verify: Annotated[Verify | None, Query(description="proof on the finished photo")] = None,
    keep_metadata: Annotated[Keep | None, Query(description="metadata that stays")] = None,
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
            cover_id=cover or cover_id,
            style=style,
            text=text,
            variant=variant,
        ),
        image_base64,
    )


@dataclass(frozen=True)
class Body:
    """A request's photos (name, bytes) and options, whichever way they were sent.

    ``fields`` are the text fields that are no options (``quads``, a job's ``webhook``).
    """

    photos: tuple[tuple[str, bytes], ...]
    asked: HideOptions
    fields: dict[str, str]

    @property
    def options(self) -> PhotoOptions:
        """How the photos are treated."""
        return self.asked.photo


def with_fields(options: HideOptions, fields: dict[str, str]) -> HideOptions:
    """Add the options that came as form fields; one that is in the query too keeps that value.

    Raises:
        Problem: ``invalid_parameter``, also for a field that is no option.

    """
    try:
        given = FormOptions.model_validate({k: v for k, v in fields.items() if v != ""})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Problem("invalid_parameter", f"{where}: {first['msg']}") from None
    photo = options.photo
    return HideOptions(
        model=options.model or given.model,
        photo=replace(
            photo,
            conf=given.conf if photo.conf is None else photo.conf,
            verify=photo.verify or given.verify,
            keep_metadata=photo.keep_metadata or given.keep_metadata,
            cover_id=photo.cover_id or given.cover,
            style=photo.style or given.style,
            text=photo.text or given.text,
            variant=photo.variant or given.variant,
        ),
        image_base64=options.image_base64 or bool(given.image_base64),
    )


def is_form(request: Request) -> bool:
    """True for a multipart body, which is taken apart; any other is the photo itself."""
    return media_type(request.headers) == "multipart/form-data"


def read_photos(
    request: Request,
    data: bytes,
    options: HideOptions,
    most: int,
    others: frozenset[str] = frozenset(),
) -> Body:
    """Take photos, an uploaded ``cover`` and text fields out of a body.

    ``others`` are the names of text fields that are no options.

    Raises:
        Problem: ``empty``, ``invalid_multipart``, ``too_many_photos``, ``bad_cover``,
            ``invalid_parameter``.

    """
    if not is_form(request):
        if not data:
            raise Problem("empty", "the body is empty: send the photo's bytes")
        return Body((("photo", data),), options, {})
    photos: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    cover = None
    for part in parse_multipart(data, request.headers["content-type"]):
        if part.name == "cover" and part.filename is not None:
            cover = uploaded_cover(part.data)
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
    asked = with_fields(options, {k: v for k, v in fields.items() if k not in others})
    if cover is not None:
        asked = replace(asked, photo=replace(asked.photo, cover=cover))
    return Body(tuple(photos), asked, {k: v for k, v in fields.items() if k in others})


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
