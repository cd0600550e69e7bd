from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from platehide.crowd.interchange import (
    FORMATS,
    Annotation,
    FormatName,
    InterchangeError,
    read,
    write,
)
from platehide.geometry import order_corners
from platehide.types import FloatArray

FORMS = list(get_args(FormatName))
ANSWERS = ["judgements", "toloka", "label-studio"]
QUAD = np.array([[10.0, 10.0], [110.25, 12.0], [110.0, 34.125], [10.0, 32.0]])


def target(tmp_path: Path, form: FormatName) -> Path:
    return tmp_path / f"out{FORMATS[form].suffix}"


def annotation(**change: object) -> Annotation:
    base: dict[str, object] = {
        "image": "a b/ü&<1>.jpg",
        "width": 1283,
        "height": 957,
        "plates": (QUAD,),
        "worker": "w1",
        "task": "a b/ü&<1>.jpg",
        "submitted_at": 1767225600.25,
        "seconds": 3.5,
        "split": "val",
    }
    base.update(change)
    return Annotation(**base)  # type: ignore[arg-type]


def worst(one: Annotation, two: Annotation) -> float:
    pairs = zip(one.plates, two.plates, strict=True)
    return max((float(np.abs(a - b).max()) for a, b in pairs), default=0.0)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_in_nothing_out(tmp_path: Path, form: FormatName) -> None:
    path = target(tmp_path, form)
    write(path, [], form)
    if form == "yolo-pose":
        (path / "labels").mkdir()
    assert read(path, form) == []


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(tmp_path: Path, form: FormatName) -> None:
    path = target(tmp_path, form)
    outside = QUAD - np.array([40.0, 20.0])
    given_ = [
        annotation(),
        annotation(image="two.png", task="two.png", plates=(QUAD, QUAD + 300.0)),
        annotation(image="none.jpg", task="none.jpg", plates=()),
        annotation(image="out.jpg", task="out.jpg", plates=(outside,), split="train"),
    ]
    write(path, given_, form)
    found = {a.image: a for a in read(path, form)}
    assert set(found) == {a.image for a in given_}
    for one in given_:
        two = found[one.image]
        assert worst(one, two) < 0.01
        assert (two.width, two.height) == (one.width, one.height)
        if form in ANSWERS:
            assert (two.worker, two.submitted_at, two.seconds) == ("w1", 1767225600.25, 3.5)
        else:
            assert two.split == one.split


@pytest.mark.parametrize("form", ANSWERS)
def test_answers_keep_workers_skips_and_control_truth(tmp_path: Path, form: FormatName) -> None:
    path = target(tmp_path, form)
    given_ = [
        annotation(image="g.jpg", task="g.jpg", golden=(QUAD,)),
        annotation(image="g.jpg", task="g.jpg", golden=(QUAD,), worker="w2", plates=()),
        annotation(image="s.jpg", task="s.jpg", skip=True, plates=()),
        annotation(image="s.jpg", task="s.jpg", worker="w2"),
    ]
    write(path, given_, form)
    found = {(a.image, a.worker): a for a in read(path, form)}
    assert len(found) == 4
    truth = found["g.jpg", "w2"].golden
    assert truth is not None
    assert np.abs(truth[0] - QUAD).max() < 0.01
    assert (found["s.jpg", "w1"].skip, found["s.jpg", "w2"].skip) == (True, False)
    assert found["s.jpg", "w2"].golden is None
    assert found["g.jpg", "w2"].plates == ()


@pytest.mark.parametrize("form", ["toloka", "label-studio"])
def test_a_control_task_without_answers(tmp_path: Path, form: FormatName) -> None:
    path = target(tmp_path, form)
    control = annotation(worker="", golden=(QUAD,), submitted_at=None, seconds=None)
    write(path, [control, annotation(image="p.jpg", task="p.jpg")], form)
    found = {a.image: a for a in read(path, form)}
    assert len(found) == 2
    one = found[control.image]
    assert (one.worker, one.golden is not None) == ("", True)
    assert worst(control, one) < 0.01


def test_cvat_declares_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "c.xml"
    text = '<?xml version="1.0" encoding="iso-8859-1"?>' + CVAT.replace("a.jpg", "ü.jpg")
    path.write_text(text, encoding="utf-8")
    assert read(path, "cvat")[0].image == "ü.jpg"


