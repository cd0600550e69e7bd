"""A training that was interrupted goes on as if it had not been; what cannot go on says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import torch
from rendered import write_set
from torch import nn

from platehide.cli import main
from platehide.errors import PlateHideError, UsageError
from platehide.train import loop
from platehide.train.config import TrainConfig, load_config
from platehide.train.loop import train

pytestmark = pytest.mark.timeout(1200)  # a loaded machine is no reason to fail

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("scenes") / "rendered", scenes=2)


def config(**changes: object) -> TrainConfig:
    values = {"pretrained": "none", "steps": "4", "batch_size": "2", "input_size": "64"}
    values |= {"workers": "0", "threads": "1", "bf16": "false", "validate_every": "2"}
    return replace(load_config(CONFIGS / "dense-lite0.yaml", values), **changes)  # type: ignore[arg-type]


def power_cut(at_look: int) -> Callable[[nn.Module, TrainConfig], dict[str, float]]:
    """A look at ``val`` that is interrupted the given time."""
    looks = iter(range(1, 99))

    def look(_: nn.Module, __: TrainConfig) -> dict[str, float]:
        if next(looks) == at_look:
            raise KeyboardInterrupt
        return {"score": 0.5}

    return look


def steps_reported(folder: Path) -> list[int]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r["step"] for r in rows if "val" not in r]


def test_interrupted_and_resumed_is_the_same_training(data: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config(), whole, data=[data], quiet=True, validator=power_cut(9))
    with pytest.raises(KeyboardInterrupt):
        train(config(), cut, data=[data], quiet=True, validator=power_cut(2))
    assert torch.load(cut / "last.pt", weights_only=True)["step"] == 2
    with (cut / "metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "tot')  # the row that was being written
    train(config(), cut, resume=True, data=[data], quiet=True, validator=power_cut(9))
    one, other = (torch.load(f / "last.pt", weights_only=True) for f in (whole, cut))
    assert one["step"] == other["step"] == 4
    for key, tensor in one["raw"].items():
        assert torch.allclose(tensor, other["raw"][key], rtol=1e-4, atol=1e-6), key
    assert steps_reported(whole) == steps_reported(cut) == [4]


def test_another_seed_is_another_training(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        train(config(steps=1, seed=seed), tmp_path / name, data=[data], quiet=True)
    one, other = (torch.load(tmp_path / n / "last.pt", weights_only=True) for n in "ab")
    assert any(not torch.equal(t, other["raw"][k]) for k, t in one["raw"].items())
    # No look at val was asked for: that is not minus infinity, which is not JSON.
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["best"] is None


def test_before_the_first_checkpoint_it_begins_anew(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(config(steps=2), run, data=[data], quiet=True, validator=power_cut(1))
    assert not (run / "last.pt").exists()
    with pytest.raises(UsageError, match="--resume goes on"):
        train(config(steps=2), run, data=[data], quiet=True)
    train(config(steps=2), run, resume=True, data=[data], quiet=True)
    assert steps_reported(run) == [2]


def test_long_stretches_without_a_look_are_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", data=[data], quiet=True, validator=power_cut(1))
    last = tmp_path / "run" / "last.pt"
    assert torch.load(last, weights_only=True)["step"] == 1
    with pytest.raises(UsageError, match=r"another config \(lr_head was .*; seed was 0, is 5\)"):
        changed = config(seed=5, lr_head=1.0, validate_every=1)
        train(changed, last.parent, resume=True, data=[data], quiet=True)
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"last\.pt: not a checkpoint, or a damaged one"):
        train(config(), last.parent, resume=True, data=[data], quiet=True)
    torch.save({"model": {}}, last)
    with pytest.raises(UsageError, match="not a checkpoint of ours, it has no raw"):
        train(config(), last.parent, resume=True, data=[data], quiet=True)


def test_photos_that_are_missing_or_teach_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_set(tmp_path / "s", scenes=1)
    capsys.readouterr()
    run = tmp_path / "run"
    command = ["train", str(CONFIGS / "dense-lite0.yaml"), "--run", str(run), "--quiet", "--data"]
    lines = (root / "annotations.jsonl").read_text().splitlines()
    empty = [json.dumps(json.loads(line) | {"plates": []}) for line in lines]
    (root / "annotations.jsonl").write_text("\n".join(empty) + "\n")
    assert main([*command, str(root)]) == 2
    said = capsys.readouterr().err
    assert "no photo with a plate in split train" in said
    assert "are photos of train, byte for byte" in said  # the same pictures in train and val
    (root / "annotations.jsonl").write_text("\n".join(lines) + "\n")
    (root / "images" / "empty.png").unlink()
    assert main([*command, str(root)]) == 2
    assert "empty.png: named in the annotations and not there" in capsys.readouterr().err
    assert not run.exists()


def test_a_loss_that_is_no_number_ends_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PlateHideError, match="the loss is not finite at step") as error:
        train(config(lr_head=1e30, lr_backbone=1e30), tmp_path / "r", data=[data], quiet=True)
    assert error.value.code == "diverged"
