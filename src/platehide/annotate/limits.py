"""What stands before the application: rate limits, body limits, security headers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from platehide.annotate.auth import SESSION_COOKIE
from platehide.annotate.db import digest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self'; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
JSON_BYTES = 1 << 20
FILE_BYTES = 51 << 20


class Buckets:
    """Token buckets by key: ``rate`` a second, up to ``burst`` at once."""

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.clock = clock
        self._levels: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str, count: float = 1.0) -> float:
        """Take ``count`` tokens; returns 0, or the seconds to wait when there are too few."""
        now = self.clock()
        with self._lock:
            if len(self._levels) > 50_000:
                self._forget(now)
            level, since = self._levels.get(key, (self.burst, now))
            level = min(self.burst, level + (now - since) * self.rate)
            if level < count:
                self._levels[key] = (level, now)
                return (count - level) / self.rate
            self._levels[key] = (level - count, now)
            return 0.0

    def _forget(self, now: float) -> None:
        full = self.burst / self.rate
        self._levels = {k: v for k, v in self._levels.items() if now - v[1] < full}


class Limits:
    """The limits of one server.

    Args:
        per_person: requests a second of one session or token.
        per_address: requests a second of one network address.
        attempts: sign-in attempts and wrong secrets a minute from one address.
    """

    def __init__(
        self, *, per_person: float = 20.0, per_address: float = 200.0, attempts: float = 12.0
    ) -> None:
        self.person = Buckets(per_person, 4 * per_person)
        self.address = Buckets(per_address, 4 * per_address)
        self.attempts = Buckets(attempts / 60.0, attempts)

    def wait(self, scope: Scope) -> float:
        """Seconds that this request comes too early; 0 when it may pass."""
        address = client_of(scope)
        wait = self.address.take(address)
        if wait:
            return wait
        secret = secret_of(scope)
        if secret:
            return self.person.take(digest(secret)[:32])
        return 0.0


def client_of(scope: Scope) -> str:
    """Network address of the caller, as far as the server can vouch for it."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope.get("headers", []):
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def secret_of(scope: Scope) -> str:
    """The bearer token or session cookie of a request, unchecked."""
    bearer = _header(scope, b"authorization")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return ""


class _TooLarge(Exception):  # noqa: N818
    """The body outgrew its limit while it was read."""


class Guard:
    """ASGI middleware: limits first, security headers on every answer."""

    def __init__(self, app: App, limits: Limits, *, https: bool) -> None:
        self.app = app
        self.limits = limits
        headers = [
            (b"content-security-policy", CSP.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]
        if https:
            headers.append((b"strict-transport-security", b"max-age=31536000"))
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        size = 0

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {k.lower() for k, _ in message["headers"]}
                extra = [h for h in self.headers if h[0] not in present]
                if scope["path"].startswith("/api/") and b"cache-control" not in present:
                    extra.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        wait = self.limits.wait(scope)
        if wait:
            await _answer(
                guarded_send,
                429,
                {"error": "too many requests; slow down", "code": "rate_limited"},
                [(b"retry-after", str(int(wait) + 1).encode())],
            )
            return
        file = scope["method"] == "POST" and scope["path"].endswith(("/photos", "/annotations"))
        limit = FILE_BYTES if file else JSON_BYTES
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) > limit:
            await _answer(
                guarded_send, 413, {"error": "the body is too large", "code": "too_large"}
            )
            return

        async def counted_receive() -> Message:
            nonlocal size
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > limit:
                    raise _TooLarge
            return message

        async def checked_send(message: Message) -> None:
            # The framework turns the exception above into an answer of its own: not that one.
            if size <= limit:
                await guarded_send(message)

        with suppress(_TooLarge):
            await self.app(scope, counted_receive, checked_send)
        if size > limit:
            body = {"error": "the body is too large", "code": "too_large"}
            await _answer(guarded_send, 413, body)


async def _answer(
    send: Send,
    status: int,
    body: dict[str, Any],
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    data = json.dumps(body).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head + (headers or [])})
    await send({"type": "http.response.body", "body": data})
