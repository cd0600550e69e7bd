"""Released weights are trained on and judged: ``platehide train --from``, the gate's checks of the
files against torch, and what a run folder shows. Networks are random and small; what is tested is
the way, not the figures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import onnx
import torch
from onnx import numpy_helper
from rendered import write_set

from platehide.cli import main
from platehide.errors import UsageError, WeightsError
from platehide.evaluate.dataset import load_records
from platehide.model_spec import read_spec
from platehide.train.calibrate import Evidence, reliability, reliability_svg
from platehide.train.config import load_config
from platehide.train.exporter import Checkpoint, half_storage, load_state, state_digest, to_onnx
from platehide.train.finetune import Order, finetune, gentle, install, next_version, overridden
from platehide.train.release import Parts, Serving, release
from platehide.train.restore import check_against_torch, restore
from platehide.train.tasks import build_task
from platehide.weights import Weights, resolve

pytestmark = pytest.mark.timeout(1200)  # a loaded machine is no reason to fail

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LOOSE = {"least": {"recall50": 0.0}, "most": {"leak_ge32": 1.0}, "time_ratio_p95": 1e6}


def network(name: str, **changes: Any) -> Checkpoint:
    """A random network of a committed config, nothing about it trivial."""
    torch.manual_seed(3)
    values = {"pretrained": "none", "pseudo_quads": '""', "hard_negatives": '""'}
    config = replace(load_config(CONFIGS / f"{name}.yaml", values), **changes)
    model = build_task(config).model.eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("running_mean", "running_var", "bias")):
                tensor.add_(0.05 * torch.rand_like(tensor))
    return Checkpoint(config, model, 7)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("scenes") / "rendered")


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights as it is released: dense network and refiner, evaluated."""
    small = {"input_size": 64, "batch_size": 2, "workers": 0, "bf16": False, "threads": 1}
    parts = Parts(network("dense-lite0", **small), network("refiner", **small), "d" * 64, "c" * 40)
    _, folder = release(
        parts,
        out=tmp_path_factory.mktemp("weights"),
        data=[data],
        name="tiny",
        version="0.1.0",
        serving=Serving(input_size=96, coarse_size=0, passes=1),
        quiet=True,
    )
    evaluate(folder, data)
    return folder


def evaluate(folder: Path, data: Path) -> None:
    out = folder / "val.json"
    command = ["evaluate", "--model", str(folder), "--data", str(data), "--out", str(out)]
    assert main([*command, "--crops", "4", "--quiet"]) == 0
    (folder / "evaluation.json").write_text(json.dumps({"val": json.loads(out.read_text())}))
    out.unlink()


@pytest.fixture
def floors(tmp_path: Path) -> Path:
    path = tmp_path / "floors.json"
    path.write_text(json.dumps(LOOSE))
    return path


def weights_of(folder: Path) -> Weights:
    return Weights(folder, read_spec(folder / "spec.json"))


@pytest.mark.parametrize("name", ["dense-lite0", "refiner", "two-head-resnet18", "two-head-lite0"])
def test_an_exported_file_carries_the_network(name: str) -> None:
    saved = network(name, input_size=64)
    data = half_storage(to_onnx(saved))
    again = build_task(saved.config).model.eval()
    load_state(again, data, name)
    width, height = (224, 80) if name == "refiner" else (64, 64)
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8))
    with torch.no_grad():
        for a, b in zip(saved.model(picture), again(picture), strict=True):
            assert float((a - b).abs().max()) < 0.02 * float(a.abs().max())  # float16 storage
    assert state_digest(data) == state_digest(data)
    with pytest.raises(WeightsError, match="carries no state"):
        load_state(build_task(network("dense-resnet18").config).model, data, name)


def test_released_networks_come_back(base: Path, data: Path) -> None:
    found = restore(weights_of(base))
    assert found.main.config.task == "dense"
    assert found.refiner is not None
    assert check_against_torch(weights_of(base), load_records(data, "val")) == []


def tampered(base: Path, to: Path, change: Any) -> Path:
    """A copy whose model.onnx was changed and whose spec has the changed file's digest."""
    shutil.copytree(base, to)
    model = onnx.load(str(to / "model.onnx"))
    change(model.graph)
    changed = model.SerializeToString()
    (to / "model.onnx").write_bytes(changed)
    spec = json.loads((to / "spec.json").read_text())
    spec["sha256"]["model.onnx"] = hashlib.sha256(changed).hexdigest()
    (to / "spec.json").write_text(json.dumps(spec))
    return to


