"""Bounded work: refusals that arrive, slow and gone clients, idle connections, hostile bytes."""

from __future__ import annotations

import http.client
import random
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from serve_client import PATIENCE, Running, ask, multipart, read_answer
from serve_fakes import NONE, PLATE, jpeg


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """One thread, two places."""
    with Running(["--threads", "1", "--in-flight", "2", "--max-body", "8MiB"]) as running:
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """Short patience with slow clients."""
    with Running(
        ["--body-idle-timeout", "2", "--body-timeout", "4", "--header-timeout", "2"]
    ) as running:
        yield running


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), PATIENCE)


def fill(stack: ExitStack, running: Running) -> list[http.client.HTTPConnection]:
    """Take both places of a service that is held: one photo is worked on, one waits."""
    connections = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        stack.callback(connection.close)
        connection.request("POST", "/v1/hide", jpeg())
        connections.append(connection)
    running.until_metric("platehide_in_flight", 2)
    running.until_metric("platehide_queue_depth", 1)
    return connections


def test_busy_is_said_at_once_with_retry_after(small: Running) -> None:
    with ExitStack() as stack:
        with small.held():
            accepted = fill(stack, small)
            # these answers come while the accepted photos still wait
            refused = [small.ask("POST", "/v1/hide", jpeg()) for _ in range(6)]
        assert {a.status for a in refused} == {503}
        assert {a.json["code"] for a in refused} == {"busy"}
        assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
        assert [c.getresponse().status for c in accepted] == [200, 200]
    assert small.metric("platehide_rejections_total", reason="busy") >= len(refused)
    small.until_metric("platehide_in_flight", 0)


def test_busy_is_decided_before_the_body_is_read(small: Running) -> None:
    with ExitStack() as stack, small.held():
        fill(stack, small)
        sock = stack.enter_context(connect(small))
        head = "POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
        sock.sendall(head.encode())  # and not one byte of the body
        answer = read_answer(sock)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    small.until_metric("platehide_in_flight", 0)
    small.until_metric("platehide_working", 0)


@pytest.mark.parametrize("size", [9 << 20, 40 << 20])
def test_an_early_413_is_readable_for_an_ordinary_client(small: Running, size: int) -> None:
    answer = ask(small.port, "POST", "/v1/hide", bytes(size))
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


