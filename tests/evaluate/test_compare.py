"""One table and one plot over whatever yields boxes or quads."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from platehide.cli import main
from platehide.evaluate.compare import _ticks, front, pareto_svg, table

BOX = [100.0, 100.0, 200.0, 140.0]


def evaluation(model: str, leaks: int, ms: float | None, **changes: Any) -> dict[str, Any]:
    share = {"count": leaks, "total": 50, "value": leaks / 50, "low": 0.0, "high": 1.0}
    keys = ("recall50", "recall75", "recall50_ge32", "leak_ge32", "leak_ge32_quads", "false_covers")
    figures: dict[str, Any] = dict.fromkeys(keys, share) | {"unsure": share, "photos": 50}
    figures |= {"plates": 50, "quad_iou": 0.8, "corner_error_median": 0.1, "over_cover": 0.2}
    one = {"model": model, "split": "test", "data_hash": "d", "sets": {}, "all": figures}
    figures["ms_p50"] = ms
    return one | changes


def test_the_front_is_what_nothing_beats() -> None:
    assert front([(1, 9), (2, 5), (3, 5), (2, 7), (4, 1)]) == [0, 1, 4]
    assert front([]) == []


def test_a_plot_names_everything_and_marks_the_front() -> None:
    results = [evaluation("a<b", 5, 30.0), evaluation("slow", 20, 90.0), evaluation("x", 1, None)]
    svg = ElementTree.fromstring(pareto_svg(results) or "")
    texts = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "a<b" in texts
    assert "slow" in texts
    circles = list(svg.iter("{http://www.w3.org/2000/svg}circle"))
    assert len({c.get("fill") for c in circles}) == 2
    shown = table(results)
    assert [r[-1] for r in shown[1:]] == ["*", "", ""]
    assert [r[-3] for r in shown[1:]] == ["30", "90", "–"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "cars"
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(3):
        picture = np.full((480, 640, 3), 60 * i, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
        plates = [{"box": BOX, "quad": None}] if i else []
        rows.append(
            {"image": f"images/{i}.png", "width": 640, "height": 480, "split": "test",
             "plates": plates}
        )  # fmt: skip
    (folder / "annotations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder.parent


def predictions(path: Path, boxes: list[list[float]], ms: float) -> Path:
    rows = [{"image": f"cars/images/{i}.png", "boxes": boxes, "ms": ms} for i in range(3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_files_of_other_detectors_beside_the_published_network(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = predictions(tmp_path / "good.jsonl", [BOX], 100)
    blind = predictions(tmp_path / "blind.jsonl", [], 1)
    svg, out = tmp_path / "p.svg", tmp_path / "all.json"
    command = ["compare", str(good), str(blind), "--data", str(data), "--svg", str(svg)]
    assert main([*command, "--out", str(out), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("good ")
    assert lines[2].startswith("blind ")
    assert lines[3].startswith("two-head-resnet18@")
    assert " (published) " in lines[3]
    results = json.loads(out.read_text())
    assert [r["all"]["leak_ge32"]["count"] for r in results[:2]] == [0, 2]
    assert [r["all"]["false_covers"]["count"] for r in results[:2]] == [1, 0]
    assert results[2]["data_hash"] == results[0]["data_hash"]
    ElementTree.parse(svg)


def test_evaluations_of_other_photos_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(evaluation("a", 1, 9.0)))
    b.write_text(json.dumps({"test": evaluation("b", 2, 9.0, data_hash="e")}))
    svg = tmp_path / "p.svg"
    assert main(["compare", str(a), str(b), "--no-published", "--svg", str(svg)]) == 0
    said = capsys.readouterr()
    assert "b: measured on other photos than a" in said.err
    assert svg.is_file()


def test_labels_of_neighbours_do_not_lie_on_one_another() -> None:
    results = [evaluation(f"a-rather-long-name@0.{i}.0", 1, 40.0 + i / 5) for i in range(6)]
    svg = ElementTree.fromstring(pareto_svg(results) or "")
    tag = "{http://www.w3.org/2000/svg}text"
    names = [t for t in svg.iter(tag) if "rather" in (t.text or "")]
    heights = sorted(float(t.get("y", "nan")) for t in names)
    assert len(names) == 6
    assert all(b - a >= 13.9 for a, b in pairwise(heights))


@pytest.mark.parametrize("most", [0.7, 5.0, 29.4, 60.0, 99.0, 100.0, 1234.5])
def test_axes_have_round_numbers_and_room(most: float) -> None:
    ticks = _ticks(most)
    assert ticks[0] == 0.0
    assert most <= ticks[-1] <= 1.5 * most
    assert 4 <= len(ticks) <= 7


def test_without_a_time_there_is_a_table_and_no_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, svg = tmp_path / "a.json", tmp_path / "p.svg"
    a.write_text(json.dumps(evaluation("a", 1, None)))
    assert main(["compare", str(a), "--no-published", "--svg", str(svg)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("a ")
    assert "no plot" in said.err
    assert not svg.exists()


def test_the_run_folder_of_a_fine_tuning_has_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    inside = run / "weights" / "tiny" / "0.1.1"
    inside.mkdir(parents=True)
    (inside / "spec.json").write_text("{}")
    (inside / "evaluation.json").write_text(json.dumps({"test": evaluation("tiny@0.1.1", 1, 9.0)}))
    command = ["compare", str(run), "--no-published", "--svg", str(tmp_path / "p.svg")]
    assert main(command) == 0
    assert "tiny@0.1.1 " in capsys.readouterr().out
    (run / "weights" / "tiny" / "0.1.2").mkdir()
    (run / "weights" / "tiny" / "0.1.2" / "spec.json").write_text("{}")
    assert main(command) == 2
    assert "several weights, name one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "no evaluation"),
        ("[]", "no evaluation"),
        ("x", "Expecting value"),
        ('{"all": {}, "sets": {}}', "half-measured"),
        ('{"test": {"all": [], "sets": {}}}', "half-measured"),
    ],
)
def test_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert main(["compare", str(path), "--svg", str(tmp_path / "p.svg")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "p.svg").exists()
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text("")
    assert main(["compare", str(jsonl)]) == 2
    assert "need --data" in capsys.readouterr().err


def test_a_photo_shown_on_its_side_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    folder = tmp_path / "phone" / "images"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (640, 480), (90, 90, 90)).save(folder / "a.jpg", exif=exif)
    row = {"image": "images/a.jpg", "width": 640, "height": 480, "split": "val", "plates": []}
    (folder.parent / "annotations.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["evaluate", "--data", str(tmp_path), "--quiet"]) == 2
    assert "turn the photo upright" in capsys.readouterr().err


def test_photos_that_cannot_be_measured_are_named(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--data", str(data), "--split", "test", "--crops", "0", "--quiet"]
    photo = data / "cars" / "images" / "1.png"
    whole = photo.read_bytes()
    photo.write_bytes(b"no picture")
    assert main(command) == 1
    assert "1.png: " in capsys.readouterr().err
    cv2.imwrite(str(photo), np.zeros((240, 320, 3), np.uint8))
    assert main(command) == 2
    assert "1.png: shown as 320 × 240, labelled as 640 × 480" in capsys.readouterr().err
    photo.unlink()
    assert main(command) == 2
    assert "1.png: named in the annotations and not there" in capsys.readouterr().err
    photo.write_bytes(whole)
    assert main([*command, "--crops", "-1"]) == 2
    assert "--crops -1" in capsys.readouterr().err
