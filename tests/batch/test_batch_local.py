from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_plates import HOLD, KILL_SIZE, has_magenta, make_fake, photo_bytes, put
from platehide.cli import batch as command
from platehide.errors import PlateHideError, UsageError

pytestmark = pytest.mark.timeout(1200)  # every wait has its own limit
PATIENCE = 240.0


def batch(*arguments: object, make: Any = make_fake) -> int:
    parser = argparse.ArgumentParser(prog="platehide batch")
    command.add_arguments(parser)
    given = [str(a) for a in arguments]
    if given[0] != "report" and "--contact-sheet" not in given:
        given += ["--contact-sheet", ""]
    if "--workers" not in given:
        given += ["--workers", "1"]
    return command.batch(parser.parse_args(["-q", *given]), make)


def rows(destination: Path) -> dict[str, dict[str, Any]]:
    """Final rows by key; fails where a photo has two."""
    found: dict[str, dict[str, Any]] = {}
    for part in sorted((destination / "_platehide").rglob("part-*.jsonl")):
        for line in part.read_text("utf-8").splitlines():
            row = json.loads(line)
            assert row["key"] not in found, "one row a photo"
            found[row["key"]] = row
    return found


def outputs(destination: Path) -> list[str]:
    return sorted(
        str(p.relative_to(destination))
        for p in destination.rglob("*")
        if p.is_file() and "_platehide" not in p.parts
    )


