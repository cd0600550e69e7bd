"""The training loop: seeded, resumable, the same for every task, on a GPU or the CPU.

Run folder: ``config.yaml``, ``run.json`` (git commit, data hash, versions), ``metrics.jsonl``
(one row per report), ``last.pt`` (everything a resume needs, saved at every look at ``val`` and
every five minutes) and ``best.pt`` (weights with the best look at ``val``), ``samples.png`` and
TensorBoard logs. Curves and the gallery of the worst
photos are drawn afterwards (see ``gallery``).
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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
from platehide.errors import PlateHideError, UsageError
from platehide.evaluate.dataset import PhotoRecord, data_hash, load_records, require_photos
from platehide.evaluate.report import write_text
from platehide.train.checkpoints import read_checkpoint, save_atomic
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
SAVE_EVERY_S = 300.0
"""What an interruption costs at most; it changes nothing about the training."""
FREE_TO_CHANGE = frozenset(
    {"steps", "validate_every", "validate_photos", "workers", "threads", "bf16", "data"}
    | {"pretrained"}
)
"""Config keys that a resumed run may have otherwise than it began with."""


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


def _batches(
    task: TrainTask, config: TrainConfig, start: int, records: list[PhotoRecord]
) -> Iterator[Any]:
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


def _write_run_info(folder: Path, config: TrainConfig, records: Sequence[PhotoRecord]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    info = {
        "git_commit": git_commit(),
        "data_hash": data_hash(records),
        "platehide": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (folder / "run.json").write_text(json.dumps(info, indent=2) + "\n")


def _training_records(roots: Sequence[Path]) -> tuple[list[PhotoRecord], list[PhotoRecord]]:
    """All records, and those of split ``train``; photos that are missing are told now.

    Raises:
        UsageError: no ``train`` photo with a plate, or a photo that is not there.
    """
    records = load_records(roots)
    learned = [r for r in records if r.split == "train"]
    if not any(r.plates for r in learned):
        where = ", ".join(map(str, roots))
        raise UsageError(f"{where}: no photo with a plate in split train, nothing to train on")
    require_photos(r for r in records if r.split != "test")
    return records, learned


def _resumable(folder: Path, config: TrainConfig, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint to go on from; ``None`` where the run was interrupted before its first.

    Raises:
        UsageError: the folder is no run, or one of another config.
    """
    last = folder / "last.pt"
    if not last.is_file():
        if (folder / "config.yaml").is_file():
            return None
        raise UsageError(f"{folder}: nothing to resume, no last.pt")
    saved = read_checkpoint(
        last, "model", "raw", "optimizer", "step", "best", "config", device=device
    )
    mine = config.to_dict()
    other = [
        f"{key} was {saved['config'][key]!r}, is {mine[key]!r}"
        for key in sorted(set(mine) & set(saved["config"]) - FREE_TO_CHANGE)
        if mine[key] != saved["config"][key]
    ]
    if other:
        raise UsageError(f"{folder}: a run of another config ({'; '.join(other)})")
    return saved


def _forget_after(folder: Path, step: int) -> None:
    """Drop the reports of steps that will be done again."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            keep = int(json.loads(line)["step"]) <= step
        except (ValueError, KeyError, TypeError):  # cut off in the middle of a row
            keep = False
        if keep:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


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
        UsageError: the folder exists, or there is nothing to resume, or the config differs; no
            photo to train on, or one that is not there.
        PlateHideError: the loss is not finite.
    """
    last = folder / "last.pt"
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise UsageError(f"{folder}: exists already; --resume goes on, or choose another --run")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    saved = _resumable(folder, config, device) if resume else None
    records, learned = _training_records(data or [Path(config.data)])
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
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
    shown = None if saved is not None else task.dataset(learned, 32)
    folder.mkdir(parents=True, exist_ok=True)
    if saved is not None:
        model.load_state_dict(saved["raw"])
        average.state = saved["model"]
        optimizer.load_state_dict(saved["optimizer"])
        start, best = int(saved["step"]), float(saved["best"])
    _forget_after(folder, start)
    if shown is not None:
        _write_run_info(folder, config, records)
        write_samples(shown, folder / "samples.png")
    one_dnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    use_bf16 = config.bf16 and (device.type == "cuda" or one_dnn)
    meters: dict[str, float] = defaultdict(float)
    began, seen = time.monotonic(), 0
    batches = _batches(task, config, start, learned)
    saved_at = time.monotonic()
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
                raise PlateHideError(
                    f"{config.name}: the loss is not finite at step {step}; a smaller lr_head and"
                    " lr_backbone, or a smaller clip_norm, and begin anew",
                    code="diverged",
                )
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
            if due or done == config.steps or time.monotonic() - saved_at > SAVE_EVERY_S:
                checkpoint(done)
                saved_at = time.monotonic()
    progress.close()
    summary = {
        "steps": config.steps,
        "best": best if math.isfinite(best) else None,
        "seconds": time.monotonic() - began,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def load_fitting(model: nn.Module, path: Path) -> int:
    """Load the tensors of a checkpoint that fit by name and shape; returns how many.

    Raises:
        UsageError: the file is missing or damaged, or nothing fits.
    """
    state = read_checkpoint(path, "model")["model"]
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
