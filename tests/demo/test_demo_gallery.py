from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from platehide.demo.__main__ import main
from platehide.demo.gallery import choose
from platehide.demo.scenes import SCENES, render
from platehide.evaluate.dataset import load_records


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of annotated photos, one of them without corners."""
    root = tmp_path_factory.mktemp("photos")
    for set_name, spec in (("a", SCENES[0]), ("b", SCENES[7])):
        folder = root / set_name / "images"
        folder.mkdir(parents=True)
        sample = render(spec)
        (folder / "photo.jpg").write_bytes(sample.jpeg)
        plates = [{"quad": q.tolist(), "box": None} for q in sample.quads]
        row = {"image": "images/photo.jpg", "width": 1280, "height": 960, "split": "train",
               "plates": plates, "source": "rendered"}  # fmt: skip
        boxes = dict(row, split="val", plates=[{"quad": None, "box": [1, 2, 30, 10]}])
        lines = [json.dumps(row), json.dumps(boxes)]
        (root / set_name / "annotations.jsonl").write_text("\n".join(lines))
    return root


def test_a_page_and_a_sheet(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "deep" / "page.html"
    assert main(["gallery", str(photos), str(page), "--variant", "dark"]) == 0
    assert "4 plates" in capsys.readouterr().out
    text = page.read_text()
    assert text.count("<figure>") == 4
    assert "a/images/photo.jpg" in text
    with Image.open(page.with_suffix(".png")) as sheet:
        assert sheet.size == (1680, 840)


def test_sets_take_turns(photos: Path) -> None:
    chosen = choose(load_records(photos, "train"), 2, seed=0)
    assert sorted(r.set_name for r in chosen) == ["a", "b"]
    assert choose(load_records(photos, "train"), 1, seed=0)[0].set_name == "a"


def test_photos_without_corners_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gallery", str(photos), str(tmp_path / "p.html"), "--split", "val"]) == 2
    assert "no photo with known corners" in capsys.readouterr().err
    assert main(["gallery", str(photos), str(tmp_path / "p.html"), "--count", "0"]) == 2
    assert not (tmp_path / "p.html").exists()


def test_the_pictures_of_the_docs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pictures", str(tmp_path / "img")]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert Path(line).stat().st_size <= 300_000
        with Image.open(line) as picture:
            assert picture.size[0] > 600
