"""The page in a real browser: drop, compare, correct, choose a cover, download."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from serve_client import PATIENCE, Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
SCENES = ("eu-sun", "black-night", "no-plate")
DESKTOP, PHONE = {"width": 1360, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def running(scenes: Path) -> Iterator[Running]:
    arguments = ["--scenes-dir", str(scenes), "--scenes", ",".join(SCENES), "--in-flight", "9"]
    with Running(arguments, script="serve_scenes.py") as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


class Visit:
    """An open page; notes what it asked for and every script error."""

    def __init__(self, browser: Browser, running: Running, **options: Any) -> None:
        self.context = browser.new_context(viewport=DESKTOP, **options)
        self.context.set_default_timeout(1e3 * PATIENCE)
        self.page: Page = self.context.new_page()
        self.requests: list[Request] = []
        self.errors: list[str] = []
        # playwright marks handlers, and a built-in method cannot be marked
        self.page.on("request", lambda r: self.requests.append(r))  # noqa: PLW0108
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.base = f"http://127.0.0.1:{running.port}"
        self.page.goto(self.base)
        self.page.wait_for_selector("#own-logo", state="attached")

    def settle(self) -> None:
        """Wait until no photo waits or is worked on; the page notes both at once."""
        self.page.wait_for_selector(".dot.waiting, .dot.working", state="detached")

    def add(self, scenes: Path, *names: str) -> None:
        self.page.set_input_files("#files", [scenes / f"{name}.jpg" for name in names])
        self.settle()

    def posted(self) -> list[str]:
        return [r.url.removeprefix(self.base) for r in self.requests if r.method == "POST"]


@pytest.fixture
def visit(browser: Browser, running: Running) -> Iterator[Visit]:
    one = Visit(browser, running)
    yield one
    assert one.errors == []
    # everything came from the service itself
    assert {r.url.split("/")[2] for r in one.requests if r.url.startswith("http")} == {
        one.base.split("/")[2]
    }
    one.context.close()


def states(page: Page) -> list[str]:
    return page.locator(".thumb-state").all_inner_texts()


def quads(page: Page) -> Any:
    return json.loads(page.locator("#row").text_content() or "")["plates"]


def downloaded(page: Page, selector: str) -> bytes:
    with page.expect_download() as info:
        page.click(selector)
    return Path(info.value.path()).read_bytes()


def test_photos_are_worked_on_and_told(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, *SCENES)
    assert states(page) == ["1 plate covered", "Not sure", "No plate found"]
    assert page.inner_text("#progress") == "2 ready, 1 kept back"
    assert page.get_attribute("#say", "aria-live") == "polite"
    assert re.search(r"\d ms", page.inner_text("#timings"))
    assert page.inner_text("#summary").startswith("1 plate covered, confidence 97")
    photo = Image.open(io.BytesIO(downloaded(page, "#download")))
    original = Image.open(scenes / "eu-sun.jpg")
    change = np.abs(np.asarray(photo, int) - np.asarray(original.convert("RGB"), int)).max(axis=2)
    assert (change[560:585, 575:745] > 2).mean() > 0.5
    assert change[:300].max() == 0
    # the photo that is kept back cannot be downloaded
    page.click(".thumb >> nth=1")
    assert page.is_hidden("#download")
    assert page.is_visible("#alert")


def test_all_in_one_zip(visit: Visit, scenes: Path) -> None:
    visit.add(scenes, "eu-sun", "no-plate", "eu-sun")
    archive = zipfile.ZipFile(io.BytesIO(downloaded(visit.page, "#download-all")))
    assert archive.testzip() is None
    assert archive.namelist() == ["eu-sun.jpg", "no-plate.jpg", "eu-sun-2.jpg", "report.jsonl"]
    rows = [json.loads(line) for line in archive.read("report.jsonl").splitlines()]
    assert [row["status"] for row in rows] == ["hidden", "none", "hidden"]
    assert Image.open(io.BytesIO(archive.read("eu-sun-2.jpg"))).size == (1280, 960)


def test_the_slider_moves_by_keyboard_and_pointer(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, "eu-sun")

    def shown() -> float:
        style = page.get_attribute("#before-layer", "style") or ""
        found = re.search(r"inset\(0(?:px)? ([\d.]+)%", style)
        assert found is not None, style
        return 100 - float(found[1])

    assert shown() == 50
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    assert shown() == 50.5
    page.keyboard.press("Home")
    assert shown() == 0
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    assert abs(shown() - 80) < 2


def test_a_dragged_corner_is_covered_again(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, "eu-sun")
    before = quads(page)[0]["quad"]
    page.click("#mode-edit")
    assert page.is_disabled("#apply")
    handle = page.get_by_role("button", name="Plate 1, bottom right corner")
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.wait_for_selector("#loupe", state="visible")
    page.mouse.up()
    page.wait_for_selector("#loupe", state="hidden")
    page.click("#apply")
    visit.settle()
    after = quads(page)[0]["quad"]
    assert after[0] == pytest.approx(before[0])
    assert after[2][0] > before[2][0] + 3
    assert after[2][1] > before[2][1] + 3
    assert visit.posted()[-1].startswith("/v1/cover?")
    assert "where you marked" in page.inner_text("#summary")


def test_a_plate_is_marked_with_the_keyboard_alone(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, "black-night")
    page.focus("#mark")
    page.keyboard.press("Enter")
    label = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    found = re.fullmatch(r"Plate 1, whole plate, x (\d+), y (\d+)", label)
    assert found is not None, label
    for key in ("ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    moved = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    assert moved.endswith(f"x {int(found[1]) - 1}, y {int(found[2]) - 10}")
    page.focus("#apply")
    page.keyboard.press("Enter")
    visit.settle()
    assert states(page) == ["1 plate covered"]
    assert page.is_visible("#download")


def test_cover_choices_and_a_logo_change_the_result(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, "eu-sun")
    first = downloaded(page, "#download")
    page.select_option("#variant", "dark")
    visit.settle()
    dark = downloaded(page, "#download")
    page.select_option("#style", "blur")
    assert page.is_visible("#blur-warning")
    page.select_option("#style", "logo")
    logo = io.BytesIO()
    Image.new("RGBA", (520, 110), (200, 30, 30, 255)).save(logo, "PNG")
    page.set_input_files(
        "#logo", {"name": "logo.png", "mimeType": "image/png", "buffer": logo.getvalue()}
    )
    visit.settle()
    own = np.asarray(Image.open(io.BytesIO(downloaded(page, "#download"))).convert("RGB"), int)
    red, green = own[565:585, 600:720, 0].mean(), own[565:585, 600:720, 1].mean()
    assert red > green + 50
    assert first != dark


def test_drop_and_paste(visit: Visit, scenes: Path) -> None:
    page = visit.page
    data = list((scenes / "no-plate.jpg").read_bytes())
    make = """(bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
      return transfer;
    }"""
    transfer = page.evaluate_handle(make, data)
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    assert page.is_visible("#veil")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    assert page.is_hidden("#veil")
    page.evaluate(
        "(t) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: t }))", transfer
    )
    visit.settle()
    assert states(page) == ["No plate found", "No plate found"]
    page.click("#remove-photo")
    page.click("#clear")
    assert page.is_hidden("#work")


def test_everything_has_a_name_and_room(visit: Visit, scenes: Path) -> None:
    page = visit.page
    visit.add(scenes, "eu-sun")
    page.click("#mode-edit")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, summary")]
        .filter((e) => !e.innerText && !e.getAttribute("aria-label"))
        .filter((e) => !(e.labels && e.labels.length))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.get_attribute("html", "lang") == "en"
    page.set_viewport_size(PHONE)
    page.click("#mode-compare")
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, .button, select")]
        .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 36)
        .map((e) => e.outerHTML)"""
    )
    assert small == []


def test_the_api_page_shows_the_document(visit: Visit) -> None:
    visit.page.goto(f"{visit.base}/docs")
    visit.page.wait_for_selector(".route")
    text = visit.page.inner_text("#routes")
    for path in ("/v1/hide", "/v1/detect", "/v1/hide:batch", "/v1/jobs/{job}", "/readyz"):
        assert path in text


def test_a_missing_service_is_said(visit: Visit, scenes: Path) -> None:
    visit.page.route("**/v1/hide*", lambda route: route.abort())
    visit.add(scenes, "eu-sun")
    assert states(visit.page) == ["Failed"]
    assert "cannot be reached" in visit.page.inner_text("#alert-text")