def check_consistent(destination: Path) -> dict[str, dict[str, Any]]:
    """Every output has exactly one row that vouches for its bytes, and shows no plate."""
    found = rows(destination)
    written = {r["output"]: r for r in found.values() if r["output"] is not None}
    assert sorted(written) == [str(destination / name) for name in outputs(destination)]
    for name, row in written.items():
        data = Path(name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["output_sha256"]
        assert not has_magenta(data)
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for ad in range(3):
        for n in range(4):
            put(tmp_path / f"src/ad{ad}/{n}.jpg", "plate" if n % 2 else "none", seed=10 * ad + n)
    put(tmp_path / "src/flat.png", fmt="PNG")
    (tmp_path / "src/bad.jpg").write_bytes(b"no photo")
    (tmp_path / "src/notes.txt").write_text("no photo either")
    return tmp_path / "src"


def test_an_archive_with_its_manifest(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dst = tmp_path / "dst"
    assert batch(archive, dst, "--shards", 3) == 1
    found = check_consistent(dst)
    assert len(found) == 14
    assert outputs(dst) == sorted(
        [f"ad{a}/{n}.jpg" for a in range(3) for n in range(4)] + ["flat.png"]
    )
    assert found["bad.jpg"]["code"] == "not_an_image"
    row = found["ad0/1.jpg"]
    assert row["image"] == str(archive / "ad0/1.jpg")
    assert row["model"] == "magenta@1"
    assert {"quad", "confidence"} == set(row["plates"][0])
    assert {"decode", "detect", "cover", "encode", "total", "read", "write"} <= set(row["ms"])
    said = capsys.readouterr()
    assert "14 photos: 7 hidden" in said.out
    assert "per million photos" in said.out
    assert "bad.jpg: error" in said.err


def test_a_second_run_needs_resume_and_does_only_what_is_missing(
    archive: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "dst"
    assert batch(archive, dst) == 1
    with pytest.raises(UsageError, match="--resume"):
        batch(archive, dst)
    stamps = {name: (dst / name).stat().st_mtime_ns for name in outputs(dst)}
    put(archive / "ad1/new.jpg")
    put(archive / "bad.jpg")
    (dst / "ad2/3.jpg").unlink()
    assert batch(archive, dst, "--resume") == 1  # bad.jpg was set aside for a lasting reason
    assert check_consistent(dst)["bad.jpg"]["status"] == "error"
    redone = {n for n in outputs(dst) if (dst / n).stat().st_mtime_ns != stamps.get(n)}
    assert redone == {"ad1/new.jpg", "ad2/3.jpg"}
    assert batch(archive, dst, "--resume", "--retry-failed") == 0
    assert len(check_consistent(dst)) == 15


def test_model_older_than(archive: Path, tmp_path: Path) -> None:
    dst = tmp_path / "dst"
    batch(archive, dst)
    stamps = {name: (dst / name).stat().st_mtime_ns for name in outputs(dst)}
    batch(archive, dst, "--resume", "--model-older-than", "magenta@1")
    assert stamps == {name: (dst / name).stat().st_mtime_ns for name in outputs(dst)}
    batch(archive, dst, "--resume", "--model-older-than", "magenta@1.1")
    assert all((dst / n).stat().st_mtime_ns != stamps[n] for n in stamps)
    assert len(check_consistent(dst)) == 14


def test_a_photo_that_fails_when_redone_leaves_nothing_in_the_destination(
    archive: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "dst"
    batch(archive, dst)
    put(archive / "ad0/1.jpg", "doubt")
    batch(archive, dst, "--resume", "--model-older-than", "magenta@2")
    assert "ad0/1.jpg" not in outputs(dst)
    assert check_consistent(dst)["ad0/1.jpg"]["status"] == "unsure"


def test_photos_of_an_ad_are_looked_at_again(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src / "with/1.jpg", size=(640, 480))
    put(src / "with/2.jpg", "faint", size=(640, 480))
    put(src / "without/1.jpg", "none", size=(640, 480))
    put(src / "without/2.jpg", "faint", size=(640, 480))
    put(src / "3.jpg", "faint", size=(640, 480))
    assert batch(src, dst) == 0
    found = check_consistent(dst)
    assert {key: (row["status"], row.get("second_look")) for key, row in found.items()} == {
        "with/1.jpg": ("hidden", None),
        "with/2.jpg": ("hidden", True),
        "without/1.jpg": ("none", None),
        "without/2.jpg": ("none", None),
        "3.jpg": ("none", None),
    }
    put(src / "without/0.jpg", size=(640, 480))  # the ad gets a photo with a plate
    assert batch(src, dst, "--resume") == 0
    found = check_consistent(dst)
    assert found["without/2.jpg"]["status"] == "hidden"
    assert (
        found["without/1.jpg"] | {"status": "none", "second_look": True} == found["without/1.jpg"]
    )
    assert batch(src, tmp_path / "off", "--gallery", "off") == 0
    assert rows(tmp_path / "off")["with/2.jpg"]["status"] == "none"


def test_a_doubt_in_an_ad_is_looked_at_again_and_never_dismissed(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src / "with/1.jpg", size=(640, 480))
    put(src / "with/2.jpg", "doubt", size=(640, 480))
    put(src / "with/3.jpg", "doubt-faint", size=(640, 480))
    put(src / "without/1.jpg", "none", size=(640, 480))
    put(src / "without/2.jpg", "doubt", size=(640, 480))
    assert batch(src, dst) == 1
    found = check_consistent(dst)
    assert {key: (row["status"], row.get("second_look")) for key, row in found.items()} == {
        "with/1.jpg": ("hidden", None),
        "with/2.jpg": ("unsure", True),  # the closer look finds nothing: the doubt stays
        "with/3.jpg": ("hidden", True),
        "without/1.jpg": ("none", None),
        "without/2.jpg": ("unsure", None),
    }


def test_an_ad_of_any_size_holds_a_few_photos_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ad without a plate, larger than what is held: its photos are looked at once more."""
    from platehide.batch import worker
    from platehide.batch.listing import Entry
    from platehide.batch.plan import Unit, UnitPhoto
    from platehide.jobs import HideSettings

    monkeypatch.setattr(worker, "_HELD_PHOTOS", 2)
    for n in range(6):
        put(tmp_path / f"src/{n}.jpg", "faint" if n == 4 else "none", seed=n, size=(640, 480))
    settings = worker.BatchSettings(HideSettings(), str(tmp_path / "src"), str(tmp_path / "dst"))
    unit = Unit(0, tuple(UnitPhoto(Entry(f"{n}.jpg")) for n in range(6)), "ad")
    done = list(worker.make_worker(settings, make_fake).work(unit, lambda n: None))
    assert sorted(d.number for d in done) == list(range(6))
    assert {d.row["status"] for d in done} == {"none"}
    assert outputs(tmp_path / "dst") == [f"{n}.jpg" for n in range(6)]
    put(tmp_path / "src/5.jpg", size=(640, 480))
    done = list(worker.make_worker(settings, make_fake).work(unit, lambda n: None))
    assert sorted(d.number for d in done) == list(range(6))
    status = {d.number: d.row["status"] for d in done}
    assert status == {0: "none", 1: "none", 2: "none", 3: "none", 4: "hidden", 5: "hidden"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_list_carries_its_columns(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "photos/a/1.jpg", size=(640, 480))
    put(tmp_path / "elsewhere/2.jpg", "faint", size=(640, 480))
    table = [
        {"image": "photos/a/1.jpg", "ad": 7, "status": "sold"},
        {"image": str(tmp_path / "elsewhere/2.jpg"), "ad": 7, "status": None},
        {"image": "photos/gone.jpg", "ad": 8, "status": "open"},
    ]
    source = tmp_path / f"list.{kind}"
    if kind == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        parquet.write_table(pa.Table.from_pylist(table), source)
    dst = tmp_path / "dst"
    assert batch(source, dst, "--gallery", "ad") == 1
    found = check_consistent(dst)
    assert found["photos/a/1.jpg"]["ad"] == 7
    assert found["photos/a/1.jpg"]["source_status"] == "sold"
    assert found["photos/a/1.jpg"]["status"] == "hidden"
    assert found["photos/gone.jpg"]["code"] == "not_found"
    other = found["elsewhere/2.jpg"]
    assert (other["status"], other["second_look"]) == ("hidden", True)
    put(tmp_path / "photos/gone.jpg")
    assert batch(source, dst, "--gallery", "ad", "--resume") == 0
    assert len(check_consistent(dst)) == 3


def test_a_list_of_bare_names_and_of_other_columns(tmp_path: Path) -> None:
    for n in range(3):
        put(tmp_path / f"{n}.jpg", seed=n)
    lines = [
        '"0.jpg"',
        '{"url": "1.jpg", "price": NaN, "seen": [NaN, 1]}',
        '{"file_name": "2.jpg"}',
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    assert batch(tmp_path / "list.jsonl", tmp_path / "dst") == 0
    found = check_consistent(tmp_path / "dst")
    assert sorted(found) == ["0.jpg", "1.jpg", "2.jpg"]
    assert (found["1.jpg"]["price"], found["1.jpg"]["seen"]) == (None, [None, 1])
    (part,) = (tmp_path / "dst/_platehide").rglob("part-*.jsonl")
    assert "NaN" not in part.read_text()  # which is not JSON


@pytest.mark.parametrize("path", ["../secret.jpg", "a/../../b.jpg", "", "_platehide/x.jpg", 3])
def test_a_list_cannot_lead_out_of_the_destination(tmp_path: Path, path: object) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"image": path}) + "\n")
    with pytest.raises(UsageError, match="row 1"):
        batch(tmp_path / "list.jsonl", tmp_path / "dst")
    assert not (tmp_path / "dst").exists()


def test_parquet_parts_are_resumed(archive: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    dst = tmp_path / "dst"
    assert batch(archive, dst, "--manifest-format", "parquet") == 1
    (part,) = (dst / "_platehide").rglob("part-*")
    table = parquet.read_table(part).to_pylist()
    assert len(table) == 14
    by_key = {row["key"]: row for row in table}
    (x0, _), (x1, _), *_ = by_key["ad0/1.jpg"]["plates"][0]["quad"]
    assert x1 > x0
    put(archive / "new.jpg")
    assert batch(archive, dst, "--resume", "--manifest-format", "parquet") == 1
    (part,) = (dst / "_platehide").rglob("part-*")
    assert len(parquet.read_table(part)) == 15
    assert batch(archive, dst, "--resume", "--manifest-format", "jsonl") == 1
    assert len(check_consistent(dst)) == 15


def test_parquet_parts_give_back_what_was_carried(tmp_path: Path) -> None:
    """Columns of several kinds, with parts, with numbers too large: rewritten without a change."""
    pytest.importorskip("pyarrow.parquet")
    columns: list[dict[str, Any]] = [
        {"mixed": 1, "parts": {"a": 1}, "big": 2**70, "tags": ["x"], "plain": "ü", "some": 1.5},
        {"mixed": "one", "parts": {"b": [2]}, "big": 3, "tags": [1, None], "plain": "", "no": True},
    ]
    for n, row in enumerate(columns):
        put(tmp_path / f"{n}.jpg", seed=n)
        row["image"] = f"{n}.jpg"
    source = tmp_path / "list.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in columns))
    dst = tmp_path / "dst"
    assert batch(source, dst, "--manifest-format", "parquet", "--audit") == 0
    put(tmp_path / "2.jpg", seed=2)
    columns.append({"image": "2.jpg", "mixed": None, "plain": "new"})
    source.write_text("".join(json.dumps(row) + "\n" for row in columns))
    assert batch(source, dst, "--resume") == 0  # the format of the first run stays
    assert not list((dst / "_platehide").rglob("part-*.jsonl"))
    assert batch(source, dst, "--resume", "--manifest-format", "jsonl") == 0
    found = check_consistent(dst)
    for row in columns:
        kept = {name: value for name, value in row.items() if value is not None}
        name = kept.pop("image")
        assert {column: found[name][column] for column in kept} == kept
    assert found["0.jpg"]["audit"].keys() == found["1.jpg"]["audit"].keys()


def test_names_that_are_not_utf8_stay_in_json_lines(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    put(tmp_path / "src/a.jpg")
    (tmp_path / "src" / os.fsdecode(b"b\xff.jpg")).write_bytes(photo_bytes())
    dst = tmp_path / "dst"
    assert batch(tmp_path / "src", dst, "--manifest-format", "parquet") == 0
    assert len(rows(dst)) == 2
    assert batch(tmp_path / "src", dst, "--resume") == 0
    assert len(rows(dst)) == 2


def test_two_inputs_of_one_output(tmp_path: Path) -> None:
    put(tmp_path / "src/a.heic.jpg")
    put(tmp_path / "src/a.heic")
    dst = tmp_path / "dst"
    assert batch(tmp_path / "src", dst) == 1
    found = check_consistent(dst)
    assert sorted(row.get("code") or "" for row in found.values()) == ["", "name_taken"]


def test_usage_errors_write_nothing(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        [archive, archive],
        [archive / "ad0", archive],
        [tmp_path / "missing", tmp_path / "dst"],
        [tmp_path / "missing.jsonl", tmp_path / "dst"],
        [tmp_path / "empty", tmp_path / "dst"],
        [archive, tmp_path / "dst", "--cover", archive / "notes.txt"],
        [archive, tmp_path / "dst", "--contact-sheet", tmp_path / "dst/sheet.jpg"],
        [archive, tmp_path / "dst", "--manifest", tmp_path / "dst"],
        [archive, tmp_path / "dst", "-o", "x.html"],
        [archive, tmp_path / "dst", "--root", tmp_path],
        [archive, tmp_path / "dst", "--model", "no-such-model"],
        [archive, tmp_path / "dst", "--spool", tmp_path / "missing"],
    ):
        with pytest.raises(UsageError):
            batch(*arguments)
    assert not (tmp_path / "dst").exists()
    assert not (archive / "_platehide").exists()


def test_a_destination_inside_the_source_is_not_read(archive: Path) -> None:
    dst = archive / "done"
    assert batch(archive, dst) == 1
    assert batch(archive, dst, "--resume") == 1
    assert len(check_consistent(dst)) == 14


def test_dry_run_writes_nothing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dst = tmp_path / "dst"
    assert batch(archive, dst, "--dry-run") == 0
    assert not dst.exists()
    assert "14 photos in 1 shards: 14 to do, 0 settled" in capsys.readouterr().out
    batch(archive, dst)
    put(archive / "new.jpg")
    capsys.readouterr()
    assert batch(archive, dst, "--dry-run") == 0
    assert "15 photos in 1 shards: 1 to do, 14 settled" in capsys.readouterr().out


def test_limit_rate(tmp_path: Path) -> None:
    for n in range(6):
        put(tmp_path / f"src/{n}.jpg", seed=n)
    start = time.monotonic()
    assert batch(tmp_path / "src", tmp_path / "dst", "--limit-rate", 4) == 0
    assert time.monotonic() - start > 5 / 4


def test_a_photo_that_kills_workers_is_set_aside(tmp_path: Path) -> None:
    for n in range(10):
        put(tmp_path / f"src/{n}.jpg", seed=n)
    put(tmp_path / "src/4x.jpg", size=KILL_SIZE)
    dst = tmp_path / "dst"
    assert batch(tmp_path / "src", dst, "--workers", 2) == 1
    found = check_consistent(dst)
    assert len(found) == 11
    assert [k for k, r in found.items() if r.get("code") == "worker_died"] == ["4x.jpg"]
    assert found["4x.jpg"]["image"] == str(tmp_path / "src/4x.jpg")


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import argparse\n"
        "from fake_plates import make_fake\n"
        "from platehide.cli import batch\n"
        "if __name__ == '__main__':\n"
        "    parser = argparse.ArgumentParser()\n"
        "    batch.add_arguments(parser)\n"
        "    sys.exit(batch.batch(parser.parse_args(sys.argv[2:]), make_fake))\n"
    )
    script = Path(str(arguments[1])).parent / "drive.py"
    script.write_text(program)
    here = str(Path(__file__).parents[1])
    with script.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, script, here, *map(str, arguments), "-q", "--contact-sheet", ""],
            stdout=log,
            stderr=log,
        )


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, workers stop after a few photos."""
    file = tmp_path / "hold"
    file.touch()
    monkeypatch.setenv(HOLD, str(file))
    return file


def _log(driver: subprocess.Popen[bytes]) -> str:
    """The end of what a driver said."""
    script = Path(str(driver.args[1]))  # type: ignore[index]
    return script.with_suffix(".log").read_text("utf-8", "replace")[-2000:]


def _wait(
    condition: Callable[[], object], driver: subprocess.Popen[bytes], seconds: float = PATIENCE
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        waited = time.monotonic() > end
        if waited or driver.poll() is not None:
            driver.kill()
            pytest.fail(
                f"{'waited in vain' if waited else 'the driver has ended'} "
                f"(exit code {driver.wait()}): {_log(driver)}"
            )
        time.sleep(0.02)


def _end(driver: subprocess.Popen[bytes]) -> int:
    """Its exit code, once it has ended."""
    try:
        return driver.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        pytest.fail(f"the driver does not end: {_log(driver)}")


def _running(pid: int) -> bool:
    """False when it has ended, though nobody has taken its exit code yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _workers(pid: int) -> list[int]:
    """Worker processes, without multiprocessing's own helper."""
    found = []
    for child in _children(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(child)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_kill_9_of_a_worker_loses_nothing(tmp_path: Path, hold: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    for n in range(16):
        put(src / f"ad{n % 2}/{n}.jpg", seed=n)
    driver = _start(src, dst, "--workers", 2)
    _wait(lambda: len(outputs(dst)) >= 2 and len(_workers(driver.pid)) == 2, driver)
    os.kill(_workers(driver.pid)[0], signal.SIGKILL)
    hold.unlink()
    assert _end(driver) == 0, _log(driver)
    found = check_consistent(dst)
    assert len(found) == 16
    assert {row["status"] for row in found.values()} == {"hidden"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_kill_9_of_the_driver_ends_the_workers_and_a_resume_finishes(
    tmp_path: Path, hold: Path
) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    for n in range(16):
        put(src / f"{n}.jpg", seed=n)
    driver = _start(src, dst, "--workers", 2)
    _wait(lambda: len(outputs(dst)) >= 3 and len(_workers(driver.pid)) == 2, driver)
    workers = _workers(driver.pid)
    driver.kill()
    driver.wait()
    end = time.monotonic() + PATIENCE
    while any(map(_running, workers)):
        assert time.monotonic() < end, f"the workers outlive their driver: {_log(driver)}"
        time.sleep(0.02)
    hold.unlink()
    for name in outputs(dst):
        if name.endswith(".jpg"):
            assert not has_magenta((dst / name).read_bytes())
    # A line that the kill tore off must not matter either.
    parts = list((dst / "_platehide").rglob("part-*.jsonl"))
    if parts:
        parts[0].write_bytes(parts[0].read_bytes() + b'{"key": "torn')
    assert batch(src, dst, "--resume", "--workers", 2) == 0
    assert len(check_consistent(dst)) == 16


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_interrupt_is_orderly(tmp_path: Path, hold: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    for n in range(20):
        put(src / f"{n}.jpg", seed=n)
    driver = _start(src, dst, "--workers", 1)
    _wait(lambda: len(outputs(dst)) >= 2, driver)
    driver.send_signal(signal.SIGINT)
    hold.unlink()
    assert _end(driver) == 130, _log(driver)
    before = check_consistent(dst)
    assert 2 <= len(before) < 20
    assert batch(src, dst, "--resume", "--workers", 2) == 0
    assert len(check_consistent(dst)) == 20


def test_a_full_disk_ends_the_run_and_a_resume_finishes(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from full_disk import make_fake_on_a_full_disk

    dst = tmp_path / "dst"
    monkeypatch.setenv("TEST_DISK_FULL_AFTER", "5")
    with pytest.raises(PlateHideError, match=r"No space left on device.*--resume"):
        batch(archive, dst, make=make_fake_on_a_full_disk)
    kept = check_files_have_no_plate(dst)
    assert 0 < kept < 13
    assert not any(row.get("code") == "disk_full" for row in rows(dst).values())
    assert batch(archive, dst, "--resume", "--retry-failed") == 1
    assert len(check_consistent(dst)) == 14


def check_files_have_no_plate(dst: Path) -> int:
    names = outputs(dst)
    for name in names:
        assert not has_magenta((dst / name).read_bytes())
    return len(names)


def test_a_vanishing_source_ends_the_run_and_a_resume_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from full_disk import make_fake_that_moves_the_source

    src, dst = tmp_path / "src", tmp_path / "dst"
    for n in range(80):
        put(src / f"{n:02}.jpg", seed=n)
    monkeypatch.setenv("TEST_MOVED_SOURCE", str(src))
    with pytest.raises(PlateHideError, match="has vanished"):
        batch(src, dst, make=make_fake_that_moves_the_source)
    (tmp_path / "src.away").rename(src)
    assert len(rows(dst)) < 80
    assert batch(src, dst, "--resume") == 0
    found = check_consistent(dst)
    assert len(found) == 80
    assert {row["status"] for row in found.values()} == {"hidden"}


def test_a_single_photo_that_vanishes_is_an_error_that_is_tried_again(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    put(src / "a.jpg")
    (src / "b.jpg").symlink_to("later.jpg")
    assert batch(src, dst) == 1
    assert rows(dst)["b.jpg"]["code"] == "not_found"
    (src / "b.jpg").unlink()
    put(src / "b.jpg")
    assert batch(src, dst, "--resume") == 0
    assert len(check_consistent(dst)) == 2


def test_two_drivers_on_one_manifest(archive: Path, tmp_path: Path) -> None:
    from platehide.batch.manifest import Manifest

    manifest = Manifest(str(tmp_path / "dst/_platehide"))
    manifest.lock()
    with pytest.raises(UsageError, match="another run"):
        batch(archive, tmp_path / "dst")
    manifest.close()


def test_report_and_contact_sheet(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    put(archive / "doubt.jpg", "doubt")
    assert batch(archive, "dst", "--contact-sheet", "sheet.jpg") == 1
    with Image.open("sheet.jpg") as sheet:
        assert sheet.width > 640
    assert batch("report", "dst", "-o", "report.html", "--price-core-hour", 0.1) == 0
    page = Path("report.html").read_text("utf-8")
    assert "15 photos: 7 hidden" in page
    assert "bad.jpg" in page
    assert "at 0.1 a core-hour" in page
    assert "data:image/jpeg;base64," in page
    capsys.readouterr()
    assert batch("report", "dst", "-o", "-") == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
    assert not Path("-").exists()
    with pytest.raises(UsageError, match="must not lie"):
        batch("report", "dst/_platehide", "-o", "dst/report.html")
    with pytest.raises(UsageError, match="no manifest"):
        batch("report", "src", "-o", "report2.html")
    assert len(check_consistent(Path("dst"))) == 15


def test_the_source_photo_is_never_copied_through(tmp_path: Path) -> None:
    """Whatever goes wrong, an input's bytes do not turn up in the destination."""
    put(tmp_path / "src/doubt.jpg", "doubt")
    put(tmp_path / "src/plate.jpg")
    data = photo_bytes()
    (tmp_path / "src/cut.jpg").write_bytes(data[: len(data) // 2])
    dst = tmp_path / "dst"
    assert batch(tmp_path / "src", dst) == 1
    sources = {p.read_bytes() for p in (tmp_path / "src").iterdir()}
    assert not any((dst / name).read_bytes() in sources for name in outputs(dst))
