from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fake_plates import HOLD, KILL_SIZE, has_magenta, make_fake, photo_bytes, put
from platehide.cli import hide as command
from platehide.cli import main
from platehide.errors import UsageError
from platehide.progress import Progress


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(a) for a in arguments])


def hide(*arguments: object) -> int:
    return command.hide(parse("-q", "--workers", 1, *arguments), make_fake)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = {Path(row["image"]).name: row for row in lines}
    assert len(found) == len(lines), "one row a photo"
    return found


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_keeps_paths_names_and_formats(tmp_path: Path) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    put(source / "a.jpg")
    put(source / "deep/er/B.JPEG", "none")
    put(source / "deep/c.png", fmt="PNG")
    put(source / "deep/.hidden ü\n.webp", fmt="WEBP")
    (source / "notes.txt").write_text("not a photo")
    (source / "deep/._a.jpg").write_bytes(b"finder companion")
    assert hide(source, "-o", out, "--report", report) == 0
    assert tree(out) == sorted(["a.jpg", "deep/er/B.JPEG", "deep/c.png", "deep/.hidden ü\n.webp"])
    found = rows(report)
    assert {name: row["status"] for name, row in found.items()} == {
        "a.jpg": "hidden",
        "B.JPEG": "none",
        "c.png": "hidden",
        ".hidden ü\n.webp": "hidden",
    }
    row = found["c.png"]
    assert row["image"] == str(source / "deep/c.png")
    assert row["output"] == str(out / "deep/c.png")
    assert row["model"] == "magenta@1"
    assert set(row["ms"]) >= {"decode", "detect", "cover", "encode", "total"}
    assert [len(p["quad"]) for p in row["plates"]] == [4]
    assert len(row["painted"]) == 1
    assert found["B.JPEG"]["plates"] == []
    assert found["B.JPEG"]["painted"] == []
    assert (out / "deep/c.png").read_bytes()[:4] == b"\x89PNG"
    assert not has_magenta((out / "a.jpg").read_bytes())


