from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fake_plates import KILL_SIZE, make_fake, put
from platehide.cli import detect as command
from platehide.errors import UsageError


def detect(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.detect(
        parser.parse_args(["-q", "--workers", "1", *map(str, arguments)]), make_fake
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    put(tmp_path / "in/a.jpg")
    put(tmp_path / "in/b.jpg", "none")
    put(tmp_path / "in/c.jpg", "doubt")
    return tmp_path / "in"


def test_jsonl_has_the_fields_of_hide_and_keeps_the_order(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(source) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [row["status"] for row in rows] == ["hidden", "none", "unsure"]
    for row in rows:
        assert row["output"] is None
        assert row["painted"] == []
        assert row["model"] == "magenta@1"
    (x0, y0), _, (x1, y1), _ = rows[0]["plates"][0]["quad"]
    assert (x0, y0, x1, y1) == pytest.approx((106, 120, 213, 151), abs=2)


def test_an_unreadable_photo_is_listed(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "bad.jpg").write_bytes(b"no photo")
    assert detect(source, "-o", source.parent / "found.jsonl") == 1
    rows = [json.loads(s) for s in (source.parent / "found.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["hidden", "none", "error", "unsure"]
    assert "bad.jpg: error" in capsys.readouterr().err


def test_table(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(source, "--format", "table") == 0
    head, *lines, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["status", "conf", "x", "y", "width", "height", "photo"]
    assert lines[0].split()[:2] == ["hidden", "0.90"]
    assert lines[1].split()[:2] == ["none", "-"]
    assert total == "1 plates on 3 photos"


def test_coco(source: Path) -> None:
    out = source.parent / "coco.json"
    assert detect(source, "--format", "coco", "-o", out) == 0
    data = json.loads(out.read_text())
    assert [(i["width"], i["height"]) for i in data["images"]] == [(320, 240)] * 3
    (found,) = data["annotations"]
    assert found["image_id"] == 1
    assert data["images"][0]["file_name"] == str(source / "a.jpg")
    x, y, w, h = found["bbox"]
    xs, ys = found["segmentation"][0][::2], found["segmentation"][0][1::2]
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((x, y, x + w, y + h))
    assert found["area"] == pytest.approx(w * h, rel=0.01)
    assert data["categories"] == [{"id": 1, "name": "licence_plate", "supercategory": "vehicle"}]


def test_processes_keep_the_order_and_survive(tmp_path: Path) -> None:
    for n in range(8):
        put(tmp_path / f"in/{n}.jpg", seed=n)
    put(tmp_path / "in/3x.jpg", size=KILL_SIZE)
    out = tmp_path / "found.jsonl"
    assert detect(tmp_path / "in", "--workers", 2, "-o", out) == 1
    rows = [json.loads(s) for s in out.read_text().splitlines()]
    names = [Path(row["image"]).name for row in rows]
    assert names == sorted(names)
    assert [r["code"] for r in rows if r["status"] == "error"] == ["worker_died"]


def test_usage(source: Path) -> None:
    photo = source / "a.jpg"
    before = photo.read_bytes()
    for arguments in ([source, "-o", photo], [source, "-o", source], [source, "-"], ["gone"]):
        with pytest.raises(UsageError):
            detect(*arguments)
    assert photo.read_bytes() == before


def test_interrupted_leaves_no_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from platehide.work import Stopper

    monkeypatch.setattr(Stopper, "stopping", True)
    monkeypatch.setattr(Stopper, "exit_code", 130)
    out = source.parent / "found.jsonl"
    assert detect(source, "-o", out) == 130
    assert not out.exists()


def test_the_output_may_be_a_pipe_and_not_a_link_to_a_photo(source: Path) -> None:
    link = source.parent / "link"
    link.symlink_to(source / "a.jpg")
    with pytest.raises(UsageError):
        detect(source, "-o", link)
    pipe = source.parent / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    assert detect(source, "-o", pipe) == 0
    reader.join(240)
    assert not reader.is_alive(), "the pipe was never closed"
    assert len(got[0].splitlines()) == 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("arguments", [["detect", "in/a.jpg"], ["detect", "--help"]])
def test_a_reader_that_has_seen_enough(tmp_path: Path, arguments: list[str]) -> None:
    put(tmp_path / "in/a.jpg")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "platehide", *arguments],
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if "--help" not in arguments:
        assert done.returncode == 1
        assert "standard output was closed" in done.stderr
