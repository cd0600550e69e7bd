from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from platehide.demo.__main__ import main
from platehide.demo.run import displayed, run_demo
from platehide.demo.scenes import SCENES, SceneSpec, plate_corners
from platehide.detection import Findings
from platehide.errors import WeightsError
from platehide.pipeline import PlateHider
from platehide.pixels import PixelSource
from platehide.types import Detection, FloatArray

FEW = tuple(
    dataclasses.replace(s, size_wh=(s.size_wh[0] // 2, s.size_wh[1] // 2))
    for s in SCENES
    if s.name in ("eu-sun", "tilted-portrait", "car-park", "no-plate")
)
Change = Callable[[list[FloatArray]], list[FloatArray]]


class Told:
    """A detector that is told the scenes' corners, after ``change``."""

    model = "told@1.0.0"

    def __init__(self, change: Change = list, doubtful: bool = False) -> None:
        self._scenes: Iterator[SceneSpec] = iter(FEW)
        self._change = change
        self._doubtful = doubtful

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        spec = next(self._scenes)
        assert source.size_wh == spec.size_wh
        plates = tuple(Detection(q, 0.9) for q in self._change(list(plate_corners(spec))))
        return Findings((), plates) if self._doubtful else Findings(plates)


def beside(quad: FloatArray) -> FloatArray:
    """``quad`` moved by two fifths of its width."""
    return quad + np.array([0.4 * np.ptp(quad[:, 0]), 0.0])


def run(folder: Path, change: Change = list, doubtful: bool = False) -> int:
    hider = PlateHider(detector=Told(change, doubtful), verify="off")  # told of each photo once
    return run_demo(folder, hider, FEW)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_the_demo_shows_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out") == 0
    printed = capsys.readouterr().out
    names = [s.name for s in FEW]
    for name in names:
        assert name in printed
    for place in ("before", "after", "side-by-side.png", "report.jsonl"):
        assert str(tmp_path / "out" / place) in printed
        assert (tmp_path / "out" / place).exists()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "after", "before", "report.jsonl", "side-by-side.png",
    ]  # fmt: skip
    report = rows(tmp_path / "out")
    assert [r["status"] for r in report] == ["hidden", "hidden", "hidden", "none"]
    assert [len(r["coverage"]) for r in report] == [1, 1, 3, 0]
    assert all(c >= 0.999 for r in report for c in r["coverage"])
    assert all(r["false_covers"] == 0 and r["model"] == "told@1.0.0" for r in report)
    for spec in FEW:
        before = displayed((tmp_path / "out/before" / f"{spec.name}.jpg").read_bytes())
        after = displayed((tmp_path / "out/after" / f"{spec.name}.jpg").read_bytes())
        assert before.shape == after.shape
        for quad in plate_corners(spec):
            x0, y0 = quad.min(axis=0).astype(int)
            x1, y1 = quad.max(axis=0).astype(int)
            part = np.abs(before[y0:y1, x0:x1].astype(int) - after[y0:y1, x0:x1])
            assert part.mean() > 15
    with Image.open(tmp_path / "out" / "side-by-side.png") as sheet:
        assert sheet.size[0] > 1000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda quads: quads[:-1], "a plate was missed"),
        (lambda quads: [beside(q) for q in quads], "covers beside the plates"),
        (
            lambda quads: [*quads, np.array([[5.0, 5], [60, 5], [60, 20], [5, 20]])],
            "something else was painted",
        ),
    ],
)
def test_the_demo_can_fail(
    tmp_path: Path, change: Change, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, change) == 1, why
    assert "not as it should be" in capsys.readouterr().err


def test_a_photo_that_did_not_come_out_fails_and_leaves_no_old_file(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    assert (tmp_path / "after" / "eu-sun.jpg").exists()
    assert run(tmp_path, doubtful=True) == 1
    assert not (tmp_path / "after" / "eu-sun.jpg").exists()
    assert rows(tmp_path)[0]["status"] == "unsure"
    assert rows(tmp_path)[0]["output"] is None


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert main([str(file)]) == 2
    assert "not a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


def test_weights_that_cannot_be_used_end_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), "--model", str(tmp_path / "no-such-model")]) in (1, 2)
    assert "no-such-model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(1200)  # a loaded machine is no reason to fail
def test_the_demo_with_the_released_weights(tmp_path: Path) -> None:
    try:
        hider = PlateHider()
    except WeightsError as error:
        pytest.skip(f"needs released weights: {error}")
    assert run_demo(tmp_path, hider) == 0
