"""The annotators' page in a real browser: by mouse, by keyboard alone, by touch, at 360 px."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotate_live
import numpy as np
import pytest
import sqlalchemy as sa
from annotate_live import running
from annotate_support import SIZE, draw_photo, quad_at

from platehide.annotate import schema
from platehide.annotate.auth import add_invite, add_user, join
from platehide.annotate.db import new_id
from platehide.annotate.media import Incoming
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.interchange import Annotation, write
from platehide.types import as_quad

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(1200),  # every single wait has a limit; a loaded machine may need many
]
PATIENCE_MS = 240_000
SHOTS = os.environ.get("PLATEHIDE_SCREENSHOTS")
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    with running(tmp_path_factory.mktemp("live")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            timeout=PATIENCE_MS,
        )
        yield chromium
        chromium.close()


class Visit:
    """A person with a browser in a project of one or more photos with known plates."""

    def __init__(
        self, live: tuple[Any, str], browser: Any, *, phone: bool = False, **settings: Any
    ) -> None:
        self.context, self.url = live
        photos = settings.pop("photos", 1)
        training = settings.pop("training", 0)
        controls = settings.pop("controls", 0)
        name = settings.pop("name", "Cars")
        instructions = settings.pop("instructions", "")
        defaults: dict[str, Any] = {"captcha_every": 0, "overlap_min": 1, "min_seconds": 0.0}
        self.project = self.context.projects.create(
            name,
            instructions=instructions,
            settings=ProjectSettings(**(defaults | settings | {"training_tasks": training})),
        )
        self.quads = {}
        purposes = ["task"] * photos + ["training"] * training + ["control"] * controls
        for number, purpose in enumerate(purposes):
            quad = quad_at(number + 40)
            self.quads[f"{number}.jpg"] = quad
            self.context.projects.add_photo(
                self.project,
                Incoming(f"{number}.jpg", draw_photo(number + 40, quad), {}),
                purpose=purpose,
                truth=None if purpose == "task" else {"plates": [quad]},
            )
        self.context.projects.change(self.project, status="active")
        with self.context.db.write() as connection:
            _, invite = add_invite(connection, "worker", time.time(), project_id=self.project)
        size = {"width": 360, "height": 700} if phone else {"width": 1000, "height": 720}
        self.session = browser.new_context(
            viewport=size, has_touch=phone, is_mobile=phone, device_scale_factor=2 if phone else 1
        )
        self.session.set_default_timeout(PATIENCE_MS)
        self.page = self.session.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.problems.append(m.text) if "Security Policy" in m.text else None,
        )
        self.page.goto(f"{self.url}/join#{invite}")
        self.page.fill("#name", "Ada")
        self.page.click("#go")
        self.page.wait_for_selector("#help[open]")
        self.shot("help")
        self.page.keyboard.press("Escape")
        # A key pressed before it has closed would open nothing.
        self.page.wait_for_selector("#help:not([open])", state="attached")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_function("() => !document.querySelector('#none').disabled")

    def hint(self, *words: str) -> None:
        """Wait until the line above the photo says one of these."""
        self.page.wait_for_function(
            "(words) => words.some((w) => document.querySelector('#hint').textContent.includes(w))",
            arg=list(words),
        )

    def draw(self, quad: Any) -> None:
        """Four clicks on the whole photo."""
        for spot in self.fitted(quad):
            self.page.mouse.click(*spot)

    def shot(self, name: str) -> None:
        if SHOTS:
            width = self.page.viewport_size["width"]
            self.page.screenshot(path=str(Path(SHOTS) / f"annotate-{name}-{width}.png"))

    def leased(self, person: str = "Ada") -> Any:
        """Name of the photo on the stage and kind of its task."""
        a, p, u = schema.assignments, schema.photos, schema.users
        with self.context.db.read() as connection:
            return connection.execute(
                sa.select(p.c.name, a.c.kind)
                .join(a, a.c.photo_id == p.c.id)
                .join(u, u.c.id == a.c.worker_id)
                .where(a.c.project_id == self.project, a.c.state == "leased", u.c.name == person)
                .order_by(a.c.leased_at)
                .limit(1)
            ).one()

    def quad(self) -> Any:
        return np.array(self.quads[self.leased().name])

    def fitted(self, points: Any) -> list[tuple[float, float]]:
        """Photo pixels → page pixels while the whole photo (640×480) is on the stage."""
        box = self.page.locator("#canvas").bounding_box()
        hint = 40
        scale = min((box["width"] - 16) / 640, (box["height"] - 8 - hint) / 480)
        left = box["x"] + (box["width"] - 640 * scale) / 2
        top = box["y"] + hint + (box["height"] - hint - 4 - 480 * scale) / 2
        return [(left + x * scale, top + y * scale) for x, y in np.asarray(points)]

    def answers(self, count: int = 1) -> list[Any]:
        """The judgements, once there are ``count``."""
        g = schema.log
        end = time.monotonic() + PATIENCE_MS / 1000
        while True:
            with self.context.db.read() as connection:
                rows = list(
                    connection.execute(
                        sa.select(g.c.body)
                        .where(g.c.project_id == self.project, g.c.kind == "judgement")
                        .order_by(g.c.seq)
                    ).scalars()
                )
            if len(rows) >= count:
                return [r["answer"] for r in rows]
            if time.monotonic() > end:
                says = self.page.locator("#hint").inner_text()
                pytest.fail(f"{len(rows)} of {count} answers came; the page says {says!r}")
            time.sleep(0.05)

    def close(self) -> None:
        self.session.close()
        assert not self.problems, self.problems


def error_px(answer: Any, quad: Any) -> float:
    assert len(answer["plates"]) == 1, answer
    return float(np.abs(np.array(answer["plates"][0]) - quad).max())


def test_by_mouse_four_clicks_a_drag_and_undo(live: Any, browser: Any) -> None:
    visit = Visit(live, browser)
    page, quad = visit.page, visit.quad()
    spots = visit.fitted(quad)
    for index in (2, 0, 3):
        page.mouse.click(*spots[index])
    page.mouse.move(*spots[1])
    visit.shot("drawing")
    assert page.locator("#send").is_disabled()
    page.mouse.click(*spots[1])
    visit.shot("closer")  # the page went closer by itself
    assert page.locator("#send").is_enabled()
    page.keyboard.press("f")
    # Drag a corner away, and take that back.
    page.mouse.move(*spots[0])
    page.mouse.down()
    page.mouse.move(spots[0][0] - 30, spots[0][1] - 25, steps=3)
    page.mouse.up()
    page.keyboard.press("Control+z")
    # Drag the whole plate and take it back with the button.
    middle = np.mean(spots, axis=0)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 10, steps=3)
    page.mouse.up()
    page.click("#tool-undo")
    page.keyboard.press("Enter")
    answer = visit.answers()[0]
    assert error_px(answer, quad) < 1.0
    visit.close()


def test_zooming_while_drawing_is_precise(live: Any, browser: Any) -> None:
    visit = Visit(live, browser)
    page, quad = visit.page, visit.quad()
    spots = visit.fitted(quad)
    page.mouse.click(*spots[0])
    page.mouse.click(*spots[1])
    # Zoom in on the third corner: under the cursor the photo stands still.
    page.mouse.move(*spots[2])
    for _ in range(5):
        page.mouse.wheel(0, -120)
    page.mouse.click(*spots[2])
    page.keyboard.press("0")
    # Pan by dragging an empty place, then turn the photo: nothing that is drawn moves.
    page.mouse.move(20, 400)
    page.mouse.down()
    page.mouse.move(60, 430, steps=3)
    page.mouse.up()
    for key in ("r", "r", "r", "r", "0"):
        page.keyboard.press(key)
    page.mouse.click(*spots[3])
    page.keyboard.press("Enter")
    assert error_px(visit.answers()[0], quad) < 1.0
    visit.close()


def test_by_keyboard_alone(live: Any, browser: Any) -> None:
    visit = Visit(live, browser, photos=2)
    page, quad = visit.page, visit.quad()
    # Go to each corner with the crosshair in steps of one photo pixel or less, place with Space.
    spots = visit.fitted(quad)
    box = page.locator("#canvas").bounding_box()
    here = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    page.keyboard.press("ArrowRight")  # the crosshair appears in the middle
    for spot in spots:
        for axis, (less, more) in enumerate(
            (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"))
        ):
            way = spot[axis] - here[axis]
            key = more if way > 0 else less
            coarse = int(abs(way) // 12)
            for _ in range(coarse):
                page.keyboard.press(key)
            for _ in range(round(abs(way) - 12 * coarse)):
                page.keyboard.press(f"Alt+{key}")
            here[axis] += np.sign(way) * (12 * coarse + round(abs(way) - 12 * coarse))
        page.keyboard.press("Space")
    visit.shot("keyboard")
    page.keyboard.press("1")
    page.keyboard.press("Shift+ArrowLeft")  # a nudge of ten pixels, and back
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    assert error_px(visit.answers()[0], quad) < 1.6
    visit.ready()
    page.keyboard.press("n")
    assert visit.answers(2)[1] == {"plates": []}
    visit.close()


def test_unreadable_is_a_key_and_a_mark_has_to_be_removed_before_no_plate(
    live: Any, browser: Any
) -> None:
    visit = Visit(live, browser)
    page = visit.page
    page.mouse.click(*visit.fitted([[300, 200]])[0])
    page.keyboard.press("n")
    assert "Remove them first" in page.locator("#hint").inner_text()
    page.keyboard.press("Delete")
    page.keyboard.press("u")
    assert visit.answers()[0] == {"skip": True, "reason": "unreadable"}
    page.wait_for_selector("#cover:not([hidden])")
    assert "Nothing to do" in page.locator("#cover").inner_text()
    visit.close()


def touch(client: Any, kind: str, points: list[tuple[float, float]]) -> None:
    client.send(
        "Input.dispatchTouchEvent",
        {
            "type": kind,
            "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)],
        },
    )


def test_by_touch_on_a_phone_with_pinch_and_loupe(live: Any, browser: Any) -> None:
    visit = Visit(live, browser, phone=True)
    page, quad = visit.page, visit.quad()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("none", "skip", "send", "tool-undo"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["width"] >= 40 and box["height"] >= 44, name
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360, name
    client = visit.session.new_cdp_session(page)
    # Pinch about the plate's middle, then pinch back out again.
    middle = np.mean(visit.fitted(quad), axis=0)
    touch(client, "touchStart", [(middle[0] - 20, middle[1]), (middle[0] + 20, middle[1])])
    for k in (30, 45, 60):
        touch(client, "touchMove", [(middle[0] - k, middle[1]), (middle[0] + k, middle[1])])
    touch(client, "touchEnd", [])
    corners = [middle + (np.array(s) - middle) * 3 for s in visit.fitted(quad)]
    visit.shot("pinched")
    on_stage = page.locator("#canvas").bounding_box()
    for index, spot in enumerate(corners):
        inside = (
            on_stage["x"] + 5 < spot[0] < on_stage["x"] + on_stage["width"] - 5
            and on_stage["y"] + 5 < spot[1] < on_stage["y"] + on_stage["height"] - 5
        )
        if not inside:  # see the whole photo again for a corner that the pinch pushed out
            continue
        if index == 0:
            # Press and hold: the loupe comes; slide to the spot, let go.
            start = (spot[0] + 14, spot[1] + 10)
            touch(client, "touchStart", [start])
            visit.hint("let go")
            touch(client, "touchMove", [tuple(spot)])
            visit.shot("loupe")
            touch(client, "touchEnd", [])
        else:
            touch(client, "touchStart", [tuple(spot)])
            touch(client, "touchEnd", [])
        visit.hint(f"Corner {index + 2} of 4", "Check")
    assert "Check" in page.locator("#hint").inner_text()
    visit.shot("placed")
    page.tap("#send")
    # A finger is coarse and the pinch is not exact to the pixel; the loupe makes up for it.
    assert error_px(visit.answers()[0], quad) < 4.0
    visit.close()


def test_practice_colours_the_wrong_corner_and_says_what_to_do(live: Any, browser: Any) -> None:
    visit = Visit(live, browser, photos=1, training=1)
    page = visit.page
    quad = visit.quad()
    wrong = quad.copy()
    wrong[0] += (-60, 0)
    visit.draw(wrong)
    page.keyboard.press("Enter")
    visit.hint("Move")
    assert "top left corner" in page.locator("#hint").inner_text()
    visit.shot("practice")
    page.keyboard.press("Delete")
    page.keyboard.press("0")
    visit.draw(quad)
    page.keyboard.press("Enter")
    page.wait_for_selector("#go-on")
    assert "Right!" in page.locator("#cover").inner_text()
    visit.close()


def test_a_name_full_of_markup_stays_text(live: Any, browser: Any) -> None:
    visit = Visit(live, browser, name=EVIL[:119], instructions=f"# {EVIL}\n- **{EVIL}**\n{EVIL}")
    page = visit.page
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    assert EVIL in page.locator("#help").inner_text()
    assert page.locator("#help img").count() == 0
    assert page.title() != "owned"
    visit.close()


def test_nothing_that_would_help_a_cheat_reaches_the_browser(
    live: Any, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control tasks, practice and another worker's answers, told from all that the browser got."""
    context, _ = live
    monkeypatch.setattr(context.desk, "rng", random.Random(4))  # draws some control tasks
    wire: list[str] = []
    monkeypatch.setattr(annotate_live, "taps", [wire])
    visit = Visit(
        live, browser, photos=6, training=1, controls=6, overlap_min=2,
        control_share_new=0.5, control_share=0.5,
    )  # fmt: skip
    project, page = visit.project, visit.page
    with context.db.write() as connection:
        other = add_user(connection, "worker", "Somebody Else", time.time())
        join(connection, project, other, time.time())
        mine = connection.execute(
            sa.select(schema.assignments.c.worker_id).where(
                schema.assignments.c.project_id == project
            )
        ).scalar()
    given = [[111.17, 122.27], [231.37, 122.47], [231.57, 161.67], [111.77, 161.87]]
    for _ in range(6):
        task = context.desk.view(other, project)["tasks"][0]["id"]
        held = visit.leased("Somebody Else")
        plate = given if held.kind == "task" else visit.quads[held.name]
        context.desk.submit(other, task, new_id(), {"plates": [plate]})
    context.deriver.catch_up()
    before = len(visit.answers(5))
    kinds = []
    for number in range(7):
        visit.ready()
        held = visit.leased()
        kinds.append(held.kind)
        visit.draw(np.array(visit.quads[held.name]))
        page.keyboard.press("Enter")
        if held.kind == "training":
            page.click("#go-on")
        else:
            visit.answers(before + number)
    page.wait_for_function(
        "() => document.querySelector('#figures').textContent.includes('6 done')"
    )
    assert kinds[0] == "training" and {"task", "control"} <= set(kinds[1:]), kinds
    text = "\n".join(wire).replace("cache-control", "")
    assert text.count("/answer 200") >= 7 and text.count("/photo 200") >= 7
    truths = {str(c) for n, q in visit.quads.items() for p in q for c in p if c % 1}
    assert truths and not [c for c in truths if c in text]
    assert not [c for p in given for c in p if str(c) in text]
    names = {n for n in visit.quads if f'"{n}"' in text or f"/{n}" in text}
    assert not names
    for word in ("control", "golden", "truth", '"kind', "skill", "posterior", "Somebody", other):
        assert word not in text, word
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert mine not in kept and "control" not in kept
    visit.close()


