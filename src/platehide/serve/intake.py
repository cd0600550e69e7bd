"""Read request bodies within bounds, in memory only: a photo is never spooled to disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from platehide.serve.admission import Gate
from platehide.serve.problems import Problem

MAX_PARTS = 200
MAX_FIELD_BYTES = 64 << 10


@dataclass(frozen=True)
class Part:
    """One part of a multipart body; ``filename`` is ``None`` for a plain field."""

    name: str
    filename: str | None
    content_type: str
    data: bytes


@dataclass(frozen=True)
class Limits:
    """Bounds of one body: bytes, and seconds for the whole and for a pause."""

    max_body: int
    total_seconds: float
    idle_seconds: float


@dataclass
class Upload:
    """A complete body. ``close`` returns its bytes to the memory budget."""

    gate: Gate
    data: bytes = b""
    _charged: int = field(default=0, repr=False)

    def charge(self, size: int) -> None:
        """Count ``size`` more bytes; raises ``busy`` when memory is short."""
        self.gate.buffer(size)
        self._charged += size

    def close(self) -> None:
        """Give the memory back (idempotent)."""
        self.data = b""
        self.gate.buffer(-self._charged)
        self._charged = 0


def check_length(request: Request, max_body: int) -> int | None:
    """Return the declared body length, or ``None`` if there is none.

    Raises:
        Problem: ``body_too_large`` or ``bad_request``, from the headers alone.

    """
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise Problem("bad_request", "Content-Length is not a number")
    length = int(text)
    if length > max_body:
        raise too_large(max_body)
    return length


def too_large(max_body: int) -> Problem:
    """Return the 413."""
    return Problem(
        "body_too_large",
        f"the body is larger than {max_body} bytes",
        extra={"max_body": max_body},
    )


async def read_body(request: Request, limits: Limits, upload: Upload) -> None:
    """Fill ``upload`` from the connection.

    Raises:
        Problem: ``body_too_large``, ``slow_upload``, ``busy`` (memory).
        ClientDisconnect: the client went away.

    """
    declared = check_length(request, limits.max_body)
    chunks: list[bytes] = []
    size = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.total_seconds
    while True:
        wait = min(limits.idle_seconds, end - loop.time())
        try:
            async with asyncio.timeout(max(wait, 0)):
                message = await request.receive()
        except TimeoutError:
            raise Problem("slow_upload", "the upload was too slow") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_body:
            raise too_large(limits.max_body)
        if chunk:
            upload.charge(len(chunk))
            chunks.append(chunk)
        if not message.get("more_body", False):
            break
    if declared is not None and size != declared:
        raise Problem("bad_request", "the body is shorter than Content-Length")
    upload.data = chunks[0] if len(chunks) == 1 else b"".join(chunks)


def media_type(headers: Mapping[str, str]) -> str:
    """Return the lower-case media type of ``Content-Type`` without parameters."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def parse_multipart(data: bytes, content_type: str) -> list[Part]:
    """Split a ``multipart/form-data`` body.

    Raises:
        Problem: ``invalid_multipart``, ``too_many_photos``.

    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem("invalid_multipart", "multipart without a boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(data)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise Problem("invalid_multipart", f"the multipart body is damaged: {error}") from None
    if not collector.ended:
        raise Problem("invalid_multipart", "the multipart body ends early")
    return collector.parts


class _Collector:
    """Callbacks of the multipart parser; builds ``parts``."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._data: list[bytes] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, a, b: self._data.append(bytes(data[a:b])),
            "on_part_end": self._end,
            "on_header_field": self._field,
            "on_header_value": self._more_value,
            "on_header_end": self._header,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise Problem("too_many_photos", f"more than {MAX_PARTS} parts")
        self._headers, self._name, self._value, self._data = {}, b"", b"", []

    def _field(self, data: bytes, a: int, b: int) -> None:
        self._name += data[a:b]

    def _more_value(self, data: bytes, a: int, b: int) -> None:
        self._value += data[a:b]

    def _header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        name = options.get(b"name")
        if name is None:
            raise Problem("invalid_multipart", "a part has no name")
        filename = options.get(b"filename")
        data = b"".join(self._data)
        if filename is None and len(data) > MAX_FIELD_BYTES:
            raise Problem("invalid_multipart", f"a field is larger than {MAX_FIELD_BYTES} bytes")
        self.parts.append(
            Part(
                name.decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                self._headers.get("content-type", "").lower(),
                data,
            )
        )

    def _finish(self) -> None:
        self.ended = True
