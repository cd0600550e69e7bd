"""The command line with input that makes no sense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from annotate_support import draw_photo, quad_at

from platehide.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--photos", "0"],
        ["simulate", "--bots", "1.5"],
        ["simulate", "--seeds", "-1"],
        ["serve", "--rate", "0"],
        ["--rate", "nan"],
        ["bench", "--annotators", "0"],
    ],
)
def test_numbers_that_make_no_sense(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["annotate", *arguments])
    assert ended.value.code == 2


def test_a_small_simulation_and_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--photos", "12", "--controls", "10", "--workers", "10", "--seeds", "1"]
    out = tmp_path / "figures.json"
    run = ["annotate", "simulate", "--engine", "memory", *small]
    assert main([*run, "--bots", "0.2", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())
    assert row["photos"] == 12
    assert row["median_px"] is None or row["median_px"] > 0
    assert "20 %" in capsys.readouterr().out
    assert main([*run, "--bots", "0.9", "--sloppy", "0.2"]) == 2
    assert "more than all workers" in capsys.readouterr().err
    assert main([*run, "--json", str(tmp_path / "no/x.json")]) == 2


def test_photos_with_impossible_names_are_refused_and_the_others_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(draw_photo(1, quad_at(1)))
    (folder / os.fsdecode(b"b\xff.jpg")).write_bytes(draw_photo(2, quad_at(2)))
    (folder / "c.jpg").write_bytes(b"no photo")
    (folder / "d.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "e.jpg")
    store = ["--data", str(tmp_path / "data")]
    assert main(["annotate", "project", "Cars", *store]) == 0
    assert main(["annotate", "add", "cars", str(folder), *store]) == 1
    found = capsys.readouterr()
    assert "added 1, known already 0, refused 2" in found.out
    assert "b\\udcff.jpg" in found.err
    assert "c.jpg" in found.err
