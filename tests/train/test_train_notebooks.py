"""The notebooks import the package, define nothing, carry no outputs, and run on tiny data."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")
pytest.importorskip("nbclient", reason="needs nbclient (extra dev)")
pytest.importorskip("ipykernel", reason="needs ipykernel (extra dev)")

from rendered import write_set

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
LIMIT_S = 900
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(book)
place = {"metadata": {"path": sys.argv[3]}}
NotebookClient(book, timeout=int(sys.argv[2]), resources=place).execute()
nbformat.write(book, sys.argv[4])
"""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def test_there_are_three() -> None:
    assert [p.stem for p in NOTEBOOKS] == ["1_data", "2_train", "3_errors"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_they_define_nothing_and_carry_no_outputs(path: Path) -> None:
    code = [c for c in cells(path) if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    tree = ast.parse("\n".join("".join(c["source"]) for c in code))
    assert not [n for n in ast.walk(tree) if isinstance(n, DEFINITIONS)]
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    assert any(m.startswith("platehide.") for m in imported)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("scenes") / "rendered", scenes=3)


@pytest.mark.timeout(LIMIT_S + 300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_they_run(path: Path, data: Path, tmp_path: Path) -> None:
    done = tmp_path / "done.ipynb"
    settings = {
        "PLATEHIDE_PHOTOS": str(data),
        "PLATEHIDE_RUNS": str(tmp_path / "runs"),
        "PLATEHIDE_STEPS": "2",
        "PLATEHIDE_PHOTOS_AT_MOST": "4",
        "OMP_NUM_THREADS": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(LIMIT_S), str(path.parent), str(done)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    outputs = [o for c in cells(done) if c["cell_type"] == "code" for o in c["outputs"]]
    assert any(o["output_type"] == "stream" for o in outputs)
    assert not [o for o in outputs if o["output_type"] == "error"]
