"""Shapes of the JSON that goes in and out, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Point = Annotated[list[float], Field(min_length=2, max_length=2)]
Quad = Annotated[list[Point], Field(min_length=4, max_length=4)]


class ProblemDocument(BaseModel):
    """RFC 9457 problem document; ``code`` is stable."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None


class PlateOut(BaseModel):
    """A plate: corners TL, TR, BR, BL in px of the displayed photo, before the margin."""

    quad: Quad
    confidence: float


class ReportRow(BaseModel):
    """The command line's report row; ``output`` is always null here."""

    model_config = ConfigDict(extra="allow")

    image: str
    output: str | None = None
    status: Literal["hidden", "none", "unsure", "error"]
    plates: list[PlateOut]
    painted: list[list[Point]]
    model: str
    ms: dict[str, float]
    edit: str | None = None
    removed: list[str] | None = None
    error: str | None = None
    code: str | None = None
    media_type: str | None = None
    image_base64: str | None = Field(None, description="the finished photo, if asked for")


class BatchOut(BaseModel):
    """One row a photo, in the order of the upload."""

    results: list[ReportRow]
    failed: int


class CoverOut(BaseModel):
    """A cover that requests can name."""

    id: str
    preview: str


class CoversOut(BaseModel):
    """The covers there are."""

    covers: list[CoverOut]
    default: str


class ModelsOut(BaseModel):
    """The models this process has loaded."""

    current: str
    candidate: str | None
    mode: str
    service: str
    keys_needed: bool
    jobs: bool


class JobRequest(BaseModel):
    """Photos to fetch; ``webhook`` is called when the job is finished."""

    model_config = ConfigDict(extra="forbid")

    urls: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(min_length=1)]
    webhook: Annotated[str, Field(max_length=2048)] | None = None
    options: dict[str, Any] = Field(
        default_factory=dict, description="the query options of /v1/hide, by name"
    )


class JobItemOut(BaseModel):
    """One photo of a job."""

    index: int
    name: str
    state: Literal["waiting", "running", "done", "failed"]
    row: ReportRow | None = None
    result: str | None = Field(None, description="path of the finished photo")


class JobOut(BaseModel):
    """A job; ``done`` once every photo is done or failed."""

    id: str
    state: Literal["waiting", "running", "done"]
    created: str
    finished: str | None = None
    expires: str | None = None
    counts: dict[str, int]
    items: list[JobItemOut]
    webhook: str | None = None
