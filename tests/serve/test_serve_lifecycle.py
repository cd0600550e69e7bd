"""Start, drain, stop; worker processes that die; metrics over several processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest
from serve_client import PATIENCE, Running, ask, read_answer, until
from serve_fakes import FakeSource, jpeg

from platehide.errors import UsageError
from platehide.serve import server, supervisor
from platehide.serve.settings import Settings


def worker_pids(running: Running) -> list[int]:
    out = subprocess.run(
        ["ps", "-ww", "--ppid", str(running.process.pid), "-o", "pid=,args="],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [int(line.split()[0]) for line in out.splitlines() if "spawn_main" in line]


class Load:
    """Clients that ask without pause, each request on its own connection."""

    def __init__(self, port: int, clients: int) -> None:
        self.port = port
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self.refused = 0
        self.stop = False
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        while not self.stop:
            try:
                self.statuses.append(ask(self.port, "POST", "/v1/hide", jpeg()).status)
            except ConnectionRefusedError:
                self.refused += 1  # never accepted: the client may ask elsewhere
                return
            except Exception as error:
                self.lost.append(repr(error))

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def ended(self) -> None:
        """Wait until every client has found the port closed."""
        until(lambda: not any(t.is_alive() for t in self.threads), "the end of the clients")

    def served(self, count: int) -> None:
        """Wait until ``count`` photos have been answered."""
        until(lambda: self.statuses.count(200) >= count, f"{count} served", log=lambda: repr(self))

    def __repr__(self) -> str:
        return f"statuses {self.statuses}, lost {self.lost}, refused {self.refused}"

    def __exit__(self, *_: object) -> None:
        self.stop = True
        for thread in self.threads:
            thread.join(PATIENCE)


def test_not_ready_until_the_model_has_answered() -> None:
    with Running(wait_ready=False, start_held=True) as running:
        early = running.ask("GET", "/readyz")
        assert (early.status, early.json["code"]) == (503, "not_ready")
        assert running.ask("GET", "/healthz").status == 200
        photo = running.ask("POST", "/v1/hide", jpeg())
        assert (photo.status, photo.json["code"]) == (503, "not_ready")
        running.release()
        running.until_ready()
        assert running.ask("POST", "/v1/hide", jpeg()).status == 200
        assert running.metric("platehide_ready") == 1


def test_while_draining_it_is_not_ready_and_goes_on_serving() -> None:
    with Running(["--drain-delay", "300"]) as running:
        running.process.send_signal(signal.SIGTERM)

        def draining() -> bool:
            ready = running.ask("GET", "/readyz")
            return ready.status == 503 and bool(ready.json["code"] == "draining")

        running.until(draining, "draining")
        photo = running.ask("POST", "/v1/hide", jpeg())
        assert (photo.status, photo.headers["connection"]) == (200, "close")
        assert running.ask("GET", "/healthz").status == 200
        assert running.metric("platehide_ready") == 0
        running.process.send_signal(signal.SIGINT)  # asked twice: at once
        assert running.wait() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_no_accepted_request(workers: str) -> None:
    with Running(
        ["--workers", workers, "--fake-work", "0.1", "--threads", "2", "--drain-delay", "2"]
    ) as running:
        if workers == "2":
            running.until_events("ready", 2)
        with Load(running.port, 6) as load:
            load.served(6)
            running.process.send_signal(signal.SIGTERM)
            running.until_events("draining", int(workers))
            served = load.statuses.count(200)
            assert running.wait() == 0
            load.ended()
        assert load.lost == []
        assert load.statuses.count(200) > served
        assert set(load.statuses) <= {200, 503}
        assert load.refused == 6


def test_requests_that_only_the_kernel_had_taken_are_answered() -> None:
    with Running(["--drain-delay", "0", "--in-flight", "9"]) as running, ExitStack() as stack:
        running.process.send_signal(signal.SIGSTOP)
        sockets = []
        for _ in range(6):
            sock = socket.create_connection(("127.0.0.1", running.port), PATIENCE)
            sockets.append(stack.enter_context(sock))
            head = f"POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: {len(jpeg())}\r\n\r\n"
            sock.sendall(head.encode() + jpeg())
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGCONT)
        assert [read_answer(sock).status for sock in sockets] == [200] * 6
        assert running.wait() == 0


def test_from_now_on_connections_are_refused_not_reset() -> None:
    listener = supervisor.bind("127.0.0.1", 0)
    address = listener.getsockname()
    with ExitStack() as stack:
        early = stack.enter_context(socket.create_connection(address, PATIENCE))
        server.ignore_new(listener)
        late = stack.enter_context(socket.socket())
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the kernel tries again, and finds the port closed
            late.connect(address)
        accepted = stack.enter_context(listener.accept()[0])
        accepted.sendall(b"x")
        assert early.recv(1) == b"x"
        listener.close()


def test_a_killed_worker_loses_only_its_own_requests_and_comes_back() -> None:
    with Running(["--workers", "2", "--fake-work", "0.05", "--threads", "2"]) as running:
        running.until_events("ready", 2)
        counted = running.metric("platehide_photos_total", outcome="hidden")
        with Load(running.port, 4) as load:
            load.served(8)
            victim = worker_pids(running)[0]
            os.kill(victim, signal.SIGKILL)
            running.until_events("worker_died", 1)
            load.served(load.statuses.count(200) + 8)
            running.until_events("ready", 3)
        assert len(load.lost) <= 4
        assert set(load.statuses) <= {200, 503}
        assert running.events("worker_died")[0]["exitcode"] == -9
        assert victim not in worker_pids(running)
        assert len(worker_pids(running)) == 2
        # counters of the dead worker stay in the sum, its gauges go
        served = load.statuses.count(200)
        total = running.metric("platehide_photos_total", outcome="hidden") - counted
        assert served <= total <= served + 4
        assert running.metric("platehide_processes") == 2
        assert running.metric("platehide_ready") == 2
        # its successor took no request before it could answer
        assert running.metric("platehide_rejections_total", reason="not_ready") == 0


def test_one_worker_that_is_asked_to_stop_leaves_the_others_listening() -> None:
    with Running(["--workers", "2", "--drain-delay", "0"]) as running:
        running.until_events("ready", 2)
        os.kill(worker_pids(running)[0], signal.SIGTERM)
        running.until_events("worker_died", 1)
        for _ in range(4):
            assert running.ask("POST", "/v1/hide", jpeg()).status == 200
        running.until_events("ready", 3)


def test_metrics_are_sums_over_the_workers() -> None:
    with Running(["--workers", "2"]) as running:
        running.until_events("ready", 2)
        for _ in range(30):
            assert running.ask("POST", "/v1/hide", jpeg()).status == 200
        for _ in range(4):  # whichever worker answers
            assert running.metric("platehide_photos_total", outcome="hidden") == 30
            assert running.metric("platehide_photo_plates_count", model="fake@1") == 30
        assert running.metric("platehide_processes") == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_cannot_be_loaded_ends_the_service(workers: str) -> None:
    with Running(["--model", "broken", "--workers", workers], wait_ready=False) as running:
        assert running.wait() == 3
        assert "the weights are damaged" in running.events("model_failed")[0]["error"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"model": "missing"}, "no model"),
        ({"cover": "nope"}, "no such cover id"),
        ({"covers_dir": "/nope"}, "no such folder"),
        ({"api_keys": "/nope"}, "API keys"),
        ({"job_store": "mysql://x"}, "--job-store"),
        ({"job_store": "sqlite:////nope/jobs.sqlite"}, "--job-store"),
        ({"fetch_ports": "http"}, "not port numbers"),
        ({"fetch_networks": "10.0.0.1/8"}, "--fetch-networks"),
        ({"exposure_log": "/nope/log", "candidate": "b", "candidate_mode": "split"}, "--exposure"),
        ({"candidate": "fake", "candidate_mode": "shadow"}, "that is the current model"),
        ({"host": "192.0.2.1"}, "cannot listen"),
    ],
)
def test_usage_errors_are_told_at_once(
    wrong: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "configure_logging", lambda level: None)
    monkeypatch.setattr(server, "configure_logging", lambda level: None)
    with pytest.raises(UsageError, match=text):
        supervisor.serve(Settings(port=0, **wrong), FakeSource())


def test_a_taken_port_is_a_usage_error(service: Running) -> None:
    with pytest.raises(UsageError, match=f"port {service.port}: Address already in use"):
        supervisor.bind("127.0.0.1", service.port)
