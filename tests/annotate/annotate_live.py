"""A real server in a thread, for tests that need a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from platehide.annotate.app import create_app
from platehide.annotate.context import Context, build_context
from platehide.annotate.limits import Limits


@contextmanager
def running(folder: Path) -> Iterator[tuple[Context, str]]:
    """A server over a fresh SQLite store; yields its parts and its URL."""
    context = build_context(
        f"sqlite:///{folder / 'live.sqlite3'}",
        folder / "data",
        limits=Limits(per_person=1e5, per_address=1e6, attempts=1e5),
    )
    config = uvicorn.Config(create_app(context), port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    context.public_url = url
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started, "the server has not started within 120 s"
    try:
        yield context, url
    finally:
        server.should_exit = True
        thread.join(timeout=120)
        socket.close()