@pytest.mark.parametrize("form", sorted(set(FORMS) - set(ANSWERS)))
def test_labels_refuse_skips_and_two_answers_a_photo(tmp_path: Path, form: FormatName) -> None:
    path = target(tmp_path, form)
    with pytest.raises(InterchangeError, match=r"s\.jpg: a skip"):
        write(path, [annotation(image="s.jpg", skip=True, plates=())], form)
    with pytest.raises(InterchangeError, match="two answers on one photo"):
        write(path, [annotation(), annotation(worker="w2")], form)
    assert list(tmp_path.iterdir()) == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(40, 20_000),
    st.integers(40, 20_000),
    st.lists(st.floats(-30, 20_000), min_size=8, max_size=8),
)
def test_round_trip_is_exact_to_a_hundredth(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, numbers: list[float]
) -> None:
    quad: FloatArray = order_corners(np.array(numbers).reshape(4, 2))
    one = annotation(width=width, height=height, plates=(quad,))
    folder = tmp_path_factory.mktemp("trip")
    for form in FORMS:
        path = target(folder, form) if FORMATS[form].suffix else folder / "yolo"
        path = path.with_name(f"{form}{path.suffix}")
        write(path, [one], form)
        two = read(path, form)[0]
        # Quads that are no plates may start elsewhere after rounding: compare as sets.
        gap = np.abs(two.plates[0][:, None] - quad[None]).max(axis=2).min(axis=1).max()
        assert gap < 0.01, form


def test_corners_of_other_tools_are_ordered(tmp_path: Path) -> None:
    path = tmp_path / "cvat.xml"
    path.write_text(
        '<annotations><version>1.1</version><image id="0" name="a.jpg" width="200" height="100">'
        '<polygon label="p" points="110,34;110.25,12;10,10;10,32"/></image></annotations>'
    )
    np.testing.assert_allclose(read(path, "cvat")[0].plates[0][0], [10, 10])


def refused(path: Path, form: FormatName, text: str, line: int, reason: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InterchangeError) as caught:
        read(path, form)
    assert str(caught.value).startswith(f"{path}:{line}: "), str(caught.value)
    assert reason in str(caught.value)


