"""A whole annotation site for tests: made-up photos, made-up time, people with tokens."""

from __future__ import annotations

import io
import random
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

with warnings.catch_warnings():
    # starlette would rather have its own fork of httpx; both work.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from PIL import Image, ImageDraw

from platehide.annotate.auth import add_credential, add_invite, add_user, join
from platehide.annotate.context import Context
from platehide.annotate.media import Incoming
from platehide.annotate.settings import ProjectSettings

SIZE = (640, 480)


def draw_photo(seed: int, quad: Any | None, size: tuple[int, int] = SIZE) -> bytes:
    """A made-up picture: noise, and a white plate with a dark border where ``quad`` says."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 160, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    if quad is not None:
        points = [tuple(p) for p in np.asarray(quad, dtype=float)]
        ImageDraw.Draw(image).polygon(points, fill=(250, 250, 250), outline=(10, 10, 10), width=3)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def quad_at(seed: int) -> list[list[float]]:
    """A plausible tilted plate for a photo."""
    rng = np.random.default_rng([seed, 7])
    x, y = rng.uniform(80, 380), rng.uniform(120, 340)
    w, h, tilt = rng.uniform(110, 160), rng.uniform(28, 40), rng.uniform(-14, 14)
    return [
        [round(x, 2), round(y, 2)],
        [round(x + w, 2), round(y + tilt, 2)],
        [round(x + w - 2, 2), round(y + tilt + h, 2)],
        [round(x - 2, 2), round(y + h, 2)],
    ]


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Site:
    """A whole site over a fresh store, with made-up time."""

    context: Context
    clock: Clock
    client: TestClient
    truths: dict[str, dict[str, Any]] = field(default_factory=dict)

    def person(self, role: str, name: str = "Somebody", projects: tuple[str, ...] = ()) -> Person:
        with self.context.db.write() as connection:
            user = add_user(connection, role, name, self.clock())
            for project in projects:
                join(connection, project, user, self.clock())
            _, token = add_credential(connection, user, "api", self.clock(), lifetime_seconds=1e7)
        return Person(self, user, token)

    def invite(self, role: str, project: str | None, **options: Any) -> str:
        with self.context.db.write() as connection:
            _, secret = add_invite(connection, role, self.clock(), project_id=project, **options)
        return secret

    def project(
        self, photos: int = 4, controls: int = 0, training: int = 0, **settings: Any
    ) -> str:
        defaults: dict[str, Any] = {"captcha_every": 0, "training_tasks": training}
        project = self.context.projects.create(
            "Cars", settings=ProjectSettings.from_json(defaults | settings)
        )
        number = 0
        for purpose, count in (("task", photos), ("control", controls), ("training", training)):
            for _ in range(count):
                number += 1
                # Every fifth has no plate.
                quad = None if number % 5 == 0 else quad_at(number)
                truth = {"plates": [] if quad is None else [quad]}
                self.context.projects.add_photo(
                    project,
                    Incoming(f"p{number:03d}.jpg", draw_photo(number, quad), {}),
                    purpose=purpose,
                    truth=truth if purpose != "task" else None,
                )
                self.truths[f"p{number:03d}.jpg"] = truth
        self.context.projects.change(project, status="active")
        return project

    def settle(self) -> None:
        """Draw all conclusions (no thread runs in tests)."""
        self.context.deriver.catch_up()


@dataclass
class Person:
    """Somebody with an API token."""

    site: Site
    user: str
    token: str

    def call(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.site.client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self.call("POST", path, **options)

    def desk(self, project: str) -> dict[str, Any]:
        reply = self.post(f"/api/work/projects/{project}/desk")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def truth(self, task: str) -> dict[str, Any]:
        """What is really on the photo of a task (looked up behind the site's back)."""
        import sqlalchemy as sa

        from platehide.annotate import schema

        a, p = schema.assignments, schema.photos
        with self.site.context.db.read() as connection:
            name = connection.execute(
                sa.select(p.c.name).join(a, a.c.photo_id == p.c.id).where(a.c.id == task)
            ).scalar_one()
        return self.site.truths[name]

    def answer(self, task: str, answer: Any = None, client_id: str = "") -> Any:
        body = {
            "client_id": client_id or f"client-{random.getrandbits(64):016x}",
            "answer": self.truth(task) if answer is None else answer,
        }
        return self.post(f"/api/work/tasks/{task}/answer", json=body)

    def work(self, project: str, most: int = 100, seconds: float = 8.0, answer: Any = None) -> int:
        """Answer tasks truly (or with ``answer``) until there are none; returns how many."""
        done = 0
        desk = self.desk(project)
        while desk["tasks"] and done < most:
            self.site.clock.tick(seconds)
            reply = self.answer(desk["tasks"][0]["id"], answer)
            assert reply.status_code == 200, reply.text
            desk = reply.json()["desk"]
            done += 1
        return done
