"""Every setting of the service, once: field, environment variable, command-line option, help.

``--max-body`` on the command line is ``PLATEHIDE_MAX_BODY`` in the environment and
``Settings.max_body`` here; an option wins over the environment.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from platehide.errors import UsageError
from platehide.image_io import DEFAULT_MAX_PIXELS

ENV_PREFIX = "PLATEHIDE_"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str | int) -> int:
    """Bytes of ``32MiB``, ``500k`` or a plain number (binary units).

    Raises:
        ValueError: not a size.

    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?)(?:i?b)?\s*", text.lower())
    if match is None:
        raise ValueError(f"not a size: {text!r} (examples: 33554432, 32MiB, 500k)")
    return int(match[1]) * _UNITS[match[2]]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_GROUPS = {
    "host": "listening",
    "model": "model and output",
    "max_body": "bounds (times in seconds)",
    "api_keys": "who may ask",
    "candidate": "two models at once",
    "job_store": "asynchronous jobs",
    "otel": "watching",
}
"""First setting of each group in the help, and the group's title."""

_SIZES = ("max_body", "max_batch_body", "upload_memory")
_SHARES = ("conf", "candidate_share", "rate_limit")


class Settings(BaseSettings):
    """The service's settings; times in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="ignore", validate_default=True, frozen=True
    )

    # -- listening
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port; 0 takes a free one")
    workers: int = Field(
        1, ge=1, le=256, description="processes, each with the model in memory and its own threads"
    )
    threads: int = Field(
        0, ge=0, le=256, description="worker threads a process; 0 = cores divided by workers"
    )
    root_path: str = Field("", description="path prefix a reverse proxy strips, e.g. /platehide")
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="addresses whose X-Forwarded-For and -Proto are believed, comma-separated",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the JSON log on standard error"
    )
    access_log: bool = Field(True, description="one log line a request (ids and sizes, no image)")

    # -- model and output
    model: str | None = Field(
        None, description="weights: NAME, NAME@VERSION or a folder; default: weights/CURRENT"
    )
    conf: float | None = Field(
        None, ge=0, le=1, description="confidence from which a plate is covered; default: the spec"
    )
    verify: Literal["full", "fast", "off"] = Field(
        "fast", description="proof on the finished photo before it leaves"
    )
    keep_metadata: Literal["none", "safe", "location"] = Field(
        "none", description="metadata that stays: none, safe (date, camera), location (also GPS)"
    )
    style: str = Field("logo", description="cover style where the request names none")
    cover: str = Field("default", description="cover id where the request names none")
    covers_dir: str | None = Field(
        None, description="folder of PNG and SVG covers; a file's stem is its id"
    )
    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS, ge=1, description="a photo that declares more is refused undecoded"
    )

    # -- bounds
    max_body: int = Field(32 << 20, ge=1, description="largest request body, e.g. 32MiB")
    max_batch_body: int = Field(
        128 << 20, ge=1, description="largest body of /v1/hide:batch and /v1/jobs"
    )
    max_batch: int = Field(32, ge=1, description="most photos in one batch or job")
    budget: float = Field(
        0.25, gt=0, description="promised answer time; sizes the queue and its deadline"
    )
    in_flight: int = Field(
        0, ge=0, description="places a process; 0 = adapted: budget / measured work x threads"
    )
    queue_deadline: float = Field(
        0,
        ge=0,
        description="longest wait for a thread, then 503; 0 = 1.2 x budget, at least 1 s",
    )
    timeout: float = Field(30, gt=0, description="longest work on one photo, then 504")
    body_timeout: float = Field(60, gt=0, description="longest upload, then 408")
    body_idle_timeout: float = Field(10, gt=0, description="longest pause in an upload, then 408")
    header_timeout: float = Field(10, gt=0, description="longest wait for complete headers")
    keep_alive: float = Field(75, gt=0, description="idle connections are closed after this")
    upload_memory: int = Field(
        256 << 20, ge=1, description="upload bytes in memory a process; above it 503"
    )
    drain_delay: float = Field(
        2, ge=0, description="after SIGTERM: not ready, but still serving, for this long"
    )
    drain_timeout: float = Field(30, gt=0, description="then accepted work may take this long")

    # -- who may
    api_keys: str | None = Field(
        None, description="file of API keys (lines from --new-api-key); default: open to all"
    )
    rate_limit: float = Field(
        0, ge=0, description="photos a second for one key (or address without keys); 0 = no limit"
    )
    rate_burst: int = Field(0, ge=0, description="burst of the rate limit; 0 = 2 x rate, min 5")

    # -- two models
    candidate: str | None = Field(None, description="second model to hold beside the current one")
    candidate_mode: Literal["off", "shadow", "split"] = Field(
        "off", description="shadow: compare unseen; split: answer a share of the units with it"
    )
    candidate_share: float = Field(0.05, ge=0, le=1, description="share for the candidate")
    experiment: str = Field("candidate", description="name that salts the assignment hash")
    unit_header: str = Field("X-Unit-Id", description="header with the unit id (a seller)")
    exposure_log: str | None = Field(None, description="file or folder of exposures (split)")
    exposure_format: Literal["jsonl", "parquet"] = Field(
        "jsonl",
        description="jsonl: exposure_log is a file; parquet: a folder of Parquet files (pyarrow)",
    )

    # -- jobs
    job_store: str | None = Field(
        None,
        description="sqlite:///FILE or postgresql://...; default: a private temporary SQLite"
        " file, gone at exit",
    )
    job_ttl: float = Field(
        3600, gt=0, description="finished jobs and their photos are kept so long"
    )
    job_pending: int = Field(1000, ge=1, description="most photos waiting in the store, then 503")
    fetch_schemes: str = Field("https", description="schemes of photo and webhook URLs")
    fetch_ports: str = Field("443,80", description="ports of photo and webhook URLs")
    fetch_hosts: str = Field(
        "", description="allowed hosts, comma-separated, *.example.org; empty = any public host"
    )
    fetch_networks: str = Field(
        "", description="private networks that may be reached all the same, e.g. 10.1.0.0/16"
    )
    fetch_timeout: float = Field(20, gt=0, description="longest download of one photo")
    webhook_secret: str | None = Field(
        None, description="key of the webhooks' HMAC signature; without it webhooks are refused"
    )
    webhook_attempts: int = Field(5, ge=1, le=20, description="deliveries tried, with back-off")

    # -- watching
    otel: bool = Field(False, description="OpenTelemetry traces (OTEL_* variables apply)")

    @field_validator(*_SIZES, mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        return parse_size(value) if isinstance(value, str) else value

    @field_validator("fetch_schemes")
    @classmethod
    def _schemes(cls, value: str) -> str:
        if not set(split_list(value)) <= {"http", "https"}:
            raise ValueError("only http and https can be fetched")
        return value

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.candidate_mode != "off" and self.candidate is None:
            raise ValueError(f"candidate_mode {self.candidate_mode} needs a candidate")
        return self

    @property
    def thread_count(self) -> int:
        """Worker threads of one process."""
        return self.threads or max(1, _cores() // self.workers)


def split_list(text: str) -> list[str]:
    """Parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(name: str, kind: Any) -> str:
    if name in _SIZES:
        return "SIZE"
    if kind is int:
        return "N"
    if kind in (float, float | None):
        return "X" if name in _SHARES else "SECONDS"
    return name.rpartition("_")[2].upper()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each setting; the help names default and environment variable."""
    group = parser.add_argument_group()
    for name, info in Settings.model_fields.items():
        if name in _GROUPS:
            group = parser.add_argument_group(_GROUPS[name])
        shown = f"{info.default >> 20}MiB" if name in _SIZES else info.default
        default = "" if shown in (None, "") else f" [{shown}]"
        text = f"{info.description}{default} ({ENV_PREFIX}{name.upper()})".replace("%", "%%")
        options: dict[str, Any] = {"dest": name, "default": None, "help": text}
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else None
        if info.annotation is bool:
            group.add_argument(_option(name), action=argparse.BooleanOptionalAction, **options)
            continue
        options["metavar"] = None if choices else _metavar(name, info.annotation)
        group.add_argument(_option(name), choices=choices, **options)


def from_arguments(values: Mapping[str, Any]) -> Settings:
    """Settings from parsed options over the environment.

    Raises:
        UsageError: a value that does not fit, with the option's name.

    """
    given = {k: v for k, v in values.items() if k in Settings.model_fields and v is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        parts = []
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else ""
            message = problem["msg"].removeprefix("Value error, ")
            parts.append(
                f"{_option(name)} / {ENV_PREFIX}{name.upper()}: {message}" if name else message
            )
        raise UsageError("; ".join(parts)) from None