CVAT = """<annotations>
<version>1.1</version>
<image id="0" name="a.jpg" width="200" height="100">
<polygon label="plate" points="1,1;50,1;50,20;1,20"/>
</image>
</annotations>
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        (' width="200"', "", 3, "no 'width'"),
        ('height="100"', 'height="-1"', 3, "whole number of pixels"),
        (";1,20", "", 4, "four corners, got 3"),
        (";1,20", ";1", 4, "points must read"),
        (";1,20", ";1,nan", 4, "finite"),
        ("<polygon", "<box", 4, "<box> has no four free corners"),
        (">1.1<", ">1.0<", 2, "version 1.1 is needed"),
        ("<version>1.1</version>", "", 1, "<version> is missing"),
        ("</image>", "", 6, "not XML"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY x "y">]><annotations>', 1, "document type"),
    ],
)
def test_cvat_refusals(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    text = CVAT.replace(old, new, 1)
    if new.startswith("<box"):
        text = text.replace("/>", ">").replace('20">', '20"></box>')
    refused(tmp_path / "c.xml", "cvat", text, line, reason)


TSV = (
    "INPUT:image\tINPUT:width\tINPUT:height\tGOLDEN:result\tOUTPUT:result\tASSIGNMENT:worker_id"
    "\tASSIGNMENT:submitted\n"
    'a.jpg\t200\t100\t\t"[{""type"":""polygon"",""data"":[{""x"":0.1,""y"":0.1},'
    '{""x"":0.5,""y"":0.1},{""x"":0.5,""y"":0.3},{""x"":0.1,""y"":0.3}]}]"\tw\t'
    "2026-01-01T00:00:00.500\n"
)


def test_toloka_reads_shares_of_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(TSV, encoding="utf-8")
    found = read(path, "toloka")[0]
    np.testing.assert_allclose(found.plates[0], [[20, 10], [100, 10], [100, 30], [20, 30]])
    assert (found.worker, found.submitted_at) == ("w", 1767225600.5)
    bare = TSV.replace("INPUT:width\tINPUT:height\t", "").replace("200\t100\t", "")
    path.write_text(bare, encoding="utf-8")
    assert read(path, "toloka", sizes={"a.jpg": (200, 100)})[0].width == 200
    tasks = "INPUT:image\tINPUT:width\tINPUT:height\tGOLDEN:result\na.jpg\t20\t10\t[]\n"
    path.write_text(tasks, encoding="utf-8")
    assert read(path, "toloka")[0].golden == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("INPUT:image", "INPUT:picture_of", 1, "no INPUT:image column"),
        ("ASSIGNMENT:worker_id", "ASSIGNMENT:who", 1, "no ASSIGNMENT:worker_id column"),
        ("\t200\t100", "\t\t", 2, "width and height of 'a.jpg' are missing"),
        ("polygon", "rectangle", 2, "holds a rectangle"),
        (',{""x"":0.1,""y"":0.3}', "", 2, "four corners, got 3"),
        ('""x"":0.5', '""z"":0.5', 2, "'x' is missing"),
        ("\tw\t", "\t\t", 2, "ASSIGNMENT:worker_id is empty"),
        ("2026-01-01T", "yesterday ", 2, "ISO 8601"),
        ("\tw\t", "\tw\tmore\t", 2, "8 columns where the header has 7"),
        ('"[{', '"{', 2, "not JSON"),
    ],
)
def test_toloka_refusals(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in TSV
    refused(tmp_path / "t.tsv", "toloka", TSV.replace(old, new, 1), line, reason)


def studio() -> str:
    task = {
        "id": 1,
        "data": {"image": "a.jpg"},
        "annotations": [
            {
                "completed_by": 7,
                "result": [
                    {
                        "type": "polygonlabels",
                        "original_width": 200,
                        "original_height": 100,
                        "value": {"points": [[5, 10], [50, 10], [50, 30], [5, 30]]},
                    }
                ],
            }
        ],
    }
    return json.dumps([task], indent=0)


def test_label_studio_reads_percent(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(studio(), encoding="utf-8")
    found = read(path, "label-studio")[0]
    np.testing.assert_allclose(found.plates[0], [[10, 10], [100, 10], [100, 30], [10, 30]])
    assert (found.worker, found.width, found.submitted_at) == ("7", 200, None)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ('"image": "a.jpg"', '"photo": "a.jpg"', 2, "'image' is missing"),
        ('"original_width": 200,\n', "", 11, "'original_width' is missing"),
        ("polygonlabels", "rectanglelabels", 11, "no four free corners"),
        ('"completed_by": 7', '"completed_by": null', 8, "'completed_by'"),
        ('"annotations"', '"predictions"', 2, "'annotations' is missing"),
        ('"original_width": 200', '"original_width": 200, "image_rotation": 90', 11, "rotated"),
        ('"data": {', '"data": {{', 4, "not JSON"),
    ],
)
def test_label_studio_refusals(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in studio()
    text = studio().replace(old, new, 1)
    refused(tmp_path / "l.json", "label-studio", text, line, reason)


def test_label_studio_needs_a_size_where_nothing_was_drawn(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    empty = '[{"data": {"image": "a.jpg"}, "annotations": [{"completed_by": 1, "result": []}]}]'
    refused(path, "label-studio", empty, 1, "width and height of 'a.jpg' are missing")
    assert read(path, "label-studio", sizes={"a.jpg": (20, 10)})[0].height == 10


COCO = """{"images": [
{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
"annotations": [
{"image_id": 1, "keypoints": [1, 1, 2, 50, 1, 2, 50, 20, 2, 1, 20, 2]}]}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        (', "height": 100', "", 2, "'height' is missing"),
        ('"image_id": 1', '"image_id": 2', 4, "no image with the id 2"),
        (", 1, 20, 2]", "]", 4, "got 9 numbers"),
        (", 1, 20, 2]", ", 0, 0, 0]", 4, "not labelled"),
        ('"keypoints"', '"bbox"', 4, "'keypoints' is missing"),
        ('"annotations"', '"notes"', 1, "'annotations' is missing"),
    ],
)
def test_coco_refusals(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in COCO
    refused(tmp_path / "c.json", "coco", COCO.replace(old, new, 1), line, reason)


def test_labels_refuse_a_box(tmp_path: Path) -> None:
    row = (
        '{"image": "a.jpg", "width": 9, "height": 9, "plates": [{"quad": null, "box": [1,2,3,4]}]}'
    )
    refused(tmp_path / "a.jsonl", "labels", row, 1, "a box but no corners")


def test_yolo_takes_the_size_from_the_photo_as_displayed(tmp_path: Path) -> None:
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train").mkdir(parents=True)
    label = tmp_path / "labels" / "train" / "a.txt"
    label.write_text("0 0.3 0.2 0.4 0.2 0.1 0.1 0.5 0.1 0.5 0.3 0.1 0.3\n")
    with pytest.raises(InterchangeError, match=r"a\.txt:1: the size of the photo is missing"):
        read(tmp_path, "yolo-pose")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 200)).save(tmp_path / "images" / "train" / "a.jpg", exif=exif)
    found = read(tmp_path, "yolo-pose")[0]
    assert (found.image, found.width, found.height, found.split) == ("a.jpg", 200, 100, "train")
    np.testing.assert_allclose(found.plates[0][2], [100, 30])
    label.write_text("0 0.3 0.2 0.4 0.2\n")
    with pytest.raises(InterchangeError, match=r"a\.txt:1: .*a box has no corners"):
        read(tmp_path, "yolo-pose")


def test_yolo_refuses_names_that_collide_and_full_folders(tmp_path: Path) -> None:
    two = [annotation(image="x/a.jpg"), annotation(image="y/a.png")]
    with pytest.raises(InterchangeError, match="two photos would both be"):
        write(tmp_path / "out", two, "yolo-pose")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.txt").write_text("mine")
    with pytest.raises(InterchangeError, match="not an empty folder"):
        write(tmp_path / "out", [annotation()], "yolo-pose")
    assert (tmp_path / "out" / "kept.txt").read_text() == "mine"


def test_unknown_format_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InterchangeError, match="unknown format 'voc'"):
        read(tmp_path / "a", "voc")  # type: ignore[arg-type]
    with pytest.raises(InterchangeError, match="No such file"):
        read(tmp_path / "a.json", "coco")


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("before")
    with pytest.raises(InterchangeError, match="needs the worker"):
        write(path, [annotation(), annotation(worker="")], "toloka")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["t.tsv"]
