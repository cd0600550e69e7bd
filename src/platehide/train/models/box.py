"""Upright boxes: four numbers a cell, the distances to the box's sides (FCOS, Tian et al. 2019).

What detectors of plates usually give; the quad is the box's own corners.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import DenseQuadNet, decoded_head

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
        self.offset = decoded_head(width, START, BoxCorners())  # type: ignore[assignment]
