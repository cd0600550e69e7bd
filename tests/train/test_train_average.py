"""The mean of networks that descend from one another."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import torch

from platehide.errors import UsageError
from platehide.train.average import average
from platehide.train.config import TrainConfig
from platehide.train.exporter import load_checkpoint
from platehide.train.tasks import build_task

CONFIG = TrainConfig("x", "dense", pretrained="none", input_size=64)


def checkpoint(folder: Path, value: float, config: TrainConfig = CONFIG) -> Path:
    folder.mkdir()
    state = build_task(config).model.state_dict()
    filled = {k: v * 0 + value if v.dtype.is_floating_point else v for k, v in state.items()}
    payload = {"model": filled, "config": config.to_dict(), "step": int(value)}
    torch.save(payload, folder / "best.pt")
    return folder


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    parts = [checkpoint(tmp_path / str(v), float(v)) for v in (1, 2, 6)]
    average(parts, tmp_path / "mean")
    made = load_checkpoint(tmp_path / "mean")
    weights = [v for v in made.model.state_dict().values() if v.dtype.is_floating_point]
    assert all(torch.equal(w, torch.full_like(w, 3.0)) for w in weights)
    assert (made.step, made.config) == (6, CONFIG)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", 1.0)
    other = TrainConfig("x", "dense", backbone="resnet18", pretrained="none", input_size=64)
    wrong = checkpoint(tmp_path / "wrong", 1.0, other)
    with pytest.raises(UsageError, match="missing or has another shape"):
        average([one, wrong], tmp_path / "out")
    with pytest.raises(UsageError, match="two networks"):
        average([one], tmp_path / "out")
    with pytest.raises(UsageError, match="no checkpoint"):
        average([one, tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="exists already"):
        average([one, one], one)
