"""Asynchronous jobs: store, fetching without reaching inside, webhooks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import hmac
import http.server
import io
import ipaddress
import json
import os
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_client import PATIENCE, Running, multipart
from serve_fakes import NONE, UNSURE, jpeg

from platehide.serve.fetch import Fetcher, FetchError, Policy
from platehide.serve.jobstore import JobStore
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings


class _Site(http.server.BaseHTTPRequestHandler):
    """Photos, redirects, endless and slow bodies; keeps what is posted."""

    posts: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012
    failures = 0
    target = ""
    patience = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/car.jpg")
        elif self.path == "/inside":
            self.send_response(302)
            self.send_header("Location", _Site.target)
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
        elif self.path == "/missing":
            self.send_response(404)
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(bytes(10_000))
            except OSError:
                pass
            return
        elif self.path == "/slow":
            _Site.patience.wait(PATIENCE)  # longer than anybody waits
            self.send_response(200)
        else:
            data = jpeg(NONE if "none" in self.path else UNSURE if "unsure" in self.path else 320)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.end_headers()

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        _Site.posts.append(({k.lower(): v for k, v in self.headers.items()}, data))
        failing = len(_Site.posts) <= _Site.failures
        self.send_response(500 if failing else 204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(PATIENCE)


def finished(running: Running, job: str) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        found: dict[str, Any] = running.ask("GET", f"/v1/jobs/{job}").json
        return found if found["state"] == "done" else None

    answer = running.until(status, f"job {job} done")
    assert answer is not None
    return answer


def test_uploads_become_results_and_can_be_deleted(service: Running) -> None:
    body, headers = multipart(
        ("photo", "a.jpg", jpeg()), ("photo", "b.jpg", jpeg(UNSURE)), ("photo", "c.jpg", b"junk"),
        ("options", None, b'{"style": "solid"}'),
    )  # fmt: skip
    made = service.ask("POST", "/v1/jobs", body, headers)
    assert made.status == 202
    job = made.json["id"]
    assert made.headers["location"] == f"/v1/jobs/{job}"
    status = finished(service, job)
    assert status["counts"] == {"waiting": 0, "running": 0, "done": 1, "failed": 2}
    assert [i["row"]["status"] for i in status["items"]] == ["hidden", "unsure", "error"]
    photo = service.ask("GET", status["items"][0]["result"])
    assert photo.headers["x-plate-status"] == "hidden"
    assert photo.body[:2] == b"\xff\xd8"
    unsure = service.ask("GET", f"/v1/jobs/{job}/photos/1")
    assert (unsure.status, unsure.json["code"]) == (422, "unsure")
    archive = zipfile.ZipFile(io.BytesIO(service.ask("GET", f"/v1/jobs/{job}/result").body))
    assert archive.namelist() == ["001-a.jpg", "report.jsonl"]
    assert len(archive.read("report.jsonl").splitlines()) == 3
    assert service.ask("GET", f"/v1/jobs/{job}/photos/9").status == 404
    assert service.ask("DELETE", f"/v1/jobs/{job}").status == 204
    assert service.ask("DELETE", f"/v1/jobs/{job}").json["code"] == "unknown_job"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"urls": []}, "invalid_parameter"),
        ({"urls": ["http://a/"] * 5}, "too_many_photos"),
        ({"urls": ["ftp://example.org/a"]}, "bad_url"),
        ({"urls": ["https://example.org/a"]}, "bad_url"),
        ({"urls": ["http://10.0.0.1/a"]}, "bad_url"),
        ({"urls": ["http://user:pw@example.org/a"]}, "bad_url"),
        ({"urls": ["http://example.org:22/a"]}, "bad_url"),
        ({"urls": ["http://example.org/"], "webhook": "http://10.0.0.1/"}, "bad_url"),
        ({"urls": ["http://example.org/"], "options": {"conf": 7}}, "invalid_parameter"),
        ({"urls": ["http://example.org/"], "options": {"colour": "red"}}, "invalid_parameter"),
        ({"urls": ["http://example.org/"], "options": {"cover": "nope"}}, "unknown_cover"),
        ({"urls": ["http://example.org/"], "extra": 1}, "invalid_parameter"),
    ],
)
def test_bad_jobs_are_refused_when_they_are_made(
    service: Running, fields: dict[str, Any], code: str
) -> None:
    answer = service.ask("POST", "/v1/jobs", json.dumps(fields).encode())
    assert answer.json["code"] == code


def test_urls_are_fetched_and_the_webhook_is_signed(site: int) -> None:
    _Site.posts, _Site.failures = [], 1
    _Site.target = "http://10.0.0.1/secret"
    base = f"http://127.0.0.1:{site}"
    asked = {
        "urls": [f"{base}{p}" for p in
                 ("/car.jpg", "/redirect", "/inside", "/loop", "/missing", "/large", "/unsure")],
        "webhook": f"{base}/hook",
    }  # fmt: skip
    with Running(
        ["--fetch-networks", "127.0.0.0/8", "--fetch-schemes", "http", "--fetch-ports",
         f"{site},80", "--webhook-secret", "s3cret", "--max-body", "300k"]
    ) as running:  # fmt: skip
        made = running.ask("POST", "/v1/jobs", json.dumps(asked).encode())
        assert made.status == 202, made.body
        status = finished(running, made.json["id"])
        rows = [item["row"] for item in status["items"]]
        assert [r["status"] for r in rows] == ["hidden"] * 2 + ["error"] * 4 + ["unsure"]
        reasons = [r.get("error", "") for r in rows]
        for reason, text in zip(
            reasons[2:6], ("not public", "redirects", "404", "larger than"), strict=True
        ):
            assert text in reason
        missing = running.ask("GET", f"/v1/jobs/{status['id']}/photos/4")
        assert (missing.status, missing.json["code"]) == (422, "fetch_failed")

        def delivered() -> bool:
            found = running.ask("GET", f"/v1/jobs/{status['id']}").json
            return bool(found["webhook"] == "delivered")

        running.until(delivered, "the webhook delivered")
        running_log = running.logged()
    assert len(_Site.posts) == 2  # the first one failed
    headers, body = _Site.posts[1]
    stamp, mac = (part.split("=")[1] for part in headers["x-platehide-signature"].split(","))
    wanted = hmac.new(b"s3cret", f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(mac, wanted)
    assert abs(int(stamp) - time.time()) < 600
    assert json.loads(body) == {
        "event": "job.finished", "job": status["id"], "photos": 7, "done": 2, "failed": 5,
    }  # fmt: skip
    assert "s3cret" not in running_log


def test_without_a_secret_there_are_no_webhooks() -> None:
    with Running([]) as running:
        asked = {"urls": ["https://example.org/a.jpg"], "webhook": "https://example.org/"}
        answer = running.ask("POST", "/v1/jobs", json.dumps(asked).encode())
        assert answer.json["code"] == "webhooks_disabled"


PUBLIC = Policy(frozenset({"http", "https"}), frozenset({80, 443}), (), (), 1.0)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::10.0.0.1", False),
        ("2002:0a00:0001::1", False),
    ],
)
def test_private_addresses_in_any_clothes(address: str, allowed: bool) -> None:
    assert PUBLIC.may_reach(ipaddress.ip_address(address)) is allowed


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "gopher://a/", "http:///a",
     "http://a:99999/", "http://exa mple.org/", "http://a\\@b/", "//a/b", "http://[::ffff:10.0.0.1]/",
     "http://\u0430.example/", "file:///etc/passwd", ""],
)  # fmt: skip
def test_urls_that_are_never_fetched(url: str) -> None:
    with pytest.raises(Problem, match=r"."):
        PUBLIC.check_url(url)


def test_a_name_that_resolves_inside_is_not_fetched(site: int) -> None:
    policy = Policy(frozenset({"http"}), frozenset({site}), (), (), 1.0)

    async def fetch() -> None:
        fetcher = Fetcher(policy)
        try:
            for name in ("localhost", "127.1", "2130706433", "0x7f.1"):
                with pytest.raises(FetchError, match=r"not public|resolved"):
                    await fetcher.get(f"http://{name}:{site}/car.jpg", 1 << 20)
        finally:
            await fetcher.close()

    asyncio.run(fetch())


def test_host_allow_list_and_slow_sites(site: int) -> None:
    settings = Settings(
        fetch_schemes="http", fetch_ports=str(site), fetch_networks="127.0.0.0/8",
        fetch_hosts="127.0.0.1,*.example.org", fetch_timeout=0.5,
    )  # fmt: skip
    policy = Policy.of(settings)
    policy.check_url(f"http://cdn.example.org:{site}/")
    with pytest.raises(Problem, match="not allowed"):
        policy.check_url(f"http://example.com:{site}/")

    async def fetch() -> None:
        fetcher = Fetcher(policy)
        try:
            with pytest.raises(FetchError, match="longer than"):
                await fetcher.get(f"http://127.0.0.1:{site}/slow", 1 << 20)
        finally:
            _Site.patience.set()
            await fetcher.close()

    asyncio.run(fetch())


def exercise(store: JobStore) -> None:
    """The store's life: claims, leases, attempts, limits, expiry."""
    new: dict[str, Any] = {"options": {"conf": 0.5}, "webhook": None, "ttl": 60, "most_pending": 3}
    job = store.create("me", [("a", None, b"A"), ("b", "http://x/", None)], **new)
    assert job is not None
    assert store.pending() == 2
    assert store.create("me", [("c", None, b"C")] * 2, **new) is None
    first = store.claim(60)
    assert first is not None
    assert (first.name, first.upload, first.attempts, first.options) == (
        "a",
        b"A",
        1,
        {"conf": 0.5},
    )
    second = store.claim(60)
    assert second is not None
    assert second.url == "http://x/"
    assert store.claim(60) is None
    store.renew(first, -1)  # the first one's worker was killed and its lease ran out
    again = store.claim(60)
    assert again is not None
    assert (again.seq, again.attempts) == (first.seq, 2)
    outcome: dict[str, Any] = {"result": b"R", "media_type": "image/jpeg", "suffix": "", "ttl": 60}
    row = {"status": "hidden", "plates": [], "model": "m@1"}
    assert store.finish(first, row, **outcome) is False  # too late, it is not its own any more
    assert store.finish(second, row, **outcome) is False
    assert store.finish(again, row, **outcome) is True
    assert store.get(job, "other") is None
    status = store.get(job, "me")
    assert status is not None
    assert status["finished"] is not None
    found = store.result(job, 0, "me")
    assert found is not None
    assert found[1][0] == b"R"
    assert store.delete(job, "other") is False
    short = store.create("me", [("d", None, b"D")], **new | {"ttl": -1.0, "webhook": "http://h/"})
    assert short is not None
    claim = store.claim(60)
    assert claim is not None
    assert store.finish(claim, row, **outcome | {"ttl": 60}) is True
    due = store.due_webhook(60)
    assert due is not None
    assert (due.job, due.attempts) == (short, 1)
    assert store.due_webhook(60) is None
    store.webhook_result(short, "failed", None)
    assert store.create("me", [("e", None, b"E")], **new | {"ttl": -1.0}) is not None
    assert store.purge() == 1
    assert store.pending() == 0
    assert store.delete(job, "me") is True


