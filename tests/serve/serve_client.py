"""Starts the service with the fake detector as a real process, and asks it over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
PATIENCE = 120.0
"""Seconds that a loaded machine may take for anything; a test ends there and tells what it saw."""

PATIENT = [
    f"--{name}=300"
    for name in ("queue-deadline", "timeout", "keep-alive", "header-timeout", "body-idle-timeout",
                 "body-timeout", "fetch-timeout")
]  # fmt: skip
"""Options of a service that a loaded machine's pauses do not make refuse anything."""

T = TypeVar("T")


def until(
    seen: Callable[[], T], what: str, *, log: Callable[[], str] = str, seconds: float = PATIENCE
) -> T:
    """Ask ``seen`` again and again; return its first true answer, or fail with ``log()``."""
    end = time.monotonic() + seconds
    while True:
        if answer := seen():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s; last {answer!r}\n{log()}")
        time.sleep(0.03)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        data = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)
    finally:
        connection.close()


def read_answer(sock: socket.socket) -> Answer:
    """Read one whole answer, however many pieces it comes in."""
    response = http.client.HTTPResponse(sock)
    try:
        response.begin()
        data = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)
    finally:
        response.close()


def multipart(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of parts (name, file name or None, bytes)."""
    out = []
    for name, filename, data in parts:
        extra = "" if filename is None else f'; filename="{filename}"'
        head = f'--cut\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        out.append(head.encode() + data + b"\r\n")
    return b"".join(out) + b"--cut--\r\n", {"Content-Type": "multipart/form-data; boundary=cut"}


@dataclass
class Running:
    """A service process (``PATIENT`` where ``arguments`` do not say otherwise)."""

    arguments: list[str] = field(default_factory=list)
    script: str = "serve_fakes.py"
    environment: dict[str, str] = field(default_factory=dict)
    wait_ready: bool = True
    start_held: bool = False  # the model is not loaded until ``release``
    port: int = 0

    def __enter__(self) -> Running:
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self._hold = Path(f"{self.log.name}.hold")
        if self.start_held:
            self._hold.touch()
        extra = ["--fake-hold", str(self._hold)] if self.script == "serve_fakes.py" else []
        env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **self.environment}
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / self.script),
                "--port",
                "0",
                *PATIENT,
                *extra,
                *self.arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=env,
            text=True,
        )
        try:
            self._learn_port()
            if self.wait_ready:
                self.until_ready()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def _learn_port(self) -> None:
        assert self.process.stdout is not None
        told, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if told else ""
        found = re.search(r":(\d+)$", line.strip())
        assert found is not None, f"did not start: {line!r}"
        self.port = int(found[1])

    def until(self, seen: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """Wait for ``seen``; a service that has ended or a time that is over fails with the log."""

        def alive() -> T:
            answer = seen()
            assert answer or self.process.poll() is None, f"{what}: ended\n{self.logged()}"
            return answer

        return until(alive, what, log=self.logged, seconds=seconds)

    def until_ready(self) -> None:
        def ready() -> bool:
            try:
                return ask(self.port, "GET", "/readyz").status == 200
            except OSError:
                return False

        self.until(ready, "ready")

    def until_events(self, name: str, count: int) -> list[dict[str, Any]]:
        """Wait until the log has ``count`` events ``name``."""
        self.until(lambda: len(self.events(name)) >= count, f"{count} events {name!r}")
        return self.events(name)

    def until_metric(self, name: str, wanted: float, **labels: str) -> None:
        """Wait until the metric has exactly the value ``wanted``."""
        self.until(lambda: self.metric(name, **labels) == wanted, f"{name} {labels} == {wanted}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No photo is finished inside of this block (nor any later one begun and finished)."""
        self._hold.touch()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let photos be finished again."""
        self._hold.unlink(missing_ok=True)

    def wait(self) -> int:
        """Wait for the end of the process; return its exit code."""
        until(lambda: self.process.poll() is not None, "the end of the service", log=self.logged)
        return self.process.returncode

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE)
        self.release()
        if kind is not None:
            print(f"log of the service {self.arguments}:\n{self.logged()}")
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()

    def ask(self, *args: Any, **keywords: Any) -> Answer:
        return ask(self.port, *args, **keywords)

    def logged(self) -> str:
        return Path(self.log.name).read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        complete = self.logged().rpartition("\n")[0].splitlines()
        lines = [json.loads(line) for line in complete if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the series of ``name`` that have ``labels``."""
        total = 0.0
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            found = re.match(r"(\w+)(?:\{(.*)\})? (\S+)$", line)
            if found is None or found[1] != name:
                continue
            has = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            if labels.items() <= has.items():
                total += float(found[3])
        return total
