"""Upright boxes: four numbers a cell, the distances to the box's sides (FCOS, Tian et al. 2019).

What detectors of plates usually give; the quad is the box's own corners.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import DenseQuadNet

START = (1.0, 0.35, 1.0, 0.35)


class BoxCorners(nn.Module):
    """Distances left, top, right, bottom ``(B, 4, H, W)`` → corners ``(B, 8, H, W)``."""

    def forward(self, sides: Tensor) -> Tensor:
        left, top, right, bottom = sides.unbind(1)
        corners = [-left, -top, right, -top, right, bottom, -left, bottom]
        return torch.stack(corners, dim=1)


class BoxNet(DenseQuadNet):
    """The dense network with an upright box a cell; outputs as ``DenseQuadNet``'s."""

    hull_only = True

    def __init__(self, backbone: Backbone, width: int = 96) -> None:
        super().__init__(backbone, width)
        numbers = nn.Conv2d(width, 4, 1)
        nn.init.normal_(numbers.weight, 0.0, 0.01)
        with torch.no_grad():
            numbers.bias.copy_(torch.tensor(START))  # type: ignore[union-attr]
        self.offset = nn.Sequential(numbers, BoxCorners())  # type: ignore[assignment]
