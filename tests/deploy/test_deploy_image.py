"""What the image installs: the wheel that is built from this checkout, and only that."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from deploy_tools import DEPLOY, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean; needs the build backend's package."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("src", "weights"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.onnx")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_carries_everything(wheel: Path) -> None:
    """Every module, every asset, every static file; nothing else."""
    package = ROOT / "src" / "platehide"
    wanted = {
        f"platehide/{p.relative_to(package).as_posix()}"
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.suffix not in {".c", ".h", ".so"}
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert wanted - names == set()
    extra = {n for n in names - wanted if not n.startswith("platehide/_weights/")}
    # The compiled JPEG editor is optional: a machine without a compiler makes a wheel without it.
    assert {n for n in extra if not n.startswith("platehide/jpeg/_native.")} == set()
    weights = {
        f"platehide/_weights/{p.relative_to(ROOT / 'weights').as_posix()}"
        for p in (ROOT / "weights").rglob("*")
        if p.is_file() and p.suffix != ".onnx"
    }
    assert weights - names == set()


def test_requirements_of_the_image(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\ndependencies = ["a>=1"]\n'
        '[project.optional-dependencies]\nserve = ["b", "c<2"]\nheif = ["d"]\n',
        encoding="utf-8",
    )

    def call(*extras: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(DEPLOY / "requirements.py"), str(pyproject), *extras],
            capture_output=True,
            text=True,
            check=False,
        )

    assert call().stdout.split() == ["a>=1"]
    assert call("heif", "serve").stdout.split() == ["a>=1", "d", "b", "c<2"]
    assert call("none").returncode != 0
