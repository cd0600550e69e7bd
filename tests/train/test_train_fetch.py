"""Weights that are missing or damaged are fetched, and only if they are the right ones."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from platehide.errors import UsageError, WeightsError
from platehide.model_spec import read_spec
from platehide.train.fetch import complete, main
from platehide.weights import resolve

ROOT = Path(__file__).resolve().parents[2]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "w"
    shutil.copytree(resolve(None), folder)
    return folder


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    spec = read_spec(resolve(None) / "spec.json")
    root = tmp_path / "mirror"
    shutil.copytree(resolve(None), root / spec.name / spec.version)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", root / spec.name / spec.version
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=30)


def test_whole_weights_need_no_address(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(copy, None) == []
    assert main() == 0
    assert "whole" in capsys.readouterr().out


def test_what_is_missing_or_a_pointer_is_fetched(copy: Path, mirror: tuple[str, Path]) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (copy / "model.onnx").write_text(pointer)
    with pytest.raises(UsageError, match="PLATEHIDE_WEIGHTS_URL"):
        complete(copy, None)
    with pytest.raises(UsageError, match="expected http"):
        complete(copy, "file:///etc")
    assert complete(copy, mirror[0]) == ["model.onnx"]
    assert (copy / "model.onnx").read_bytes() == (mirror[1] / "model.onnx").read_bytes()
    assert complete(copy, None) == []


def test_other_weights_are_refused(copy: Path, mirror: tuple[str, Path]) -> None:
    (copy / "model.onnx").unlink()
    (mirror[1] / "model.onnx").write_bytes(b"not the model")
    with pytest.raises(WeightsError, match="sha256 differs"):
        complete(copy, mirror[0])
    assert not (copy / "model.onnx").exists()
    (mirror[1] / "model.onnx").unlink()
    with pytest.raises(WeightsError, match="404"):
        complete(copy, mirror[0])


@pytest.mark.timeout(1200)
def test_bootstrap_checks_the_weights() -> None:
    pytest.importorskip("ipykernel", reason="needs ipykernel (extra dev)")
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("not the checkout's own environment")
    ran = subprocess.run(
        [str(ROOT / "scripts" / "bootstrap"), "--no-open"],
        capture_output=True, text=True, timeout=1100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "have the spec's sha256" in ran.stdout
