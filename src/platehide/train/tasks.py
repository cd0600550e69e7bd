"""What differs between the networks: model, samples, loss. The loop is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.train import losses, samples
from platehide.train.config import TrainConfig
from platehide.train.models.backbones import build_backbone
from platehide.train.models.dense import cell_table
from platehide.train.models.refiner import RefinerNet
from platehide.train.models.registry import build_network
from platehide.train.models.two_head import PooledTwoHead, VoteTwoHead
from platehide.train.refiner_data import RefinerCrops, collate_refiner

LossFunction = Callable[[nn.Module, Tensor, Any, int], dict[str, Tensor]]
"""(model, images, targets, step) → named losses; the key ``total`` is minimised."""


@dataclass(frozen=True)
class TrainTask:
    """One trainable network. ``dataset(records, count)`` yields ``count`` items."""

    model: nn.Module
    dataset: Callable[[Sequence[PhotoRecord], int], Dataset[Any]]
    collate: Callable[[Sequence[Any]], tuple[Tensor, Any]]
    loss: LossFunction


def dense_task(config: TrainConfig) -> TrainTask:
    """The dense quad detector on square crops."""
    model = build_network(config.network, build_backbone(config.backbone, config.pretrained))
    hull_only = bool(getattr(model, "hull_only", False))
    centres, strides = cell_table(config.input_size, config.input_size)

    def loss(net: nn.Module, images: Tensor, targets: Any, step: int) -> dict[str, Tensor]:
        logits, quads = net(images)
        if hull_only:
            targets = [replace(t, is_quad=torch.zeros_like(t.is_quad)) for t in targets]
        distrust = 0.5 if step >= config.distrust_after else 1.1
        focal, corner = losses.dense_loss(
            logits,
            quads,
            centres.to(logits.device),
            strides.to(logits.device),
            targets,
            distrust_above=distrust,
        )
        return {"focal": focal, "corner": corner, "total": 2.0 * focal + corner}

    return TrainTask(
        model=model,
        dataset=lambda records, count: samples.DenseCrops(
            records,
            count,
            config.input_size,
            config.seed,
            pseudo_quads=config.pseudo_quads,
            hard_negatives=config.hard_negatives,
            decoy_share=config.decoy_share,
            missed_plates=config.missed_plates,
            looked_through=config.looked_through,
            paste=config.paste,
        ),
        collate=samples.collate,
        loss=loss,
    )


def two_head_task(config: TrainConfig) -> TrainTask:
    """The published two-head network on whole photos."""
    backbone = build_backbone(config.backbone, config.pretrained)
    model: nn.Module = (
        PooledTwoHead(backbone)
        if config.head == "pooled"
        else VoteTwoHead(backbone, config.input_size)
    )

    def loss(net: nn.Module, images: Tensor, targets: Any, step: int) -> dict[str, Tensor]:
        del step
        corners, presence = net(images)
        return losses.two_head_loss(
            corners,
            presence,
            targets,
            zero_target=config.zero_target,
            coordinate_weight=config.coordinate_weight,
        )

    return TrainTask(
        model=model,
        dataset=lambda records, count: samples.WholePhotos(
            records, count, config.input_size, config.seed
        ),
        collate=partial(samples.collate_whole, presence_only=config.boxes == "presence"),
        loss=loss,
    )


CROPS_PER_PHOTO = 8


def refiner_task(config: TrainConfig) -> TrainTask:
    """The corner refiner; ``batch_size`` counts photos, each gives several crops."""
    model = RefinerNet(build_backbone(config.backbone, config.pretrained))

    def loss(net: nn.Module, images: Tensor, targets: Any, step: int) -> dict[str, Tensor]:
        del step
        corners, logit = net(images)
        inner: Any = net.inner
        return losses.refiner_loss(corners, logit, targets, inner, config.inward_weight)

    return TrainTask(
        model=model,
        dataset=lambda records, count: RefinerCrops(
            records,
            count,
            CROPS_PER_PHOTO,
            config.seed,
            pseudo_quads=config.pseudo_quads,
            hard_negatives=config.hard_negatives,
            missed_plates=config.missed_plates,
            paste=config.paste,
        ),
        collate=collate_refiner,
        loss=loss,
    )


TASKS: dict[str, Callable[[TrainConfig], TrainTask]] = {
    "dense": dense_task,
    "two_head": two_head_task,
    "refiner": refiner_task,
}


def build_task(config: TrainConfig) -> TrainTask:
    """Build the task a config names."""
    if config.task not in TASKS:
        raise UsageError(f"unknown task {config.task!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[config.task](config)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW groups: the backbone at its own rate, everything else at the head's."""
    backbone: list[nn.Parameter] = []
    head: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (backbone if name.startswith(("backbone.", "votes.backbone.")) else head).append(
                parameter
            )
    groups = [{"params": head, "lr": config.lr_head, "base_lr": config.lr_head}]
    if backbone:
        groups.append({"params": backbone, "lr": config.lr_backbone, "base_lr": config.lr_backbone})
    return groups


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep the statistics of the backbone's BatchNorm layers (call after ``train()``)."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def move_targets(targets: Any, device: torch.device) -> Any:
    """Targets onto the device (lists of ``PlateTargets`` or tensors)."""
    if device.type == "cpu":
        return targets
    if isinstance(targets, Tensor):
        return targets.to(device)
    if isinstance(targets, dict):
        return {k: v.to(device) for k, v in targets.items()}
    return [
        losses.PlateTargets(t.quads.to(device), t.is_quad.to(device), t.complete) for t in targets
    ]