class Requester:
    """A person with the requester's pages open."""

    def __init__(self, live: tuple[Any, str], browser: Any) -> None:
        self.context, self.url = live
        with self.context.db.write() as connection:
            _, invite = add_invite(connection, "requester", time.time())
        self.session = browser.new_context(
            viewport={"width": 1100, "height": 800}, accept_downloads=True
        )
        self.session.set_default_timeout(PATIENCE_MS)
        self.page = self.session.new_page()
        self.page.goto(f"{self.url}/join#{invite}")
        self.page.fill("#name", "Rita")
        self.page.click("#go")
        self.page.wait_for_selector("text=New project")

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=str(Path(SHOTS) / f"annotate-{name}.png"), full_page=True)

    def says(self, words: str) -> str:
        """Wait for a notice with these words; all of it."""
        notice = self.page.locator("#note .notice", has_text=words)
        notice.wait_for()
        return str(notice.inner_text())


def test_requester_creates_uploads_starts_invites_and_exports(
    live: Any, browser: Any, tmp_path: Path
) -> None:
    rita = Requester(live, browser)
    page, url = rita.page, rita.url
    page.click("text=New project")
    page.fill("#new-name", "Spring cars")
    page.click("button:has-text('Create')")
    page.wait_for_selector("#files")
    files = []
    for number in range(2):
        file = tmp_path / f"car{number}.jpg"
        file.write_bytes(draw_photo(number + 90, quad_at(number + 90)))
        files.append(str(file))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    page.set_input_files("#files", [*files, str(broken)])
    page.click("button:has-text('Upload')")
    assert "broken.jpg" in rita.says("2 added")
    page.click("button:has-text('Start')")
    page.wait_for_selector("button:has-text('Pause')")
    page.click("a:has-text('Invites')")
    page.click("button:has-text('Make a link')")
    link = page.locator("#invite-link").inner_text()
    assert link.startswith(f"{url}/join#phi_")
    page.click("a:has-text('Settings')")
    page.wait_for_selector("#set-rules")
    page.fill("#set-rules", "rules: [nonsense")
    page.click("button:has-text('Save')")
    page.wait_for_selector("text=rules: not YAML")
    page.click("a:has-text('Overview')")
    page.wait_for_selector("text=photos settled")
    rita.session.close()


