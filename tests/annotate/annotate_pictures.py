"""The pictures of docs/annotation.md: the site with rendered sample photos and a made-up crowd.

python tests/annotate/annotate_pictures.py docs/img
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from annotate_live import running
from playwright.sync_api import sync_playwright

from platehide.annotate.auth import add_invite, add_user, join
from platehide.annotate.context import Context
from platehide.annotate.db import new_id
from platehide.annotate.media import Incoming
from platehide.annotate.settings import ProjectSettings
from platehide.annotate.work import WorkDesk
from platehide.demo.scenes import SCENES, render


def crowd(context: Context, project: str, truths: dict[str, Any]) -> None:
    """Six people and a careless one, over the last two hours."""
    import sqlalchemy as sa

    from platehide.annotate import schema

    start = time.time() - 7200
    now = [start]
    desk = WorkDesk(context.db, clock=lambda: now[0])
    rng = random.Random(1)
    people = []
    with context.db.write() as connection:
        for name in ("Ada", "Grace", "Katherine", "Alan", "Linus", "Radia", "Speedy"):
            user = add_user(connection, "worker", name, start)
            join(connection, project, user, start)
            people.append((name, user))
    a, p = schema.assignments, schema.photos
    for _ in range(40):
        for name, user in people:
            now[0] += rng.uniform(8, 30)
            view = desk.view(user, project)
            if not view["tasks"]:
                continue
            task = view["tasks"][0]["id"]
            with context.db.read() as connection:
                photo = connection.execute(
                    sa.select(p.c.name).join(a, a.c.photo_id == p.c.id).where(a.c.id == task)
                ).scalar_one()
            now[0] += rng.uniform(6, 14)
            sigma = 14 if name == "Speedy" else 1.0
            plates = [
                (np.array(q) + np.array([[rng.gauss(0, sigma) for _ in "xy"] for _ in q])).tolist()
                for q in truths[photo][:1]
            ]
            try:
                desk.submit(user, task, new_id(), {"plates": plates})
            except Exception:
                desk.submit(user, task, new_id(), {"skip": True})
            context.deriver.catch_up()


def main(target: Path) -> None:
    """Write the pictures."""
    target.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    chromium = shutil.which("chromium")
    with running(folder) as (context, url), sync_playwright() as engine:
        truths: dict[str, Any] = {}
        made = []
        for name, controls in (("Sample cars", True), ("Street", False)):
            project = context.projects.create(
                name, settings=ProjectSettings(captcha_every=0, training_tasks=0)
            )
            for number, spec in enumerate(SCENES):
                sample = render(spec)
                file = f"sample-{number:02d}.jpg"
                truths[file] = [q.tolist() for q in sample.quads]
                control = controls and number % 4 == 3 and len(sample.quads) < 2
                context.projects.add_photo(
                    project,
                    Incoming(file, sample.jpeg, {}),
                    purpose="control" if control else "task",
                    truth={"plates": truths[file]} if control else None,
                )
            context.projects.change(project, status="active")
            made.append(project)
        crowd(context, made[0], truths)
        with context.db.write() as connection:
            _, worker = add_invite(
                connection, "worker", time.time(), project_id=made[1], max_uses=2
            )
            _, boss = add_invite(connection, "requester", time.time())
        browser = engine.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for phone in (False, True):
            size = {"width": 360, "height": 700} if phone else {"width": 1000, "height": 700}
            page = browser.new_page(viewport=size, has_touch=phone, is_mobile=phone)
            page.goto(f"{url}/join#{worker}")
            page.fill("#name", "Ada")
            page.click("#go")
            page.wait_for_selector("#help[open]")
            page.keyboard.press("Escape")
            page.wait_for_function("() => !document.querySelector('#none').disabled")
            found: dict[str, Any] = page.evaluate(
                "() => ({w: document.querySelector('#canvas').getBoundingClientRect().toJSON()})"
            )
            place(page, found["w"], first_quad(context, made[1], truths), phone)
            page.wait_for_timeout(400)
            page.screenshot(path=str(target / f"annotate-{'phone' if phone else 'desktop'}.png"))
            page.close()
        page = browser.new_page(viewport={"width": 1100, "height": 820})
        page.goto(f"{url}/join#{boss}")
        page.fill("#name", "Rita")
        page.click("#go")
        page.wait_for_selector(".card progress")
        for tab in ("overview", "workers", "review"):
            page.goto(f"{url}/projects#/sample-cars/{tab}")
            page.wait_for_timeout(1500)
            page.screenshot(path=str(target / f"annotate-{tab}.png"))
        browser.close()


def first_quad(context: Context, project: str, truths: dict[str, Any]) -> Any:
    """The plate of the photo that was leased last (the one on the newest stage)."""
    import sqlalchemy as sa

    from platehide.annotate import schema

    a, p = schema.assignments, schema.photos
    with context.db.read() as connection:
        rows = connection.execute(
            sa.select(p.c.name, p.c.width, p.c.height, a.c.worker_id, a.c.leased_at)
            .join(a, a.c.photo_id == p.c.id)
            .where(a.c.project_id == project, a.c.state == "leased")
            .order_by(a.c.leased_at.desc())
        ).all()
    mine = [r for r in rows if r.worker_id == rows[0].worker_id][-1]
    return truths[mine.name], mine.width, mine.height


def place(page: Any, box: dict[str, float], photo: Any, phone: bool) -> None:
    """Three corners and the cursor (with the loupe) at the fourth; all four on the phone."""
    quads, width, height = photo
    if not quads:
        return
    hint = 40
    scale = min((box["width"] - 16) / width, (box["height"] - 8 - hint) / height)
    left = box["x"] + (box["width"] - width * scale) / 2
    top = box["y"] + hint + (box["height"] - hint - 4 - height * scale) / 2
    spots = [(left + x * scale, top + y * scale) for x, y in quads[0]]
    for spot in spots if phone else spots[:3]:
        page.mouse.click(*spot)
        page.wait_for_timeout(60)
    if not phone:
        page.mouse.move(*spots[3])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
