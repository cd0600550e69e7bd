from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from platehide.errors import UsageError, WeightsError
from platehide.model_spec import ModelSpec, Thresholds, read_spec
from platehide.weights import list_models, load_weights, resolve, weights_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, version in (("a", "0.9.0"), ("a", "0.10.0"), ("b", "1.0.0")):
        folder = tmp_path / name / version
        folder.mkdir(parents=True)
        data = f"{name}{version}".encode()
        (folder / "model.onnx").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        spec = ModelSpec(name, version, "dense", 512, {"model.onnx": digest}, Thresholds(0.4))
        (folder / "spec.json").write_text(spec.to_json())
    (tmp_path / "CURRENT").write_text("b@1.0.0\n")
    monkeypatch.setenv("PLATEHIDE_WEIGHTS", str(tmp_path))
    return tmp_path


def test_current_name_newest_version_and_path(root: Path) -> None:
    assert resolve(None) == root / "b/1.0.0"
    assert resolve("a") == root / "a/0.10.0"
    assert resolve("a@0.9.0") == root / "a/0.9.0"
    assert resolve(str(root / "a/0.9.0")) == root / "a/0.9.0"
    assert list_models() == ["a@0.10.0", "a@0.9.0", "b@1.0.0"]


@pytest.mark.parametrize("name", ["c", "a@7", "", "./nowhere", "a@"])
def test_unknown_models_are_usage_errors(root: Path, name: str) -> None:
    if name == "a@":
        assert resolve(name) == root / "a/0.10.0"
        return
    with pytest.raises(UsageError):
        resolve(name)


def test_no_weights_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATEHIDE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="no weights found"):
        weights_root()


def test_current_that_names_nothing(root: Path) -> None:
    (root / "CURRENT").write_text("b@2.0.0")
    with pytest.raises(WeightsError, match="not there"):
        resolve(None)


def test_a_changed_byte_is_refused(root: Path) -> None:
    weights = load_weights("b")
    assert weights.read("model.onnx") == b"b1.0.0"
    (root / "b/1.0.0/model.onnx").write_bytes(b"b1.0.1")
    with pytest.raises(WeightsError, match="sha256"):
        weights.read("model.onnx")


def test_an_lfs_pointer_is_refused(root: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    (root / "b/1.0.0/model.onnx").write_bytes(pointer)
    with pytest.raises(WeightsError, match="LFS pointer"):
        load_weights("b").read("model.onnx")


def test_spec_round_trip(root: Path) -> None:
    path = root / "b/1.0.0/spec.json"
    spec = read_spec(path)
    assert spec.model == "b@1.0.0"
    path.write_text(spec.to_json())
    assert read_spec(path) == spec


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 99}, "format 99"),
        ({"kind": "magic"}, "unknown kind"),
        ({"surprise": 1}, "unknown field surprise"),
        ({"sha256": {}}, "lacks model.onnx"),
        ({"thresholds": {"hide": 2.0}}, "thresholds"),
        ({"thresholds": {"hid": 0.4}}, "TypeError"),
        (
            {"refiner": {"file": "r.onnx", "size_wh": [1, 1], "margin": 0.1, "passes": 1}},
            "lacks r.onnx",
        ),
    ],
)
def test_specs_that_do_not_fit(root: Path, change: dict[str, object], reason: str) -> None:
    path = root / "b/1.0.0/spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=reason):
        read_spec(path)