def test_requester_imports_a_folder_and_another_tools_file(
    live: Any, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rita = Requester(live, browser)
    page = rita.page
    cars, known = tmp_path / "cars", tmp_path / "known"
    for folder, numbers in ((cars, (70, 71)), (known, (72,))):
        folder.mkdir()
        for number in numbers:
            (folder / f"{number}.jpg").write_bytes(draw_photo(number, quad_at(number)))
    (cars / "broken.jpg").write_bytes(b"no photo")
    row = {"image": "72.jpg", "width": 640, "height": 480, "plates": [{"quad": quad_at(72)}]}
    (known / "annotations.jsonl").write_text(json.dumps(row) + "\n")
    labels = tmp_path / "coco.json"
    rows = [Annotation("70.jpg", *SIZE, plates=(as_quad(quad_at(70)),))]
    write(labels, rows, "coco")

    project = rita.context.projects.create("Autumn cars")
    slug = rita.context.projects.find(project).slug
    page.goto(f"{rita.url}/projects#/{slug}/photos")
    page.fill("#source", str(cars))
    page.click("button:text-is('Import')")
    rita.says("may not import from there")
    assert page.input_value("#source") == str(cars)  # to be corrected, not typed again
    monkeypatch.setattr(rita.context, "import_roots", (str(tmp_path),))
    page.click("button:text-is('Import')")
    assert "broken.jpg" in rita.says("2 added, 0 known already, 1 refused")
    page.wait_for_selector("td:text-is('70.jpg')")
    page.fill("#source", str(cars))
    page.click("button:text-is('Import')")
    rita.says("0 added, 2 known already, 1 refused")
    page.fill("#source", str(known))
    page.select_option("#purpose", "control")
    page.click("button:text-is('Import')")
    rita.says("1 added")
    assert "Control photos 1" in page.locator("#tab").inner_text()

    page.click("button:has-text('Take over')")
    rita.says("Choose a file first")
    page.set_input_files("#labels", str(labels))
    page.select_option("#format", "cvat")
    page.click("button:has-text('Take over')")
    assert "coco.json" in rita.says("XML")
    page.set_input_files("#labels", str(labels))
    page.select_option("#format", "coco")
    page.click("button:has-text('Take over')")
    rita.says("1 added, 0 known already, 0 refused")
    rita.shot("imported")

    page.click("a:has-text('Export')")
    with page.expect_download() as coming:
        page.click("button:text-is('labels')")
    (found,) = map(json.loads, Path(coming.value.path()).read_text("utf-8").splitlines())
    assert found["image"].startswith("images/70-")  # the only one that is settled
    assert np.abs(np.array(found["plates"][0]["quad"]) - quad_at(70)).max() < 0.02
    rita.session.close()
