"""A real server in a thread, for tests that need a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from platehide.annotate.app import create_app
from platehide.annotate.context import Context, build_context
from platehide.annotate.limits import Limits

taps: list[list[str]] = []
"""Lists that get all that the server's API answers: a line of path, status and headers, and the
body unless it is a picture.
"""


class Tapped:
    """An ASGI application, overheard."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        heard = scope["type"] == "http" and scope["path"].startswith("/api/")

        async def overheard(message: Any) -> None:
            if heard and message["type"] == "http.response.start":
                headers = {k.decode(): v.decode() for k, v in message["headers"]}
                scope["picture"] = headers.get("content-type", "").startswith("image/")
                _note(f"{scope['path']} {message['status']} {headers}")
            elif heard and message["type"] == "http.response.body" and not scope["picture"]:
                _note(message.get("body", b"").decode())
            await send(message)

        await self.app(scope, receive, overheard)


def _note(text: str) -> None:
    for tap in taps:
        tap.append(text)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Context, str]]:
    """A server over a fresh SQLite store; yields its parts and its URL."""
    context = build_context(
        f"sqlite:///{folder / 'live.sqlite3'}",
        folder / "data",
        limits=Limits(per_person=1e5, per_address=1e6, attempts=1e5),
    )
    config = uvicorn.Config(
        Tapped(create_app(context)), port=0, log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    context.public_url = url
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 240
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started, "the server has not started within 240 s"
    try:
        yield context, url
    finally:
        server.should_exit = True
        thread.join(timeout=240)
        socket.close()