def test_an_early_404_leaves_the_connection_usable(small: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=PATIENCE)
    connection.request("POST", "/nowhere", bytes(3 << 20))
    response = connection.getresponse()
    assert (response.status, response.getheader("connection")) == (404, None)
    response.read()
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_the_body_limit_holds_while_streaming(small: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=PATIENCE)
    chunks = (bytes(1 << 20) for _ in range(12))
    connection.request("POST", "/v1/hide", chunks, encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    response = connection.getresponse()
    assert response.status == 413
    assert b"body_too_large" in response.read()
    connection.close()


def test_expect_100_is_refused_without_asking_for_the_body(small: Running) -> None:
    with connect(small) as sock:
        sock.sendall(
            b"POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
    assert b"100 Continue" not in answer


SLOW_HEAD = b"POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n"


@pytest.mark.parametrize("trickle", [False, True])
def test_a_slow_upload_ends_in_408(strict: Running, trickle: bool) -> None:
    with connect(strict) as sock:
        sock.sendall(SLOW_HEAD + b"x")
        end = time.monotonic() + PATIENCE
        while trickle and not select.select([sock], [], [], 0.2)[0]:
            assert time.monotonic() < end, "no answer"
            sock.sendall(b"x")  # never idle for long, but too long in all
        answer = read_answer(sock)
    assert (answer.status, answer.json["code"]) == (408, "slow_upload")


def admitted_upload(running: Running) -> socket.socket:
    """Begin an upload; return once the service asks for its body, which it does with a place."""

    def begin() -> socket.socket | None:
        sock = connect(running)
        sock.sendall(SLOW_HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        answer = sock.recv(4096)
        if answer.startswith(b"HTTP/1.1 100"):
            return sock
        sock.close()
        assert answer.startswith(b"HTTP/1.1 503"), answer
        return None

    sock = running.until(begin, "an upload that is let in")
    assert sock is not None
    return sock


def test_slow_uploads_starve_nobody() -> None:
    # uploads without end: only a place that lapses lets anybody else in
    with (
        Running(
            ["--threads", "1", "--in-flight", "2"]
            + ["--body-idle-timeout", "3600", "--body-timeout", "3600"]
        ) as running,
        ExitStack() as stack,
    ):
        slow = [stack.enter_context(admitted_upload(running)) for _ in range(6)]
        running.until(lambda: running.ask("POST", "/v1/hide", jpeg()).status == 200, "a photo")
        assert not select.select(slow, [], [], 0)[0]  # all of them are still under way


def test_slow_and_endless_headers_are_cut_off(strict: Running) -> None:
    begin = time.monotonic()
    with connect(strict) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        assert sock.recv(100) == b""
        assert time.monotonic() - begin > 1.5  # an ordinary client has its time
    with connect(strict) as sock:
        answer = b""
        with suppress(ConnectionError):  # refused while still sending
            sock.sendall(b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"a" * 200_000)
        with suppress(ConnectionError):
            while chunk := sock.recv(4096):
                answer += chunk
    assert not answer or b"431" in answer[:20]
    strict.until_ready()


def test_the_work_of_gone_clients_is_dropped(small: Running) -> None:
    before = small.metric("platehide_photos_total")
    gone = small.metric("platehide_dropped_total", reason="client_gone")
    with small.held():
        with ExitStack() as stack:
            fill(stack, small)  # one is worked on, one waits; both go away now
        small.until_metric("platehide_dropped_total", gone + 2, reason="client_gone")
        small.until_metric("platehide_in_flight", 0)
    small.until_metric("platehide_working", 0)
    assert small.metric("platehide_photos_total") == before
    assert small.ask("POST", "/v1/hide", jpeg(NONE)).status == 200


def test_a_thousand_idle_connections_disturb_nobody(service: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as stack:
        for number in range(1000):
            sock = stack.enter_context(connect(service))
            if number % 2:
                sock.sendall(b"POST /v1/hide HTTP/1.1\r\nHost: x\r\n")
        for _ in range(5):
            assert service.ask("POST", "/v1/hide", jpeg(PLATE)).status == 200
    assert service.ask("GET", "/readyz").status == 200


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Photos with damage: cut, flipped, spliced, repeated, zeroed."""
    rng = random.Random(seed)
    photos = [jpeg(PLATE), jpeg(NONE)]
    for _ in range(count):
        data = bytearray(rng.choice(photos))
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(data))
            match rng.randrange(5):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 300)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 40))
                case 3:
                    data[at : at + 20] = bytes(20)
                case 4:
                    data = data[: max(at, 4)]
            if len(data) < 8:
                break
        yield bytes(data)


def test_fuzzed_photos_never_fail_inside(service: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    seen = set()
    for data in mutations(250, 11):
        connection.request("POST", "/v1/hide", data)
        response = connection.getresponse()
        response.read()
        seen.add(response.status)
    connection.close()
    assert seen <= {200, 400, 413, 415, 422}, seen
    assert {415, 422} & seen


def test_fuzzed_multipart_and_http_never_fail_inside(service: Running) -> None:
    body, headers = multipart(("photo", "a.jpg", jpeg()), ("options", None, b"{}"))
    rng = random.Random(5)
    for path in ("/v1/hide", "/v1/hide:batch", "/v1/jobs", "/v1/cover"):
        for _ in range(40):
            data = bytearray(body)
            for _ in range(rng.randint(1, 6)):
                at = rng.choice([rng.randrange(150), rng.randrange(len(data))])
                data[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
            answer = service.ask("POST", path, bytes(data), headers)
            assert answer.status < 500 or answer.status == 503, (path, answer.body)
    for _ in range(60):
        with connect(service) as sock:
            sock.sendall(rng.randbytes(rng.randint(1, 200)) + b"\r\n\r\n")
            sock.settimeout(2)  # what looks like the start of a request is waited for
            try:
                first = sock.recv(1000)
            except (TimeoutError, ConnectionError):
                first = b""
        assert not first or first.startswith(b"HTTP/1.1 4")
    assert service.ask("GET", "/readyz").status == 200