def test_bad_photos_are_rows_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    good = put(source / "good.jpg").read_bytes()
    (source / "empty.jpg").write_bytes(b"")
    (source / "text.jpg").write_text("hello")
    (source / "cut.jpg").write_bytes(good[: len(good) // 2])
    put(source / "large.jpg", size=(400, 300))
    put(source / "doubt.jpg", "doubt")
    (source / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(source / "pipe.jpg")
    (source / "blob.jpg").mkdir()
    put(source / "blob.jpg/inside.jpg")
    assert hide(source, "-o", out, "--report", report, "--max-pixels", 100_000) == 1
    assert tree(out) == ["blob.jpg/inside.jpg", "good.jpg"]
    found = rows(report)
    codes = {name: (row["status"], row.get("code")) for name, row in found.items()}
    assert codes == {
        "good.jpg": ("hidden", None),
        "inside.jpg": ("hidden", None),
        "empty.jpg": ("error", "empty"),
        "text.jpg": ("error", "not_an_image"),
        "cut.jpg": ("error", "truncated"),
        "large.jpg": ("error", "too_large"),
        "doubt.jpg": ("unsure", "unsure"),
        "dangling.jpg": ("error", "not_found"),
        "pipe.jpg": ("error", "unreadable"),
    }
    said = capsys.readouterr().err
    for name, (status, _) in codes.items():
        listed = [line for line in said.splitlines() if str(source / name) in line]
        assert len(listed) == (status in ("error", "unsure")), name
    assert found["doubt.jpg"]["painted"] == []
    assert found["doubt.jpg"]["output"] is None


def test_out_dir_inside_input_is_not_read(tmp_path: Path) -> None:
    put(tmp_path / "in/a.jpg")
    for _ in range(3):
        assert hide(tmp_path / "in", "-o", tmp_path / "in/out", "--overwrite") == 0
    assert tree(tmp_path / "in") == ["a.jpg", "out/a.jpg"]


def test_links_in_circles_and_to_other_folders(tmp_path: Path) -> None:
    put(tmp_path / "in/sub/a.jpg")
    put(tmp_path / "elsewhere/b.jpg")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/alias").symlink_to(tmp_path / "in/sub")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/other").symlink_to(tmp_path / "elsewhere")
    assert hide(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == ["other/b.jpg", "sub/a.jpg"]


def test_the_shells_star_names_the_output_folder_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("in/a.jpg"))
    for _ in range(2):
        named = sorted(map(str, Path("in").iterdir()))
        assert hide(*named, "-o", "in/out", "--report", "in/r.jsonl") == 0
        assert tree(Path("in")) == ["a.jpg", "out/a.jpg", "r.jsonl"]
        assert hide("in/*", "-o", "in/out", "--report", "in/r.jsonl") == 0
    assert sorted(rows(Path("in/r.jsonl"))) == ["a.jpg"]
    with pytest.raises(UsageError):
        hide("in/r.jsonl", "-o", "in/out", "--report", "in/r.jsonl")
    with pytest.raises(UsageError):
        hide("in/out", "-o", "in/out")


def test_links_and_streams_are_written_to_not_replaced(tmp_path: Path) -> None:
    put(tmp_path / "in/a.jpg")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    for _ in range(2):
        assert (
            hide(tmp_path / "in", "-o", tmp_path / "out", "--report", tmp_path / "link.jsonl") == 0
        )
    assert (tmp_path / "link.jsonl").is_symlink()
    assert sorted(rows(tmp_path / "real.jsonl")) == ["a.jpg"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert hide(tmp_path / "in", "-o", tmp_path / "out", "--report", pipe, "--overwrite") == 0
    reader.join(240)
    assert not reader.is_alive(), "the pipe was never closed"
    assert json.loads(got[0])["status"] == "hidden"
    assert not pipe.is_file()
    # A link in the output folder is replaced: it may lead to the photo itself.
    photo = (tmp_path / "in/a.jpg").read_bytes()
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2/a.jpg").symlink_to(tmp_path / "in/a.jpg")
    assert hide(tmp_path / "in", "-o", tmp_path / "out2") == 0
    assert (tmp_path / "in/a.jpg").read_bytes() == photo
    assert not (tmp_path / "out2/a.jpg").is_symlink()


def test_an_output_under_another_name_goes_too(tmp_path: Path) -> None:
    """A file named .jpg that holds AVIF becomes .jpg.jpg; as a JPEG it is .jpg."""
    out, report = tmp_path / "out", tmp_path / "r.jsonl"
    put(tmp_path / "in/a.jpg", fmt="AVIF")
    assert hide(tmp_path / "in", "-o", out, "--report", report) == 0
    assert tree(out) == ["a.jpg.jpg"]
    put(tmp_path / "in/a.jpg")
    assert hide(tmp_path / "in", "-o", out, "--report", report, "--overwrite") == 0
    assert tree(out) == ["a.jpg"]
    put(tmp_path / "in/a.jpg", fmt="AVIF")
    assert hide(tmp_path / "in", "-o", out, "--report", report, "--overwrite") == 0
    put(tmp_path / "in/a.jpg", "doubt", fmt="AVIF")
    assert hide(tmp_path / "in", "-o", out, "--report", report, "--overwrite") == 1
    assert tree(out) == []


def test_globs_keep_the_path_below_their_fixed_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("in/one/a.jpg"))
    put(Path("in/two/a.jpg"))
    put(Path("in/[odd].jpg"))
    assert hide("in/**/*.jpg", "-o", "out") == 0
    assert tree(Path("out")) == ["[odd].jpg", "one/a.jpg", "two/a.jpg"]
    assert hide("in/[odd].jpg", "-o", "out2") == 0  # an existing name is a name, not a pattern
    assert tree(Path("out2")) == ["[odd].jpg"]
    assert hide("*/**/a.jpg", "-o", "out") == 0  # the output folder is not read here either
    assert "out/one/a.jpg" not in tree(Path("out"))


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (["x/a.jpg", "y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["x/a.jpg", "y/a.jpg"], ["x", "y"]),
        (["x/a.heic", "x/a.heic.jpg"], ["x"]),
        (["x/a.AVIF", "x/a.AVIF.jpg"], ["x"]),
        (["x/a.jpg"], ["missing.jpg"]),
        (["x/a.jpg"], ["none*.jpg"]),
        (["x/notes.txt"], ["x"]),
        (["out/a.jpg"], ["out"]),
        (["out/a.jpg"], ["out/a.jpg"]),
        (["x/a.jpg"], ["x/a.jpg", "-"]),
        (["x/a.jpg"], ["x", "--report", "x/a.jpg"]),
        (["x/a.jpg"], ["x", "--report", "out/a.jpg"]),
        (["x/a.jpg"], ["x", "--report", "x"]),
        (["x/a.jpg", "x/notes.txt"], ["x", "--report", "x/notes.txt"]),
        (["x/a.jpg", "x/notes.txt"], ["x", "--cover", "x/notes.txt"]),
        (["x/a.jpg"], ["x", "--cover", "missing.png"]),
        (["x/a.jpg"], ["x", "--style", "blur", "--text", "SOLD"]),
    ],
)
def test_usage_errors_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        put(Path(name))
    before = {name: Path(name).read_bytes() for name in tree(Path())}
    with pytest.raises(UsageError):
        hide(*arguments, "-o", "out")
    assert {name: Path(name).read_bytes() for name in tree(Path())} == before
    assert Path("out").exists() == any(name.startswith("out/") for name in names)


@pytest.mark.parametrize("value", ["0", "-0.1", "1.01", "nan", "inf", "high", ""])
def test_bad_conf(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "a.jpg")
    with pytest.raises(SystemExit) as ended:
        main(["hide", str(tmp_path), "-o", str(tmp_path / "out"), f"--conf={value}"])
    assert ended.value.code == 2
    assert "--conf" in capsys.readouterr().err


def test_exit_code_2_and_a_line_from_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hide", str(tmp_path / "gone.jpg"), "-o", str(tmp_path / "out")]) == 2
    assert "gone.jpg" in capsys.readouterr().err
    put(tmp_path / "a.jpg")
    arguments = ["hide", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--model", "no-such-model"]) == 2
    (tmp_path / "file").write_text("")
    assert main(["hide", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "file/out")]) == 2
    assert main(["hide", str(tmp_path / "a.jpg")]) == 2
    assert not (tmp_path / "out").exists()


def test_rerun_skips_finished_photos_and_retries_failed_ones(tmp_path: Path) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    put(source / "a.jpg")
    put(source / "b.jpg", "none")
    put(source / "bad.jpg", "doubt")
    assert hide(source, "-o", out, "--report", report) == 1
    first = rows(report)
    stamps = {name: (out / name).stat().st_mtime_ns for name in ("a.jpg", "b.jpg")}
    put(source / "bad.jpg")
    put(source / "new.jpg")
    assert hide(source, "-o", out, "--report", report) == 0
    second = rows(report)
    assert {k: v["status"] for k, v in second.items()} == {
        "a.jpg": "hidden",
        "b.jpg": "none",
        "bad.jpg": "hidden",
        "new.jpg": "hidden",
    }
    assert second["a.jpg"] == first["a.jpg"]
    assert second["b.jpg"] == first["b.jpg"]
    assert stamps == {name: (out / name).stat().st_mtime_ns for name in stamps}
    (out / "a.jpg").unlink()  # a row without its output is not finished
    assert hide(source, "-o", out, "--report", report) == 0
    assert (out / "a.jpg").exists()
    assert len(rows(report)) == 4
    assert hide(source, "-o", out, "--report", report, "--overwrite") == 0
    assert (out / "b.jpg").stat().st_mtime_ns != stamps["b.jpg"]
    assert len(rows(report)) == 4


def test_a_copy_of_the_input_in_the_output_folder_is_not_taken_for_finished(tmp_path: Path) -> None:
    photo = put(tmp_path / "in/a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.jpg").write_bytes(photo.read_bytes())
    assert hide(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert not has_magenta((tmp_path / "out/a.jpg").read_bytes())
    stamp = (tmp_path / "out/a.jpg").stat().st_mtime_ns
    assert hide(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert (tmp_path / "out/a.jpg").stat().st_mtime_ns == stamp


def test_an_old_output_of_a_photo_that_now_fails_is_removed(tmp_path: Path) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    put(source / "a.jpg")
    assert hide(source, "-o", out, "--report", report) == 0
    put(source / "a.jpg", "doubt")
    assert hide(source, "-o", out, "--report", report, "--overwrite") == 1
    assert tree(out) == []
    assert rows(report)["a.jpg"]["status"] == "unsure"


def test_rows_of_photos_that_were_not_asked_for_stay(tmp_path: Path) -> None:
    put(tmp_path / "x/a.jpg")
    put(tmp_path / "y/b.jpg")
    report = tmp_path / "r.jsonl"
    assert hide(tmp_path / "x", "-o", tmp_path / "out", "--report", report) == 0
    assert hide(tmp_path / "y", "-o", tmp_path / "out", "--report", report) == 0
    assert sorted(rows(report)) == ["a.jpg", "b.jpg"]


def test_a_torn_last_line_is_dropped_and_its_photo_redone(tmp_path: Path) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    put(source / "a.jpg")
    put(source / "b.jpg")
    assert hide(source, "-o", out, "--report", report) == 0
    report.write_bytes(report.read_bytes()[:-30])
    assert hide(source, "-o", out, "--report", report) == 0
    assert sorted(rows(report)) == ["a.jpg", "b.jpg"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    put(tmp_path / "in/a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.platehide-999999999-0.part").write_bytes(b"half")
    assert hide(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == ["a.jpg"]


def test_several_processes_and_one_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    for n in range(12):
        put(source / f"{n:02}.jpg", seed=n)
    put(source / "05x.jpg", size=KILL_SIZE)
    arguments = parse(source, "-o", out, "--report", report, "--workers", 2)
    assert command.hide(arguments, make_fake) == 1
    found = rows(report)
    assert len(found) == 13
    assert [n for n, r in found.items() if r["status"] != "hidden"] == ["05x.jpg"]
    assert found["05x.jpg"]["code"] == "worker_died"
    assert "SIGKILL" in found["05x.jpg"]["error"]
    assert len(tree(out)) == 12
    said = capsys.readouterr().err
    assert "05x.jpg" in said
    assert "photos/s" in said
    assert "ETA" in said


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_whole_files_and_a_valid_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    source, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    hold = tmp_path / "hold"
    hold.touch()
    monkeypatch.setenv(HOLD, str(hold))
    for n in range(40):
        put(source / f"{n:02}.jpg", seed=n)
    arguments = ("-q", source, "-o", out, "--report", report, "--workers", workers)

    over = threading.Event()

    def interrupt() -> None:
        end = time.monotonic() + 240
        while len(tree(out)) < 2 and time.monotonic() < end:
            if over.wait(0.02):
                return  # it has ended by itself: the signal would end the tests
        os.kill(os.getpid(), 2)
        hold.unlink()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        assert command.hide(parse(*arguments), make_fake) == 130
    finally:
        over.set()
        thread.join()
    found = rows(report)
    assert 2 <= len(found) < 40
    assert sorted(found) == tree(out)
    for name in found:
        assert not has_magenta((out / name).read_bytes())


def test_results_larger_than_a_pipe_do_not_block(tmp_path: Path) -> None:
    """Tasks and results of several times what a pipe holds, in both directions at once."""
    from platehide.work import Pool

    with Pool(_Echo, 1) as pool:
        events = list(pool.run(bytes([n]) * 1_000_000 for n in range(6)))
    assert [len(e.value) for e in events if e.kind == "item"] == [250_000] * 24


@pytest.mark.parametrize("columns", [0, 80])
def test_the_bar_on_a_terminal_of_any_width(tmp_path: Path, columns: int) -> None:
    put(tmp_path / "in/a.jpg")
    (tmp_path / "in/bad.jpg").write_text("no photo")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    with os.fdopen(slave, "w") as terminal, Progress(2, stream=terminal) as progress:
        progress.note("hidden 50% none 50%")
        progress.advance()
        progress.line("bad.jpg: error")
        progress.note("hidden 67% none 33% unsure 0% error 0%, waiting to read 3% write 12%")
        progress.advance()
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while data := os.read(master, 4096):
            shown += data
    os.close(master)
    assert b"2/2" in shown
    assert b"ETA" in shown
    assert b"photos/s" in shown
    assert b"bad.jpg: error" in shown
    assert b"write 12%" in shown


class _Echo:
    model = "echo@1"

    def work(self, task: bytes, begin: Any) -> Any:
        begin(0)
        for n in range(4):
            yield task[n::4]


@pytest.mark.timeout(900)
def test_ctrl_c_while_the_workers_start_is_quiet(tmp_path: Path) -> None:
    """The signal goes to the whole group, as from a terminal."""
    for n in range(8):
        put(tmp_path / f"in/{n}.jpg", seed=n)
    code = (
        "import os, signal, sys\n"
        "from platehide import work\n"
        "start = work.Pool._spawn\n"
        "def spawn(self):\n"
        "    start(self)\n"
        "    os.killpg(os.getpgid(0), signal.SIGINT) if len(self._workers) == 2 else None\n"
        "work.Pool._spawn = spawn\n"
        "from platehide.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["hide", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "8 photos left" in done.stderr


class _Stream:
    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(("kind", "code"), [("plate", 0), ("none", 0), ("doubt", 1), ("text", 1)])
def test_standard_input_to_standard_output(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    code: int,
) -> None:
    data = b"hello" if kind == "text" else photo_bytes(kind)
    written = _Stream()
    monkeypatch.setattr(sys, "stdin", _Stream(data))
    monkeypatch.setattr(sys, "stdout", written)
    report = tmp_path / "r.jsonl"
    assert hide("-", "--report", report) == code
    answer = written.buffer.getvalue()
    assert bool(answer) == (code == 0)
    if answer:
        assert not has_magenta(answer)
    row = json.loads(report.read_text())
    assert row["image"] == "-"
    assert row["output"] == (None if code else "-")
    assert ("-:" in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize("output", ["-", "elsewhere"])
def test_an_output_folder_for_standard_input_is_said_to_be_unused(
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    written = _Stream()
    monkeypatch.setattr(sys, "stdin", _Stream(photo_bytes("plate")))
    monkeypatch.setattr(sys, "stdout", written)
    assert hide("-", "-o", output) == 0
    assert written.buffer.getvalue()
    assert ("-o elsewhere is not used" in capsys.readouterr().err) == (output == "elsewhere")
    assert tree(tmp_path) == []


def test_a_full_disk_under_the_report_ends_the_run_with_whole_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from platehide import report_file
    from platehide.errors import PlateHideError

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.rows = file, 0

        def write(self, data: bytes) -> int:
            self.rows += 1
            if self.rows > 2:
                self.file.write(data[:10])
                raise OSError(28, "No space left on device")
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    for n in range(5):
        put(tmp_path / f"in/{n}.jpg")
    original = report_file.ReportFile.__init__

    def patched(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._file = Full(self._file)

    monkeypatch.setattr(report_file.ReportFile, "__init__", patched)
    report = tmp_path / "r.jsonl"
    with pytest.raises(PlateHideError, match="No space left"):
        hide(tmp_path / "in", "-o", tmp_path / "out", "--report", report)
    assert len(rows(report)) == 2
    monkeypatch.undo()
    assert hide(tmp_path / "in", "-o", tmp_path / "out", "--report", report) == 0
    assert len(rows(report)) == 5


def test_two_runs_on_one_report_are_refused(tmp_path: Path) -> None:
    from platehide.report_file import ReportFile

    put(tmp_path / "in/a.jpg")
    report = tmp_path / "r.jsonl"
    with (
        contextlib.closing(ReportFile(report, lambda key, line: True)),
        pytest.raises(UsageError, match="another run"),
    ):
        hide(tmp_path / "in", "-o", tmp_path / "out", "--report", report)
