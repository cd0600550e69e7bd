"""Log lines: JSON, each one write that no other process can cut."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from platehide.serve.logs import LINE_BYTES, JsonFormatter, LineHandler


def record(fields: dict[str, object] | None = None, depth: int = 0) -> logging.LogRecord:
    def fail(left: int) -> None:
        if left:
            fail(left - 1)
        raise ValueError("long \n" * (depth * 20) + "the ü reason" + "'\n" * 5)

    error = None
    if depth:
        try:
            fail(depth)
        except ValueError:
            error = sys.exc_info()
    made = logging.LogRecord("platehide.serve", logging.ERROR, "x.py", 1, "happened", (), error)
    made.fields = fields or {}
    return made


@pytest.mark.parametrize(
    ("fields", "depth", "cut"),
    [
        ({"a": 1}, 0, False),
        ({"a": 1}, 2, False),
        ({"a": 1}, 200, True),
        ({"error": "ü" * 5000, "request_id": "r-1"}, 0, True),
        ({"many": ["x" * 100] * 100, "path": Path("/a")}, 300, True),
        ({f"k{i}": "y" * 50 for i in range(500)}, 0, True),
    ],
)
def test_a_line_is_json_and_fits(fields: dict[str, object], depth: int, cut: bool) -> None:
    text = JsonFormatter().format(record(fields, depth))
    assert "\n" not in text
    assert len(text.encode()) < LINE_BYTES
    line = json.loads(text)
    assert (line["event"], line["level"], line.get("cut", False)) == ("happened", "error", cut)
    if depth and len(fields) == 1:  # the inner frames and the reason are what is kept
        assert line["traceback"].rstrip("'\n").endswith("the ü reason")
        assert line["traceback"].startswith("[cut] ...") == cut
        assert not cut or len(text.encode()) > LINE_BYTES - 100
        assert line["a"] == 1
    if "request_id" in fields:
        assert line["request_id"] == "r-1"


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    writes: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data) or real(fd, data))
    with (tmp_path / "log").open("w") as stream:
        LineHandler(stream).emit(record({"a": "b" * 3000}))
    assert len(writes) == 1
    assert (tmp_path / "log").read_bytes() == writes[0]


def test_lines_of_several_processes_do_not_mix() -> None:
    program = (
        "import sys; from platehide.serve.logs import configure_logging, event\n"
        "configure_logging('info')\n"
        "for i in range(300): event('line', who=sys.argv[1], number=i, text='x' * 3500)"
    )
    read, write = os.pipe()
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(i)], stderr=write) for i in range(3)
    ]
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]  # a mixed line is no JSON
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert Counter(line["who"] for line in lines) == {"0": 300, "1": 300, "2": 300}
    assert all(len(line["text"]) == 3500 for line in lines)
