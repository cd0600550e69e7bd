"""Rotated boxes: five numbers a cell, centre, width, height and angle (DRBox, Liu et al. 2017).

Follows a plate that is turned in the picture, not one that is seen at an angle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import UNIT_PLATE, DenseQuadNet, decoded_head

START = (0.0, 0.0, 2.0, 0.7, 0.0)


class RotatedCorners(nn.Module):
    """dx, dy, width, height, angle in radians clockwise as seen ``(B, 5, H, W)`` → corners
    ``(B, 8, H, W)``."""

    def forward(self, numbers: Tensor) -> Tensor:
        dx, dy, width, height, angle = numbers.unbind(1)
        c, s = torch.cos(angle), torch.sin(angle)
        corners = []
        for across, down in UNIT_PLATE:
            x, y = across * width, down * height
            corners += [dx + c * x - s * y, dy + s * x + c * y]
        return torch.stack(corners, dim=1)


class RotatedBoxNet(DenseQuadNet):
    """The dense network with a rotated box a cell; outputs as ``DenseQuadNet``'s."""

    def __init__(self, backbone: Backbone, width: int = 96) -> None:
        super().__init__(backbone, width)
        self.offset = decoded_head(width, START, RotatedCorners())  # type: ignore[assignment]
