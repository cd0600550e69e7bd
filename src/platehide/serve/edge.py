"""The outermost layer of the application (plain ASGI): what every request gets.

Request id, problem documents for everything that fails, security headers, metrics and one log
line, a bound on how long a client may take to read, and *early answers that arrive*: when the
answer is ready before the body was read, the answer is sent first and the body is then read and
thrown away for a moment. Closing at once would make the kernel reset the connection, and an
ordinary client, still sending, would see a broken pipe instead of the 413 or 503.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from platehide.serve.admission import Gate
from platehide.serve.logs import event
from platehide.serve.problems import Problem
from platehide.serve.telemetry import Telemetry
from platehide.serve.tracing import Tracing

DRAIN_SECONDS = 5.0
DRAIN_IDLE_SECONDS = 2.0
DRAIN_BYTES = 256 << 20
MAX_DRAINING = 64
WRITE_SECONDS = 60.0

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
PHOTO_ROUTES = frozenset({"/v1/hide", "/v1/detect", "/v1/cover"})
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})


class Edge:
    """Wraps the application. ``note`` fields for the log line go into ``scope["state"]``."""

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        tracing: Tracing,
        *,
        access_log: bool = True,
        gate: Gate | None = None,
        max_body: int = 0,
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._tracing = tracing
        self._access_log = access_log
        self._gate = gate
        self._max_body = max_body
        self._draining_bodies = 0
        self.closing = False
        """While True every answer asks the client to close its connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        self._begin = time.perf_counter()
        length = self._headers.get("content-length")
        chunked = "transfer-encoding" in self._headers
        self._body_complete = length in (None, "0") and not chunked
        self._declared = int(length) if length is not None and length.isdigit() else None
        self._expects = self._headers.get("expect", "").lower() == "100-continue"
        self._asked_for_body = False
        self._gone = False
        self._status = 0
        self._bytes_in = 0
        self._bytes_out = 0

    async def run(self) -> None:
        state: dict[str, Any] = self._scope.setdefault("state", {})
        note: dict[str, Any] = {}
        state["request_id"] = self.request_id
        state["note"] = note
        traced = self._edge._tracing.request(self._scope, self._headers, self.request_id)
        with traced as span:
            try:
                self._refuse_if_full(note)
                await self._edge._app(self._scope, self.receive, self.send)
            except ClientDisconnect:
                self._gone = True
            except Problem as problem:  # raised outside the router
                await self._answer(problem)
            except Exception:
                event_id = self.request_id
                logging.getLogger("platehide.serve").exception(
                    "internal_error", extra={"fields": {"request_id": event_id}}
                )
                await self._answer(Problem("internal", "an internal error; see the log"))
            self._finish(note, span)

    def _refuse_if_full(self, note: dict[str, Any]) -> None:
        """Say ``busy`` before the router: in an overload most requests end here, and their cost
        is taken from the photos that are worked on. What does not get this far is refused by the
        route itself.
        """
        edge, scope = self._edge, self._scope
        if (
            edge._gate is not None
            and scope["path"] in PHOTO_ROUTES
            and scope["method"] == "POST"
            and (self._declared or 0) <= edge._max_body  # else a 413: trying again is no use
            and edge._gate.full
        ):
            note["route"] = scope["path"]
            raise edge._gate.refusal()

    async def _answer(self, problem: Problem) -> None:
        if self._status or self._gone:
            return  # too late to say anything; the server closes the connection
        self._scope["state"]["note"]["code"] = problem.code
        await problem.response(self.request_id)(self._scope, self.receive, self.send)

    async def receive(self) -> Message:
        self._asked_for_body = True
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes_in += len(message.get("body", b""))
            self._body_complete = not message.get("more_body", False)
        else:
            self._gone = not self._status
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
            headers += _SECURITY
            if self._must_close():
                headers = [h for h in headers if h[0].lower() != b"connection"]
                headers.append((b"connection", b"close"))
            await self._send({**message, "headers": headers})
            return
        self._bytes_out += len(message.get("body", b""))
        last = not message.get("more_body", False)
        drain = last and not self._body_complete and not self._unsent_body()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._send({**message, "more_body": True} if drain else message)
        except TimeoutError:
            raise ClientDisconnect from None
        if drain:
            await self._throw_away()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _unsent_body(self) -> bool:
        """True where the client waits for '100 Continue' and so never sends its body."""
        return self._expects and not self._asked_for_body

    def _must_close(self) -> bool:
        if self._edge.closing:
            return True
        if self._body_complete:
            return False
        known = self._declared is not None and self._declared <= DRAIN_BYTES
        return self._unsent_body() or not known or self._edge._draining_bodies >= MAX_DRAINING

    async def _throw_away(self) -> None:
        """Read the rest of the body for a moment; memory is constant, the answer has left."""
        edge = self._edge
        if edge._draining_bodies >= MAX_DRAINING:
            return
        edge._draining_bodies += 1
        dropped = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._body_complete and dropped < DRAIN_BYTES:
                    async with asyncio.timeout(DRAIN_IDLE_SECONDS):
                        message = await self._receive()
                    if message["type"] != "http.request":
                        return
                    dropped += len(message.get("body", b""))
                    self._body_complete = not message.get("more_body", False)
        except TimeoutError:
            return
        finally:
            edge._draining_bodies -= 1

    def _finish(self, note: dict[str, Any], span: Any) -> None:
        seconds = time.perf_counter() - self._begin
        route = getattr(self._scope.get("route"), "path", None) or note.pop("route", "other")
        method = self._scope["method"]
        method = method if method in _METHODS else "other"
        status = 499 if self._gone else self._status or 500
        telemetry = self._edge._telemetry
        model = note.get("model") or telemetry.model
        telemetry.requests.labels(route, method, str(status), model).inc()
        if not self._gone:
            telemetry.request_seconds.labels(route, model).observe(seconds)
        if "code" in note:
            telemetry.errors.labels(note["code"], route, model).inc()
        self._edge._tracing.finish(span, route, status, note)
        if self._edge._access_log:
            event(
                "request",
                logging.DEBUG if route in QUIET_ROUTES else logging.INFO,
                request_id=self.request_id,
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1e3, 1),
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
                **note,
            )
