"""Starts the service with the fake detector as a real process, and asks it over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


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
    timeout: float = 20,
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
    """A service process; use as a context manager, or ``stop`` it."""

    arguments: list[str] = field(default_factory=list)
    script: str = "serve_fakes.py"
    environment: dict[str, str] = field(default_factory=dict)
    wait_ready: bool = True
    port: int = 0

    def __enter__(self) -> Running:
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **self.environment}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / self.script), "--port", "0", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=env,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        if found is None:
            self.process.wait(20)
            raise AssertionError(f"did not start: {line}{self.logged()}")
        self.port = int(found[1])
        if self.wait_ready:
            self.until_ready()
        return self

    def until_ready(self, seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.logged()
            try:
                if ask(self.port, "GET", "/readyz").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.logged()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(25)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
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
