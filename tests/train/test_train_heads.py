"""Upright boxes, rotated boxes and matrices as alternatives to corners: each trains, exports, and
is evaluated by the same commands on the same data.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import torch
from rendered import write_set

from platehide.cli import main
from platehide.errors import UsageError
from platehide.evaluate.shapes import quad_of_matrix, quad_of_rotated
from platehide.train.config import from_dict
from platehide.train.models.box import BoxCorners
from platehide.train.models.matrix import MatrixCorners
from platehide.train.models.rotated import RotatedCorners
from platehide.train.tasks import build_task

pytestmark = pytest.mark.timeout(1200)  # a loaded machine is no reason to fail

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEADS = ("box", "rotated", "matrix")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("scenes") / "rendered", scenes=3)


def corners(module: torch.nn.Module, numbers: list[float]) -> np.ndarray:
    given = torch.tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)
    return np.asarray(module(given).view(4, 2).numpy(), dtype=np.float64)


def test_decoded_shapes_are_those_that_files_of_predictions_mean() -> None:
    assert corners(BoxCorners(), [1, 2, 3, 4]).tolist() == [[-1, -2], [3, -2], [3, 4], [-1, 4]]
    rotated = corners(RotatedCorners(), [5, 6, 4, 2, np.radians(30)])
    assert np.allclose(rotated, quad_of_rotated([5, 6, 4, 2, 30]), atol=1e-5)
    matrix = [4.0, 0.5, 1.0, 0.2, 2.0, 3.0, 0.1, -0.2]
    assert np.allclose(corners(MatrixCorners(), matrix), quad_of_matrix(matrix), atol=1e-5)
    far = corners(MatrixCorners(), [4.0, 0, 0, 0, 2.0, 0, 9.0, 9.0])
    assert np.isfinite(far).all()


@pytest.mark.parametrize("head", HEADS)
def test_a_few_steps_lower_the_corner_loss(head: str, data: Path) -> None:
    """One batch over and over: the head's numbers reach the loss, and it goes down."""
    from platehide.evaluate.dataset import load_records

    values = {"name": head, "task": "dense", "network": head, "pretrained": "none"}
    torch.manual_seed(0)
    task = build_task(from_dict(values | {"input_size": 96}, "test"))
    dataset = task.dataset(load_records(data, "train"), 8)
    batch = [dataset[i] for i in range(8)]
    images, targets = task.collate([p for p in batch if len(p.quads)][:3])
    head_parameters = [p for n, p in task.model.named_parameters() if n.startswith("offset.")]
    assert (
        sum(p.numel() for p in head_parameters) == 97 * {"box": 4, "rotated": 5, "matrix": 8}[head]
    )
    optimizer = torch.optim.Adam(head_parameters, lr=3e-3)
    task.model.eval()
    seen = []
    for step in range(8):
        loss = task.loss(task.model, images, targets, step)["corner"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(float(loss.detach()))
    assert np.isfinite(seen).all()
    assert seen[-1] < seen[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("head", HEADS)
def test_train_export_and_evaluate(
    head: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = {"steps": 2, "batch_size": 1, "workers": 0, "bf16": False, "input_size": 64}
    settings |= {"validate_every": 0, "threads": 1}
    pairs = [x for k, v in settings.items() for x in ("--set", f"{k}={json.dumps(v)}")]
    train = ["train", str(CONFIGS / f"{head}-lite0.yaml"), "--pretrained", "none", *pairs]
    assert main([*train, "--data", str(data), "--run", str(run), "--quiet"]) == 0
    export = ["export", str(run), "--out", str(tmp_path), "--data", str(data), "--quiet"]
    assert main([*export, "--input-size", "96"]) == 0
    folder = tmp_path / f"{head}-lite0" / "0.1.0"
    capsys.readouterr()
    evaluate = ["evaluate", "--model", str(folder), "--data", str(data), "--crops", "0"]
    assert main([*evaluate, "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == f"{head}-lite0@0.1.0"
    assert result["all"]["photos"] == 4
    assert result["all"]["ms_p50"] > 0
    assert result["all"]["memory_mib"] > 20
    if head != "box":
        return
    for wrong, reason in (
        (["--name", "../up"], "--name '../up'"),
        (["--version", "../../up"], "--version '../../up'"),
        (["--passes", "0"], "expected 1 to 8"),
        (["--input-size", "0"], "expected 32 to 4096"),
        (["--margin-of-doubt", "5"], "expected 0 to 1"),
        (["--refiner", str(run)], "not a refiner's run"),
    ):
        assert main([*export, *wrong]) == 2
        assert reason in capsys.readouterr().err
    # The run folder itself is measured too, and compared with weights and the published network.
    both = ["compare", str(run), str(folder), "--data", str(data), "--split", "val", "--quiet"]
    assert main([*both, "--svg", str(tmp_path / "p.svg")]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[1:4] == ["box-lite0@step2", "box-lite0@0.1.0", "two-head-resnet18@0.1.0"]
    assert main(["compare", str(run), "--svg", str(tmp_path / "q.svg")]) == 2
    assert "needs --data" in capsys.readouterr().err
    assert main([*evaluate[:2], str(tmp_path / "nothing"), *evaluate[3:]]) == 2
    capsys.readouterr()


def test_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"name": "x", "task": "dense", "pretrained": "none"}
    source = "from platehide.train.models.box import BoxNet as MyNet\n"
    (tmp_path / "net_of_ones_own.py").write_text(source)
    monkeypatch.chdir(tmp_path)  # one model file beside the config is enough
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    here = build_task(from_dict(values | {"network": "net_of_ones_own:MyNet"}, "test")).model
    assert type(here).__name__ == "BoxNet"
    own = "platehide.train.models.rotated:RotatedBoxNet"
    model = build_task(from_dict(values | {"network": own}, "test")).model
    assert type(model).__name__ == "RotatedBoxNet"
    for wrong in ("magic", "platehide.train:Nothing", "no_such_module:X"):
        with pytest.raises(UsageError, match="network"):
            build_task(from_dict(values | {"network": wrong}, "test"))
