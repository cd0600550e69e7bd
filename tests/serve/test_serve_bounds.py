"""Bounded work: refusals that arrive, slow and gone clients, idle connections, hostile bytes."""

from __future__ import annotations

import concurrent.futures
import http.client
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from serve_client import Answer, Running, ask, multipart
from serve_fakes import NONE, PLATE, jpeg


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """One thread of 0.4 s a photo, two places, short patience."""
    with Running(
        [
            "--fake-work", "0.4", "--threads", "1", "--in-flight", "2", "--queue-deadline", "3",
            "--body-idle-timeout", "0.7", "--body-timeout", "2", "--header-timeout", "0.7",
            "--max-body", "8MiB",
        ]
    ) as running:  # fmt: skip
        yield running


def many(running: Running, count: int, path: str = "/v1/hide") -> list[Answer]:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(running.ask, "POST", path, jpeg()) for _ in range(count)]
        return [future.result() for future in futures]


def test_busy_is_said_at_once_with_retry_after(small: Running) -> None:
    begin = time.monotonic()
    answers = many(small, 8)
    assert sorted({a.status for a in answers}) == [200, 503]
    refused = [a for a in answers if a.status == 503]
    assert len(refused) >= 4
    assert {a.json["code"] for a in refused} == {"busy"}
    assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
    assert time.monotonic() - begin < 5
    assert small.metric("platehide_rejections_total", reason="busy") >= len(refused)
    assert small.metric("platehide_in_flight") == 0


def fill(stack: ExitStack, running: Running, count: int) -> None:
    """Keep ``count`` photos in the service for a while."""
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        stack.callback(connection.close)
        connection.request("POST", "/v1/hide", jpeg())
    time.sleep(0.15)


def test_busy_is_decided_before_the_body_is_read(small: Running) -> None:
    with ExitStack() as stack:
        fill(stack, small, 2)
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", small.port), 5))
        head = "POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
        sock.sendall(head.encode())  # and not one byte of the body
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in answer.lower()
    time.sleep(1.2)


@pytest.mark.parametrize("size", [9 << 20, 60 << 20])
def test_an_early_413_is_readable_for_an_ordinary_client(small: Running, size: int) -> None:
    answer = ask(small.port, "POST", "/v1/hide", bytes(size))
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


def test_an_early_404_leaves_the_connection_usable(small: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=10)
    connection.request("POST", "/nowhere", bytes(3 << 20))
    response = connection.getresponse()
    assert (response.status, response.getheader("connection")) == (404, None)
    response.read()
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_the_body_limit_holds_while_streaming(small: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=10)
    chunks = (bytes(1 << 20) for _ in range(12))
    connection.request("POST", "/v1/hide", chunks, encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    response = connection.getresponse()
    assert response.status == 413
    assert b"body_too_large" in response.read()
    connection.close()


def test_expect_100_is_refused_without_asking_for_the_body(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 5) as sock:
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


@pytest.mark.parametrize("pause", [1.2, 0.3])
def test_a_slow_upload_ends_in_408_and_starves_nobody(small: Running, pause: float) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 5) as sock:
        sock.sendall(b"POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
        with ExitStack() as stack:
            for _ in range(4):  # more slow uploads than there are places
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", small.port), 5))
                slow.sendall(b"POST /v1/hide HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
                time.sleep(0.6)  # its place lapses
            assert small.ask("POST", "/v1/hide", jpeg()).status == 200
        sock.settimeout(0.05)
        answer = b""
        end = time.monotonic() + 6
        while time.monotonic() < end and not answer:
            try:
                sock.sendall(b"x")
                time.sleep(pause)
                answer = sock.recv(4096)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_upload" in answer


def test_slow_and_endless_headers_are_cut_off(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 5) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        begin = time.monotonic()
        assert sock.recv(100) == b""
        assert 0.4 < time.monotonic() - begin < 3
    with socket.create_connection(("127.0.0.1", small.port), 5) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"a" * 200_000)
        answer = b""
        try:
            while chunk := sock.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass
    assert not answer or b"431" in answer[:20]
    assert small.ask("GET", "/healthz").status == 200


def test_the_work_of_gone_clients_is_dropped(small: Running) -> None:
    before = small.metric("platehide_photos_total")
    with ExitStack() as stack:
        fill(stack, small, 2)  # one is worked on, one waits; both go away now
    time.sleep(1.2)
    assert small.metric("platehide_dropped_total", reason="client_gone") >= 1
    assert small.metric("platehide_photos_total") <= before + 1
    assert small.metric("platehide_in_flight") == 0
    assert small.ask("POST", "/v1/hide", jpeg(NONE)).status == 200


def test_a_thousand_idle_connections_disturb_nobody(service: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as stack:
        for number in range(1000):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 5))
            if number % 2:
                sock.sendall(b"POST /v1/hide HTTP/1.1\r\nHost: x\r\n")
        begin = time.monotonic()
        for _ in range(5):
            assert service.ask("POST", "/v1/hide", jpeg(PLATE)).status == 200
        assert time.monotonic() - begin < 3
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
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
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
        with socket.create_connection(("127.0.0.1", service.port), 5) as sock:
            sock.sendall(rng.randbytes(rng.randint(1, 200)) + b"\r\n\r\n")
            sock.settimeout(2)
            try:
                first = sock.recv(1000)
            except (TimeoutError, ConnectionError):
                first = b""
        assert not first or first.startswith(b"HTTP/1.1 4")
    assert service.ask("GET", "/readyz").status == 200
