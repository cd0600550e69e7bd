"""The training loop: seeded, resumable, the same for every task, on a GPU or the CPU.

Run folder: ``config.yaml``, ``run.json`` (git commit, data hash, versions), ``metrics.jsonl``
(one row per report), ``last.pt`` (everything a resume needs) and ``best.pt`` (weights with the
best look at ``val``), ``samples.png`` and TensorBoard logs. Curves and the gallery of the worst
photos are drawn afterwards (see ``gallery``).
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from platehide import __version__
from platehide.errors import UsageError
from platehide.evaluate.dataset import data_hash, load_records
from platehide.train.config import TrainConfig
from platehide.train.inspection import write_samples
from platehide.train.tasks import (
    TrainTask,
    build_task,
    freeze_batch_norm,
    move_targets,
    parameter_groups,
)

Validator = Callable[[nn.Module, TrainConfig], dict[str, float]]
"""Takes the averaged model in eval mode; higher ``score`` is better."""

REPORT_EVERY = 50


def git_commit() -> str:
    """The commit of the working directory, with ``+dirty`` where it was changed; else unknown."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+dirty" if dirty else "")


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine down to 1 %."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * max(0.01, 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / config.steps))))


class AveragedState:
    """Exponential moving average of a model's state (floats averaged, counters copied)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in _state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Blend in the current weights; young runs average over less."""
        decay = min(self.decay, (step + 1) / (step + 20))
        for key, value in _state(model).items():
            if value.dtype.is_floating_point:
                self.state[key].mul_(decay).add_(value.detach(), alpha=1 - decay)
            else:
                self.state[key].copy_(value)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def save_atomic(payload: dict[str, Any], path: Path) -> None:
    """Write a checkpoint to a temporary name, then rename it."""
    temporary = path.with_suffix(".tmp")
    torch.save(payload, temporary)
    temporary.replace(path)


def _batches(task: TrainTask, config: TrainConfig, start: int, roots: list[Path]) -> Iterator[Any]:
    records = load_records(roots, "train")
    dataset = task.dataset(records, config.steps * config.batch_size)
    rest = Subset(dataset, range(start * config.batch_size, config.steps * config.batch_size))
    loader: DataLoader[Any] = DataLoader(
        rest,
        batch_size=config.batch_size,
        num_workers=config.workers,
        collate_fn=task.collate,
        prefetch_factor=4 if config.workers else None,
    )
    return iter(loader)


def _write_run_info(folder: Path, config: TrainConfig, roots: list[Path]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    info = {
        "git_commit": git_commit(),
        "data_hash": data_hash(load_records(roots)),
        "platehide": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n")


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    validator: Validator | None = None,
    initial: Path | None = None,
    data: list[Path] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run (or resume) a training; returns the summary that is also ``summary.json``.

    Args:
        folder: the run folder; must be new unless ``resume``.
        initial: checkpoint whose weights the model starts from (tensors that fit).
        data: roots of annotated photos; the config's ``data`` where not given.

    Raises:
        UsageError: the folder exists, or there is nothing to resume, or the config differs.
    """
    roots = data or [Path(config.data)]
    last = folder / "last.pt"
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise UsageError(f"{folder}: exists already; --resume goes on, or choose another --run")
    if resume and not last.is_file():
        raise UsageError(f"{folder}: nothing to resume, no last.pt")
    folder.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = build_task(config)
    model = task.model
    if initial is not None:
        load_fitting(model, initial)
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone: Any = getattr(model, "backbone", None)
    if config.freeze_early and backbone is not None:
        backbone.freeze_early()
    optimizer = torch.optim.AdamW(parameter_groups(model, config), weight_decay=config.weight_decay)
    average = AveragedState(model, config.ema_decay)
    start, best = 0, -math.inf
    if resume:
        saved = torch.load(last, map_location=device, weights_only=True)
        model.load_state_dict(saved["raw"])
        average.state = saved["model"]
        optimizer.load_state_dict(saved["optimizer"])
        start, best = int(saved["step"]), float(saved["best"])
    else:
        _write_run_info(folder, config, roots)
        shown = task.dataset(load_records(roots, "train"), 32)
        write_samples(shown, folder / "samples.png")
    one_dnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    use_bf16 = config.bf16 and (device.type == "cuda" or one_dnn)
    meters: dict[str, float] = defaultdict(float)
    began, seen = time.monotonic(), 0
    batches = _batches(task, config, start, roots)
    progress = tqdm(total=config.steps, initial=start, desc=config.name, disable=quiet)
    model.train()

    def checkpoint(step: int) -> None:
        save_atomic(
            {
                "model": average.state,
                "raw": _state(model),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "best": best,
                "config": config.to_dict(),
            },
            last,
        )

    board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
    with board, (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for step in range(start, config.steps):
            images, targets = next(batches)
            if config.freeze_bn:
                freeze_batch_norm(model)
            factor = learning_rate_factor(step, config)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
                parts = task.loss(model, images.to(device), move_targets(targets, device), step)
            if not torch.isfinite(parts["total"]):
                raise RuntimeError(f"{config.name}: the loss is not finite at step {step}")
            optimizer.zero_grad()
            parts["total"].backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            average.update(model, step)
            seen += len(images)
            for key, value in parts.items():
                meters[key] += float(value.detach())
            progress.update()
            done = step + 1
            if done % REPORT_EVERY == 0 or done == config.steps:
                count = REPORT_EVERY if done % REPORT_EVERY == 0 else done % REPORT_EVERY
                rate = seen / (time.monotonic() - began)
                row = {"step": done, "lr": optimizer.param_groups[0]["lr"], "images_s": rate}
                row |= {key: value / count for key, value in meters.items()}
                log.write(json.dumps({k: float(f"{v:.5g}") for k, v in row.items()}) + "\n")
                log.flush()
                for name, number in row.items():
                    board.add_scalar(f"train/{name}", number, done)
                meters.clear()
                postfix = {k: f"{v:.3f}" for k, v in row.items() if k not in ("step", "lr")}
                progress.set_postfix(postfix)
            due = config.validate_every and done % config.validate_every == 0
            if due or done == config.steps:
                score = {}
                if validator is not None:
                    frozen = build_task(config).model
                    frozen.load_state_dict(average.state)
                    score = validator(frozen.eval(), config)
                    log.write(json.dumps({"step": done, "val": score}) + "\n")
                    log.flush()
                    for name, number in score.items():
                        board.add_scalar(f"val/{name}", number, done)
                    if score["score"] > best:
                        best = score["score"]
                        payload = {"model": average.state, "step": done, "val": score}
                        save_atomic(payload | {"config": config.to_dict()}, folder / "best.pt")
                checkpoint(done)
    progress.close()
    summary = {"steps": config.steps, "best": best, "seconds": time.monotonic() - began}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def load_fitting(model: nn.Module, path: Path) -> int:
    """Load the tensors of a checkpoint that fit by name and shape; returns how many.

    Raises:
        UsageError: the file is missing or nothing fits.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    wanted = model.state_dict()
    if any(k.startswith("votes.") for k in wanted) and not any(
        k.startswith("votes.") for k in state
    ):
        state = {f"votes.{k}": v for k, v in state.items()}  # a dense detector's checkpoint
    fitting = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    if not fitting:
        raise UsageError(f"{path}: no tensor fits the model")
    model.load_state_dict(fitting, strict=False)
    return len(fitting)