def test_sqlite_store(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = JobStore(f"sqlite:///{path}")
    exercise(store)
    store.close()


def opened_at_once(url: str, count: int) -> list[JobStore]:
    """As when ``count`` workers start in the same moment on a store without tables."""
    barrier = threading.Barrier(count)

    def open_one(_: int) -> JobStore:
        barrier.wait(PATIENCE)
        return JobStore(url)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(open_one, range(count), timeout=PATIENCE))


def test_many_may_make_the_tables_at_once(tmp_path: Path) -> None:
    for number in range(5):
        stores = opened_at_once(f"sqlite:///{tmp_path / f'{number}.sqlite'}", 8)
        assert [store.pending() for store in stores] == [0] * 8
        for store in stores:
            store.close()


def test_two_processes_never_claim_the_same_photo(tmp_path: Path) -> None:
    stores = [JobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}") for _ in range(4)]
    photos: Any = [(str(i), None, b"x") for i in range(40)]
    stores[0].create("me", photos, options={}, webhook=None, ttl=60, most_pending=100)
    claimed: list[str] = []

    def work(store: JobStore) -> None:
        while (claim := store.claim(60)) is not None:
            claimed.append(claim.name)

    threads = [threading.Thread(target=work, args=(s,)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for store in stores:
        store.close()
    assert sorted(claimed, key=int) == [str(i) for i in range(40)]


def _run(command: list[Any]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def _postgres_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.mark.skipif(_postgres_folder() is None, reason="needs postgres")
@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("runuser"), reason="needs runuser")
def test_postgres_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = _postgres_folder()
    assert folder is not None
    # its own folder directly under /tmp: pytest's are closed to other users
    data = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/platehide-pg-XXXXXX"], text=True).strip()
    )
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        shutil.chown(data, "postgres")
    try:
        _run([*user, folder / "initdb", "-D", data / "db", "-U", "app", "-A", "trust"])  # fmt: skip
        # a socket in that folder: no port that another program could take
        options = f"-k {data} -c listen_addresses='' -c fsync=off"
        _run([*user, folder / "pg_ctl", "-D", data / "db", "-o", options, "-w", "-t", "200",
              "start", "-l", data / "log"])  # fmt: skip
        try:
            url = f"postgresql://app@/postgres?unix_sock={data}/.s.PGSQL.5432"
            for store in opened_at_once(url, 6):
                store.close()
            store = JobStore(url)
            exercise(store)
            store.close()
        finally:
            _run([*user, folder / "pg_ctl", "-D", data / "db", "-t", "200", "-m", "fast",
                  "stop"])  # fmt: skip
    finally:
        shutil.rmtree(data, ignore_errors=True)
