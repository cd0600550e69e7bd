"""One server process: connection limits that uvicorn has not, and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from platehide.serve.app import create_app, wrap
from platehide.serve.edge import Edge
from platehide.serve.jobs import Jobs
from platehide.serve.jobstore import JobStore
from platehide.serve.logs import configure_logging, event
from platehide.serve.models import ModelSource
from platehide.serve.problems import MEDIA_TYPE, Problem
from platehide.serve.service import Service
from platehide.serve.settings import Settings

MAX_HEADER_BYTES = 64 << 10
LAST_CHANCE_SECONDS = 3.0
"""How long a new connection whose request has not arrived keeps a stopping process waiting."""
HANDSHAKE_SECONDS = 0.05
EXIT_MODEL_FAILED = 3
SO_ATTACH_FILTER = 26  # not in Python's socket module


class _Config(uvicorn.Config):
    """uvicorn's configuration and the time that headers may take."""

    header_timeout: float = 10.0


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds on the headers' time and size, and refusals as problem documents."""

    config: _Config

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._timer: asyncio.TimerHandle | None = None
        self._reading_headers = True  # so too until the first request begins
        self._header_bytes = 0

    @property
    def expects_request(self) -> bool:
        """True where the first request, or the rest of a later one's headers, is still to come."""
        return self._reading_headers and not self.transport.is_closing()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reading_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(Problem("headers_too_large", "the headers are too large"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_headers = True
        self._header_bytes = 0
        self._arm(self.config.header_timeout)

    def on_headers_complete(self) -> None:
        self._reading_headers = False
        self._disarm()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("bad_request", msg))

    def _refuse(self, problem: Problem) -> None:
        body = json.dumps(problem.document(None)).encode()
        head = (
            f"HTTP/1.1 {problem.status} {problem.document(None)['title']}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Drains before it stops.

    SIGTERM: not ready at once, but serving for ``drain_delay`` seconds (a load balancer needs a
    moment to look), every answer closing its connection; then the listener stops, connections
    that the kernel had already accepted are still taken, and accepted work is finished.
    """

    def __init__(
        self, config: _Config, service: Service, edge: Edge, all_stop: Callable[[], bool]
    ) -> None:
        super().__init__(config)
        self._all_stop = all_stop
        self._service = service
        self._edge = edge
        self._signals = 0
        self._delay = service.settings.drain_delay
        self._stop_at: float | None = None
        self._parent = os.getppid()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal; the loop acts on it."""
        del frame
        self._signals += 1
        if sig == signal.SIGINT:
            self._delay = 0.0
            self._stop_at = None if self._stop_at is None else 0.0
            self.force_exit = self._signals > 1

    async def on_tick(self, counter: int) -> bool:
        """Begin and end the draining."""
        orphaned = self._parent not in {1, os.getppid()}
        if (self._signals or orphaned) and self._stop_at is None:
            self._service.drain()
            self._edge.closing = True
            self._stop_at = time.monotonic() + self._delay
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what the kernel has accepted, then finish what there is."""
        self._edge.closing = True
        kept = [sock.dup() for sock in sockets or []]
        for server in self.servers:
            server.close()
        if self._all_stop():  # the listener is shared: other workers would go deaf with this one
            for listener in kept:
                ignore_new(listener)
        await self._accept_rest(kept)
        await self._requests_arrive()
        await super().shutdown(sockets)

    async def _requests_arrive(self) -> None:
        """Give a client that was accepted a moment ago the time to send its request."""
        end = time.monotonic() + LAST_CHANCE_SECONDS
        while time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(HANDSHAKE_SECONDS)
            connections: set[Any] = self.server_state.connections
            if not any(connection.expects_request for connection in connections):
                return

    async def _accept_rest(self, listeners: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for last in (False, True):  # twice: a handshake may have been half done
            for listener in listeners:
                listener.setblocking(False)
                while True:
                    try:
                        connection = listener.accept()[0]
                    except OSError:
                        break
                    connection.setblocking(False)
                    await loop.connect_accepted_socket(self._protocol, connection)
                if last:
                    listener.close()
            if not last:
                await asyncio.sleep(HANDSHAKE_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def ignore_new(listener: socket.socket) -> None:
    """Let the kernel drop every further connection attempt (SYN) at a listening socket.

    Between the last ``accept`` and ``close`` the kernel would else complete handshakes and then
    reset those connections: requests that the client believes accepted. A dropped attempt is
    repeated by the client's kernel and then refused, or answered by another process. Where the
    system has no such filter nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    flags_offset, syn = 13, 0x02  # in the TCP header, where the filter's view begins
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, flags_offset),  # load the byte
            (0x45, 0, 1, syn),  # has it the bit? next : one further
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
        )
    )
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def raise_file_limit() -> None:
    """Allow as many open connections as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_server(
    settings: Settings,
    source: ModelSource,
    listener: socket.socket,
    *,
    job_store: str,
    bucket_file: Path | None = None,
    listen_when_ready: bool = False,
    all_stop: Callable[[], bool] = lambda: True,
) -> int:
    """Serve on ``listener`` until a signal; return the exit code (0, or 3: no model).

    ``listen_when_ready``: take no connection before the model is loaded, as others serve;
    ``all_stop``: whether, when this one stops, nobody else goes on with ``listener``.
    """
    configure_logging(settings.log_level)
    raise_file_limit()
    cv2.setNumThreads(1)  # the pool's threads are the parallelism
    jobs = Jobs(settings, JobStore(job_store))
    service = Service(
        settings,
        source,
        bucket_file=bucket_file,
        jobs=jobs,
        listen_when_ready=listen_when_ready,
    )
    edge = wrap(create_app(service))
    config = _Config(
        edge,
        http=_Protocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
    )
    config.header_timeout = settings.header_timeout
    server = _Server(config, service, edge, all_stop)

    def failed() -> None:
        server.should_exit = True

    service.on_failure = failed
    gc.freeze()
    server.run(sockets=[listener])
    event("stopped")
    return EXIT_MODEL_FAILED if service.failure is not None else 0