def nudge_weights(graph: Any) -> None:
    for index, item in enumerate(graph.initializer):
        if item.name == "logit.bias":
            value = numpy_helper.to_array(item) + np.float32(0.1)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(value, item.name))
            return
    raise AssertionError("no logit.bias")


def change_arithmetic(graph: Any) -> None:
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "logits.before"
    graph.node.append(onnx.helper.make_node("Neg", ["logits.before"], ["logits"]))


def test_onnx_that_is_not_the_trained_network_is_refused(
    base: Path,
    data: Path,
    tmp_path: Path,
    floors: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = load_records(data, "val")
    other = tampered(base, tmp_path / "a" / "0.1.0", nudge_weights)
    reasons = check_against_torch(weights_of(other), records)
    assert reasons == ["model.onnx: its weights are not those that were exported"]
    folder = tampered(base, tmp_path / "tiny" / "0.1.0", change_arithmetic)
    gate = ["gate", str(folder), "--no-baseline", "--data", str(data), "--floors", str(floors)]
    capsys.readouterr()
    assert main([*gate, "--crops", "0", "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "refused: model.onnx: ONNX differs from torch by" in out


def test_the_gate_passes_what_is_sound_and_refuses_other_figures(
    base: Path, data: Path, tmp_path: Path, floors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["gate", str(base), "--no-baseline", "--data", str(data), "--floors", str(floors)]
    gate += ["--crops", "4", "--quiet"]
    assert main(gate) == 0, capsys.readouterr().out
    strict = tmp_path / "strict.json"
    strict.write_text(json.dumps(LOOSE | {"least": {"recall50": 1.01, "beauty": 0.5}}))
    capsys.readouterr()
    assert main([*gate[:-4], str(strict), *gate[-3:], "--json"]) == 1
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert any("below its floor" in r for r in reasons)
    assert "beauty was not measured" in reasons


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fine_tuning_ends_in_the_gate(
    base: Path, data: Path, tmp_path: Path, floors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (resolve(None) / "spec.json").read_bytes()
    current = resolve(None)
    run = tmp_path / "run"
    command = [
        "train", "--from", str(base), "--data", str(data), "--run", str(run), "--quiet",
        "--set", "steps=2", "--set", "validate_every=0", "--set", "refiner.steps=2",
        "--set", "refiner.batch_size=1", "--floors", str(floors), "--crops", "4",
    ]  # fmt: skip
    code = main(command)
    out = capsys.readouterr().out
    folder = run / "weights" / "tiny" / "0.1.1"
    assert str(folder) in out
    refused = [line for line in out.splitlines() if line.startswith("refused: ")]
    assert code == (1 if refused else 0)
    assert all("errors" not in r and "torch" not in r for r in refused), refused
    assert {p.name for p in folder.iterdir()} == {
        "model.onnx", "refiner.onnx", "spec.json", "MODEL_CARD.md", "evaluation.json",
        "reliability.svg",
    }  # fmt: skip
    assert not list(run.rglob("*.part"))
    spec = read_spec(folder / "spec.json")
    assert spec.notes["from"] == "tiny@0.1.0"
    assert spec.input_size == 96
    assert spec.notes["config"]["steps"] == 2
    card = (folder / "MODEL_CARD.md").read_text()
    assert "fine-tuned from tiny@0.1.0" in card
    assert "| rendered | 5 |" in card
    assert "own rendering" in card
    old, new = restore(weights_of(base)).main, restore(weights_of(folder)).main
    moved = [
        float((a - b).detach().abs().max())
        for a, b in zip(old.model.parameters(), new.model.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.5  # it went on from the released weights, gently
    assert resolve(None) == current
    assert (current / "spec.json").read_bytes() == before
    for stage in ("main", "refiner"):
        shown = {p.name for p in (run / stage).iterdir()}
        assert shown >= {"curves.png", "errors.html", "errors.png", "tensorboard", "samples.png"}
    assert main(command) == 2  # the run folder is taken
    assert "--resume" in capsys.readouterr().err
    order = Order((data,), (data,), run, "0.1.1", {"steps": "2"}, resume=True, quiet=True)
    written = (folder / "model.onnx").stat().st_mtime_ns
    assert finetune(weights_of(base), order) == folder  # what is finished is not done again
    assert (folder / "model.onnx").stat().st_mtime_ns == written


def test_a_report_on_demand(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--set", "steps=2", "--set", "batch_size=1", "--set", "workers=0", "--set"]
    run = tmp_path / "run"
    train = [
        "train", str(CONFIGS / "two-head-lite0.yaml"), "--data", str(data), "--run", str(run),
        "--pretrained", "none", *config, "input_size=64", "--set", "bf16=false", "--quiet",
    ]  # fmt: skip
    assert main(train) == 0
    for name in ("curves.png", "errors.png", "errors.html"):
        (run / name).unlink()
    capsys.readouterr()
    assert main(["train", "--report", str(run), "--data", str(data), "--quiet"]) == 0
    assert capsys.readouterr().out.split() == [
        str(run / n) for n in ("curves.png", "errors.html", "errors.png")
    ]
    sheet = cv2.imread(str(run / "errors.png"))
    assert sheet is not None
    assert sheet.std() > 10
    html = (run / "errors.html").read_text()
    assert html.count("<figure>") == 5
    assert "coverage" in html
    curves = cv2.imread(str(run / "curves.png"))
    assert curves is not None
    assert curves.shape[1] > 600
    assert main(["train", "--report", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected one of"),
        (["x.yaml", "--from", "CURRENT"], "expected one of"),
        (["--from", "CURRENT"], "needs --data"),
        (["x.yaml", "--install"], "--install: only with --from"),
        (["--from", "CURRENT", "--data", "/nowhere"], "no such folder"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_labels_that_cannot_be_used(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--from", str(base), "--quiet", "--run", str(tmp_path / "run"), "--data"]
    no_val = write_set(tmp_path / "a" / "s", splits=("train",), scenes=1)
    assert main([*command, str(no_val)]) == 2
    assert "split val" in capsys.readouterr().err
    lost = write_set(tmp_path / "b" / "s", scenes=1)
    (lost / "images" / "empty.png").unlink()
    assert main([*command, str(lost)]) == 2
    assert "not there" in capsys.readouterr().err
    assert main([*command, str(lost), "--version", "../up"]) == 2
    assert not (tmp_path / "run").exists()


def test_weights_without_their_state_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    def rename(graph: Any) -> None:
        for item in graph.initializer:
            if item.name == "logit.bias":
                item.name = "onnx::Conv_1"
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == "logit.bias":
                    node.input[i] = "onnx::Conv_1"

    folder = tampered(base, tmp_path / "tiny" / "0.1.0", rename)
    with pytest.raises(WeightsError, match=r"carries no state.*logit\.bias"):
        restore(weights_of(folder))


def test_versions_and_gentle_configs(data: Path) -> None:
    assert next_version("0.1.0", []) == "0.1.1"
    assert next_version("0.1.0", ["0.1.1", "0.1.2"]) == "0.1.3"
    assert next_version("0.2.rc", []) == "0.2.rc.1"
    config = network("dense-lite0").config
    tuned = gentle(config, 4000, data)
    assert tuned.steps == 1000
    assert tuned.lr_head < config.lr_head
    assert gentle(config, 3, data).steps == 100
    assert overridden(tuned, {"steps": "5"}).steps == 5
    with pytest.raises(UsageError, match="unknown key stepz"):
        overridden(tuned, {"stepz": "5"})
    with pytest.raises(UsageError, match="stay what they are"):
        overridden(tuned, {"backbone": "resnet18"})


def test_installing_is_whole_and_once(base: Path, tmp_path: Path) -> None:
    root = tmp_path / "weights"
    root.mkdir()
    (root / "CURRENT").write_text("other@1\n")
    target = install(base, root)
    assert (root / "CURRENT").read_text() == "tiny@0.1.0\n"
    assert weights_of(target).spec.model == "tiny@0.1.0"
    with pytest.raises(UsageError, match="there already"):
        install(base, root)


def test_reliability_is_counted_and_drawn(base: Path) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 4000)
    truth = rng.uniform(0, 1, 4000) < confidence  # perfectly calibrated
    table = reliability(confidence, Evidence(np.zeros((4000, 3)), truth, truth, 2))
    assert table["expected_calibration_error"] < 0.03
    assert sum(row["count"] for row in table["bins"]) == 4000
    assert all(row["low"] <= row["share"] <= row["high"] for row in table["bins"])
    overconfident = reliability(confidence, Evidence(np.zeros((4000, 3)), truth & False, truth, 0))
    assert overconfident["expected_calibration_error"] > 0.4
    cheap = {row["hide"]: row["cost"] for row in table["costs"]}
    assert cheap[0.8] > cheap[0.2]  # a leak costs more than a false cover
    picture = reliability_svg(table, "m@1", 0.3)
    assert picture.count("<circle") == 10
    assert "covered from 0.3" in picture
    assert (base / "reliability.svg").read_text().startswith("<svg")
    assert "Decisions, chosen on `val`" in (base / "MODEL_CARD.md").read_text()
