"""Simultaneous annotators over HTTP on a real server process, and an audit of its books.

Every answer is unique (its corners carry a number), so that an answer that was lost, doubled or
written under another task or worker is found by comparing what was acknowledged with the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from PIL import Image

from platehide.annotate import schema
from platehide.annotate.auth import add_credential, add_user, join
from platehide.annotate.context import Context, build_context
from platehide.annotate.db import new_id
from platehide.annotate.media import read_picture
from platehide.annotate.settings import ProjectSettings

_SIZE = (640, 480)
_THINK_SECONDS = 3.0


@dataclass
class Sent:
    """One answer as its annotator knows it."""

    task: str
    client_id: str
    plates: list[Any]
    acknowledged: bool = False


@dataclass
class Annotator:
    """A simulated person with a browser."""

    user: str
    token: str
    sent: list[Sent] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """Answers known to be saved."""
        return sum(s.acknowledged for s in self.sent)


@dataclass(frozen=True)
class Audit:
    """What the books say.

    Attributes:
        acknowledged: answers that annotators know to be saved.
        logged: judgements in the log.
        lost: acknowledged but not in the log.
        doubled: tasks or client ids with more than one judgement.
        misassigned: logged under another worker, task or with other corners.
        shared_slots: slots or photos held twice.
        underived: log entries that nothing was concluded from.
    """

    acknowledged: int
    logged: int
    lost: int
    doubled: int
    misassigned: int
    shared_slots: int
    underived: int

    @property
    def clean(self) -> bool:
        """Nothing wrong."""
        wrong = self.lost + self.doubled + self.misassigned + self.shared_slots + self.underived
        return wrong == 0


def prepare(context: Context, annotators: int, photos: int) -> tuple[str, list[Annotator]]:
    """A project with many photos (one picture, many names), control photos, and its people."""
    buffer = io.BytesIO()
    Image.effect_noise(_SIZE, 60).convert("RGB").save(buffer, "JPEG", quality=80)
    picture = read_picture(buffer.getvalue(), "bench.jpg")
    context.photos.put(picture)
    settings = ProjectSettings(captcha_every=0, training_tasks=0, min_seconds=0.0)
    project = context.projects.create("Bench", settings=settings)
    truth = {"plates": [_quad(0)]}
    people = []
    with context.db.write(project) as connection:
        for number in range(photos):
            control = number % 8 == 7
            photo_id = new_id()
            connection.execute(
                schema.photos.insert().values(
                    id=photo_id,
                    project_id=project,
                    name=f"{number:06d}.jpg",
                    blob=picture.blob,
                    sha256=picture.sha256,
                    media_type=picture.media_type,
                    width=picture.width,
                    height=picture.height,
                    grp=str(number),
                    source="",
                    licence="",
                    purpose="control" if control else "task",
                    truth=truth if control else None,
                    priority=0.0,
                    created_at=0.0,
                )
            )
            if not control:
                connection.execute(
                    schema.photo_state.insert().values(
                        photo_id=photo_id,
                        project_id=project,
                        status="open",
                        final=False,
                        wanted=2,
                        free=2,
                        judgements=0,
                        posterior=0.0,
                        agreement=0.0,
                        rank=float(number),
                        updated_at=0.0,
                    )
                )
        now = time.time()
        for number in range(annotators):
            user = add_user(connection, "worker", f"Annotator {number}", now)
            join(connection, project, user, now)
            _, token = add_credential(connection, user, "api", now, lifetime_seconds=86_400.0)
            people.append(Annotator(user, token))
    context.projects.change(project, status="active")
    return project, people


def _quad(number: int) -> list[list[float]]:
    """The plate of every photo, its first corner moved by less than a pixel to say a number."""
    x, y = 200 + (number % 97) / 100, 220 + (number // 97 % 97) / 100
    return [[round(x, 2), round(y, 2)], [360.0, 226.0], [359.0, 262.0], [199.0, 256.0]]


@dataclass(frozen=True)
class _Pace:
    """How annotators work.

    Attributes:
        end: monotonic time to stop at, once ``least`` answers of everybody's are saved.
        patience: seconds after ``end`` in which requests are still repeated.
    """

    end: float
    think: float
    least: int = 0
    patience: float = 30.0

    def goes_on(self, who: Annotator) -> bool:
        now = time.monotonic()
        return now < self.end or (who.acknowledged < self.least and now < self.end + self.patience)


async def _work(
    client: httpx.AsyncClient, who: Annotator, project: str, number: int, pace: _Pace
) -> None:
    rng = random.Random(number)
    think = pace.think
    headers = {"Authorization": f"Bearer {who.token}"}

    async def call(method: str, path: str, body: Any = None) -> httpx.Response | None:
        # Like the page: on a broken line or a 5xx the same request again, until the end.
        while True:
            begin = time.perf_counter()
            try:
                reply = await client.request(method, path, json=body, headers=headers)
                who.times.append(time.perf_counter() - begin)
                if reply.status_code < 500 and reply.status_code != 429:
                    return reply
                who.errors[str(reply.status_code)] += 1
            except httpx.HTTPError as error:
                who.errors[type(error).__name__] += 1
            if time.monotonic() > pace.end + pace.patience:
                return None
            await asyncio.sleep(rng.uniform(0.2, 0.8))

    await asyncio.sleep(rng.uniform(0, think))
    desk: dict[str, Any] = {}
    count = 0
    while pace.goes_on(who):
        if not desk.get("tasks"):
            reply = await call("POST", f"/api/work/projects/{project}/desk")
            desk = reply.json() if reply is not None and reply.is_success else {}
            if not desk.get("tasks"):
                await asyncio.sleep(1.0)
                continue
        task = desk["tasks"][0]["id"]
        await call("GET", f"/api/work/tasks/{task}/photo")
        await asyncio.sleep(rng.expovariate(1 / think))
        count += 1
        sent = Sent(task, secrets.token_hex(16), [_quad(number * 101 + count)])
        who.sent.append(sent)
        body = {"client_id": sent.client_id, "answer": {"plates": sent.plates}}
        reply = await call("POST", f"/api/work/tasks/{task}/answer", body)
        if reply is not None and reply.is_success:
            sent.acknowledged = True
            desk = reply.json()["desk"]
        else:
            who.errors["none" if reply is None else str(reply.status_code)] += 1
            desk = {}


def audit(context: Context, project: str, people: list[Annotator]) -> Audit:
    """Compare what annotators know with the log, and look for slots held twice."""
    context.deriver.catch_up()
    g, a = schema.log, schema.assignments
    with context.db.read() as connection:
        logged = connection.execute(
            sa.select(g.c.actor_id, g.c.assignment_id, g.c.body).where(
                g.c.project_id == project, g.c.kind == "judgement"
            )
        ).all()
        held = connection.execute(
            sa.select(a.c.photo_id, a.c.slot, a.c.worker_id, a.c.kind, a.c.state).where(
                a.c.project_id == project, a.c.state != "expired"
            )
        ).all()
        last = connection.execute(
            sa.select(sa.func.max(g.c.seq)).where(g.c.project_id == project)
        ).scalar()
        cursor = connection.execute(
            sa.select(schema.meta.c.value).where(schema.meta.c.key == f"cursor:{project}")
        ).scalar()
    by_client = {r.body["client_id"]: r for r in logged}
    sent = {s.client_id: (p, s) for p in people for s in p.sent}
    lost = sum(s.acknowledged and s.client_id not in by_client for _, s in sent.values())
    doubled = len(logged) - len(by_client)
    doubled += sum(n - 1 for n in Counter(r.assignment_id for r in logged).values())
    wrong = 0
    for client_id, row in by_client.items():
        person, answer = sent.get(client_id, (None, None))
        wrong += (
            person is None
            or answer is None
            or row.actor_id != person.user
            or row.assignment_id != answer.task
            or row.body["answer"]["plates"] != answer.plates
        )
    slots = Counter((r.photo_id, r.slot) for r in held if r.kind == "task" and r.state != "dropped")
    looks = Counter((r.photo_id, r.worker_id) for r in held)
    shared = sum(n - 1 for n in slots.values()) + sum(n - 1 for n in looks.values())
    return Audit(
        acknowledged=sum(p.acknowledged for p in people),
        logged=len(logged),
        lost=lost,
        doubled=doubled,
        misassigned=wrong,
        shared_slots=shared,
        underived=0 if last is None or (cursor and int(cursor) == last) else 1,
    )


def free_port() -> int:
    """A port that is free now, below those that the kernel gives to outgoing connections: one of
    those may be taken again before the server has bound it.
    """
    for port in random.SystemRandom().sample(range(15_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class ServerProcess:
    """``platehide annotate serve`` as a process of its own."""

    def __init__(self, database: str, data: Path) -> None:
        self.port = free_port()
        self.command = [sys.executable, "-m", "platehide", "annotate", "serve"]
        self.command += ["--db", database, "--data", str(data), "--port", str(self.port)]
        self.command += ["--rate", "1000", "--address-rate", "100000"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 240.0) -> None:
        """Start and wait until it answers.

        Raises:
            RuntimeError: it did not; with the end of what it said.
        """
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", timeout=10.0).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        self.stop()
        said = self.log.read_text("utf-8", "replace")[-2000:]
        raise RuntimeError(f"the server did not start (exit code {self.process.poll()}): {said}")

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()


async def _load(
    server: ServerProcess, project: str, people: list[Annotator], pace: _Pace, kill_at: float | None
) -> None:
    limits = httpx.Limits(max_connections=len(people) + 10, max_keepalive_connections=len(people))
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30.0) as client:
        tasks = [
            asyncio.create_task(_work(client, who, project, number, pace))
            for number, who in enumerate(people)
        ]
        if kill_at is not None:
            last = pace.end + pace.patience
            while time.monotonic() < last and (
                time.monotonic() < kill_at
                or sum(p.acknowledged for p in people) < pace.least * len(people) // 2
            ):
                await asyncio.sleep(0.02)
            server.kill()
            # Down until somebody notices, however slow this machine is at the moment.
            while time.monotonic() < last and not (
                any(p.errors for p in people) or all(task.done() for task in tasks)
            ):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.start)
        await asyncio.gather(*tasks)


def load_and_audit(
    folder: Path,
    *,
    annotators: int,
    seconds: float,
    kill: bool,
    database: str = "",
    think: float = _THINK_SECONDS,
    least: int = 0,
    patience: float = 30.0,
) -> tuple[Audit, list[Annotator]]:
    """Load a fresh server and audit it afterwards.

    Args:
        kill: kill -9 half-way, and start again.
        least: everybody goes on until so many of their answers are saved, ``patience`` seconds
            after ``seconds`` at most; half of these are saved before the kill.
    """
    url = database or f"sqlite:///{folder / 'bench.sqlite3'}"
    context = build_context(url, folder)
    photos = int(annotators * max(20.0, seconds / think, least) * 0.9) + 50
    project, people = prepare(context, annotators, photos)
    context.db.close()
    server = ServerProcess(url, folder)
    server.start()
    try:
        start = time.monotonic()
        pace = _Pace(start + seconds, think, least, patience)
        kill_at = start + seconds / 2 if kill else None
        asyncio.run(_load(server, project, people, pace, kill_at))
    finally:
        server.stop()
    after = build_context(url, folder)
    try:
        return audit(after, project, people), people
    finally:
        after.db.close()


def bench(*, annotators: int, seconds: float, kill: bool, database: str) -> int:
    """Run and print; exit code 1 when the books are not clean."""
    with tempfile.TemporaryDirectory(prefix="platehide-bench-") as folder:
        found, people = load_and_audit(
            Path(folder), annotators=annotators, seconds=seconds, kill=kill, database=database
        )
    times = sorted(t for p in people for t in p.times)
    errors = sum((p.errors for p in people), Counter())
    print(f"{annotators} annotators, {seconds:.0f} s{', killed half-way' if kill else ''}: {found}")
    if times:
        points = {q: times[min(len(times) - 1, int(q * len(times)))] for q in (0.5, 0.95, 0.99)}
        shown = ", ".join(f"p{q * 100:.0f} {t * 1000:.0f} ms" for q, t in points.items())
        rate = len(times) / seconds
        print(f"{len(times)} requests ({rate:.0f}/s), {shown}; broken or refused: {dict(errors)}")
    print("clean" if found.clean else "NOT CLEAN")
    return 0 if found.clean else 1
