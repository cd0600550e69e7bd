"""Every reason for which the gate refuses weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from platehide.errors import WeightsError
from platehide.evaluate import gate
from platehide.evaluate.crops import CropOutcome, summarise_crops
from platehide.evaluate.dataset import PhotoRecord, PlateLabel
from platehide.evaluate.landing import verdict
from platehide.evaluate.metrics import Prediction, score_photo, wilson
from platehide.evaluate.reproduce import consistent, reproduces, whole_sets
from platehide.evaluate.runner import report
from platehide.geometry import grow_polygon
from platehide.types import as_quad
from platehide.weights import resolve

QUAD = np.array([[100.0, 100.0], [200.0, 110.0], [198.0, 140.0], [98.0, 128.0]])
FLOORS = gate.Floors({"recall50": 0.8}, {"leak_ge32": 0.1, "false_covers": 0.5}, 3.0)


def record(name: str, plate: bool) -> PhotoRecord:
    box = np.concatenate([QUAD.min(axis=0), QUAD.max(axis=0)])
    plates = (PlateLabel(box, as_quad(QUAD)),) if plate else ()
    path = Path(name) / "images" / "a.jpg"
    return PhotoRecord(name, path, 640, 480, "val", plates, "g", "l", True)


def prediction(found: bool) -> Prediction:
    quads = QUAD[None] if found else np.empty((0, 4, 2))
    painted = tuple(grow_polygon(q, 2.0) for q in quads)
    return Prediction(quads, np.full(len(quads), 0.9), painted, "hidden" if found else "none", 20.0)


def measured(ratio: float = 2.0, missed: int = 0, false: int = 0, **changes: Any) -> gate.Measured:
    """80 photos in two sets, of which some are got wrong; ``changes`` replace pooled figures."""
    photos = [score_photo(record("cars", True), prediction(i >= missed)) for i in range(40)]
    photos += [score_photo(record("seats", False), prediction(i < false)) for i in range(40)]
    result = report(photos)
    box = (0, 0, 300, 300)
    crops = [CropOutcome("seats", "p", box, int(i < false), "none") for i in range(100)]
    result["crops"] = summarise_crops(crops)
    result["all"]["false_covers_crops"] = result["crops"]["false_covers"]
    result["all"] |= changes
    return gate.Measured("m@1", result, ratio)


def share(count: int, total: int) -> dict[str, object]:
    low, high = wilson(count, total)
    value = count / total if total else None
    return {"count": count, "total": total, "value": value, "low": low, "high": high}


def test_good_weights_pass_the_gate() -> None:
    assert gate.judge(measured(), measured(), FLOORS) == []
    assert gate.judge(measured(), None, FLOORS) == []
    assert gate.judge(measured(false=1), measured(), FLOORS) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recall50": share(20, 40)}, "below its floor"),
        ({"recall50": share(0, 0)}, "recall50 was not measured"),
        ({"recall50": None}, "recall50 was not measured"),
        ({"false_covers_crops": None}, "false_covers_crops was not measured"),
        ({"quad_iou": math.nan}, "quad_iou was not measured"),
        ({"leak_ge32": share(9, 40)}, "above its limit"),
        ({"recall50_ge32": share(33, 40)}, "recall50_ge32 is 0.8250, beyond m@1's interval"),
        ({"unsure": share(30, 80)}, "unsure is 0.3750, beyond"),
        ({"false_covers": share(8, 40)}, "false_covers is 0.2000, beyond"),
        ({"false_covers_crops": share(9, 100)}, "false_covers_crops is 0.0900, beyond"),
        ({"quad_iou": 0.7}, "quad_iou is 0.7000, beyond"),
        ({"corner_error_median": 0.4}, "corner_error_median is 0.4000, beyond"),
        ({"over_cover": 0.9}, "over_cover is 0.9000, beyond"),
        ({"ratio": math.nan}, "time was not measured"),
        ({"ratio": 3.5}, "over 3.00"),
        ({"ratio": 2.5}, "m@1 2.00"),
    ],
)
def test_the_gate_says_why(changes: dict[str, Any], reason: str) -> None:
    reasons = gate.judge(measured(**changes), measured(), FLOORS)
    assert any(reason in r for r in reasons), reasons
    assert len(reasons) == len(set(reasons))


def test_a_baseline_that_was_half_measured_refuses_too() -> None:
    reasons = gate.judge(measured(), measured(recall50=None), FLOORS)
    assert reasons == ["recall50 of m@1 was not measured"]
    assert gate.judge(measured(), measured(ratio=math.nan), FLOORS) == [
        "the time of m@1 was not measured"
    ]


def test_only_what_stays_slow_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = iter([[4.0, 2.0], [2.1, 2.2]])

    def once_more(*_: object, **__: object) -> list[gate.Measured]:
        return [measured(ratio=r) for r in next(ratios)]

    monkeypatch.setattr(gate, "measure", once_more)
    first = [measured(ratio=9.0), measured(ratio=2.0)]
    records = [record("cars", True)]
    now = gate.measure_again([], records, first, FLOORS)
    assert [m.ratio_p95 for m in now] == [2.1, 2.0]
    monkeypatch.setattr(
        gate, "measure", lambda *_, **__: [measured(ratio=5.0), measured(ratio=2.0)]
    )
    now = gate.measure_again([], records, first, FLOORS)
    assert gate.is_slow(now[0], now[1], FLOORS)


def saved(folder: Path, found: gate.Measured, **changes: Any) -> dict[str, Any]:
    """Write an evaluation.json of what was measured."""
    one = json.loads(json.dumps({"model": "m@1", "split": "val"} | found.result | changes))
    (folder / "evaluation.json").write_text(json.dumps({"val": one}))
    return dict(one)


def test_an_evaluation_that_is_reproduced_or_not(tmp_path: Path) -> None:
    good = measured()
    saved(tmp_path, good)
    assert reproduces(tmp_path, good, "val") == []
    assert reproduces(tmp_path, measured(missed=1), "val") == []  # one plate may tip over
    worse = reproduces(tmp_path, measured(missed=10), "val")
    assert any("says recall50 40/40 on cars, measured 30/40" in r for r in worse)
    assert any("on all photos" in r for r in worse)
    false = reproduces(tmp_path, measured(false=9), "val")
    assert any("0 false covers on 100 crops, measured 9" in r for r in false)
    assert "no figures for test" in reproduces(tmp_path, good, "test")[0]


def test_some_sets_are_enough_to_find_a_lie(tmp_path: Path) -> None:
    saved(tmp_path, measured())
    part = measured(missed=10)
    del part.result["sets"]["seats"]
    assert any("on cars" in r for r in reproduces(tmp_path, part, "val"))
    honest = measured()
    del honest.result["sets"]["seats"]
    assert reproduces(tmp_path, honest, "val") == []
    other = measured()
    other.result["sets"]["cars"]["photos"] = 39
    assert any("other photos" in r for r in reproduces(tmp_path, other, "val"))


def test_figures_that_contradict_themselves(tmp_path: Path) -> None:
    one = saved(tmp_path, measured(missed=10))
    assert consistent(one, "m@1") == []
    assert "is of m@1, not of m@2" in consistent(one, "m@2")[0]
    prettier = json.loads(json.dumps(one))
    prettier["all"]["recall50"] |= {"count": 40, "value": 1.0}
    assert any("counts 40 for val, its sets 30" in r for r in consistent(prettier, "m@1"))
    one["all"]["leak"]["value"] = 0.0
    assert any("not its own count" in r for r in consistent(one, "m@1"))


@pytest.mark.parametrize("name", ["unsure", "precision50", "quad_iou", "photos", "leak_by_width"])
@pytest.mark.parametrize("where", ["all", "cars"])
@pytest.mark.parametrize("instead", [None, "much", {"count": 1}, True])
def test_half_measured_figures(tmp_path: Path, name: str, where: str, instead: Any) -> None:
    """Whatever is left out or broken is a sentence, never a crash."""
    one = saved(tmp_path, measured())
    group = one["all"] if where == "all" else one["sets"][where]
    if instead is None:
        del group[name]
    else:
        group[name] = instead
    (tmp_path / "evaluation.json").write_text(json.dumps({"val": one}))
    reasons = reproduces(tmp_path, measured(), "val")
    assert reasons == [
        f"evaluation.json: {name} is missing for {'val' if where == 'all' else 'cars of val'}"
    ]


def test_bands_that_do_not_add_up(tmp_path: Path) -> None:
    one = saved(tmp_path, measured(missed=10))
    one["all"]["leak_by_width"][">128"]["count"] += 1
    one["all"]["leak_by_width"][">128"]["total"] += 1
    assert any("leak_by_width does not add up to leak" in r for r in consistent(one, "m@1"))
    one["sets"] = {}
    assert any("there are no sets" in r for r in consistent(one, "m@1"))


def test_without_crops_the_evaluation_is_half_measured(tmp_path: Path) -> None:
    for crops in (None, {}, {"crops": 100, "false_covers": 3}):
        saved(tmp_path, measured(), crops=crops)
        assert any("plate-free crops" in r for r in reproduces(tmp_path, measured(), "val"))
    few = measured().result["crops"] | {"crops": 2}
    saved(tmp_path, measured(), crops=few)
    assert any("has 2 plate-free crops" in r for r in reproduces(tmp_path, measured(), "val"))


@pytest.mark.parametrize(
    "parity", [None, [], "x", {}, {"model.onnx": 3}, {"model.onnx": {"graph": 0.0}},
               {"model.onnx": {"graph": 0.0, "storage": "small"}},
               {"model.onnx": {"graph": math.nan, "storage": 0.0}}],
)  # fmt: skip
def test_a_difference_recorded_in_part_is_none(copy: Path, parity: Any) -> None:
    spec = json.loads((copy / "spec.json").read_text())
    spec["notes"]["parity"] = parity
    (copy / "spec.json").write_text(json.dumps(spec))
    reasons = gate.check_files(copy)
    assert len(reasons) == len(spec["sha256"])
    assert any(r.startswith("model.onnx: ") and "torch" in r for r in reasons)


def test_whole_sets_are_taken_smallest_first() -> None:
    records = [record(n, True) for n in "aaaabbbccd"]
    assert {r.set_name for r in whole_sets(records, 3)} == {"c", "d"}
    assert len(whole_sets(records, 9)) == 6
    assert len(whole_sets(records, 10)) == 10
    assert {r.set_name for r in whole_sets(records[:4], 1)} == {"a"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(resolve(None), folder)
    return folder


@pytest.mark.parametrize("file", ["model.onnx", "spec.json", "MODEL_CARD.md", "evaluation.json"])
def test_an_lfs_pointer_is_refused(copy: Path, file: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (copy / file).write_text(pointer)
    reasons = gate.check_files(copy)
    assert len(reasons) == 1
    assert file in reasons[0]
    assert "LFS pointer" in reasons[0]


def test_a_folder_that_is_too_large_for_git(copy: Path) -> None:
    assert gate.check_files(copy) == []
    with (copy / "notes.bin").open("wb") as file:
        file.truncate(gate.FOLDER_LIMIT)
    assert any("over 25 MB" in r for r in gate.check_files(copy))


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"least": {"a": "x"}, "most": {}, "time_ratio_p95": 2}',
     '{"least": {"a": NaN}, "most": {}, "time_ratio_p95": 2}'],
)  # fmt: skip
def test_floors_must_be_numbers(tmp_path: Path, text: str) -> None:
    path = tmp_path / "floors.json"
    with pytest.raises(WeightsError):
        gate.read_floors(path)
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"floors\.json"):
        gate.read_floors(path)


def test_floors_only_rise() -> None:
    stricter = gate.Floors({"recall50": 0.9}, {"leak_ge32": 0.05, "false_covers": 0.5}, 2.5)
    assert gate.loosened(FLOORS, stricter) == []
    assert gate.loosened(FLOORS, FLOORS) == []
    back = gate.loosened(stricter, FLOORS)
    assert [r.split(" from ")[0] for r in back] == [
        "the floor of recall50 fell",
        "the limit of leak_ge32 rose",
        "the limit of the time rose",
    ]
    assert len(gate.loosened(FLOORS, gate.Floors({}, {}, 3.0))) == 3  # a floor that vanished


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (None, []),
        ("", ["does not name", "lists no training set"]),
        ("# quad-lite0@9\n", ["does not name", "lists no training set"]),
        ("{model}\n| set | photos | licence |\n|---|--:|---|\n", ["lists no training set"]),
        ("{model}\n| set | licence |\n|---|---|\n| a | MIT |\n| b |  |\n", ["no licence for b"]),
        ("{model}\n| set | licence |\n|---|---|\n| a | MIT |\n", []),
    ],
)
def test_the_card_lists_what_was_trained_on(
    copy: Path, text: str | None, reasons: list[str]
) -> None:
    card = copy / "MODEL_CARD.md"
    model = json.loads((copy / "spec.json").read_text())
    if text is not None:
        card.write_text(text.replace("{model}", f"{model['name']}@{model['version']}"))
    found = gate.check_files(copy)
    assert len(found) == len(reasons)
    assert all(wanted in said for wanted, said in zip(reasons, found, strict=True))


def not_here(*_: object) -> list[str]:
    return []


def test_weights_that_do_not_run_as_their_spec_says(copy: Path, tmp_path: Path) -> None:
    """The files are what the spec names, byte for byte, and yet nonsense: a sentence, no crash."""
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.full((480, 640, 3), 90, np.uint8))
    photo = PhotoRecord("s", picture, 640, 480, "val", (), "g", "l", True)
    spec = json.loads((copy / "spec.json").read_text())
    for change in ({"input_size": "big"}, {"kind": "two_head", "graph": "model.onnx"}):
        (copy / "spec.json").write_text(json.dumps(spec | change))
        found = verdict(copy, None, [photo], "val", FLOORS, against_torch=not_here, quiet=True)
        assert len(found.reasons) == 1, found.reasons
        assert "does not run as its spec says" in found.reasons[0]
        assert "\n" not in found.reasons[0]
