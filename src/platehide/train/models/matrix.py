"""Transformation matrices: eight numbers a cell, the homography that lays the unit plate onto the
photo (its ninth number is 1), in the manner of WPOD-NET (Silva & Jung 2018), which is affine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import UNIT_PLATE, DenseQuadNet, decoded_head

START = (2.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0)
"""a b tx, c d ty, g h of ((a b tx) (c d ty) (g h 1)): an upright plate round the cell."""
LEAST_DEPTH = 0.2
"""The third coordinate is kept from zero: no corner is mapped to infinity."""


class MatrixCorners(nn.Module):
    """Matrices ``(B, 8, H, W)`` → corners ``(B, 8, H, W)`` of the unit plate."""

    def forward(self, numbers: Tensor) -> Tensor:
        a, b, tx, c, d, ty, g, h = numbers.unbind(1)
        corners = []
        for x, y in UNIT_PLATE:
            depth = (1.0 + g * x + h * y).clamp(min=LEAST_DEPTH)
            corners += [(a * x + b * y + tx) / depth, (c * x + d * y + ty) / depth]
        return torch.stack(corners, dim=1)


class MatrixNet(DenseQuadNet):
    """The dense network with a homography a cell; outputs as ``DenseQuadNet``'s."""

    def __init__(self, backbone: Backbone, width: int = 96) -> None:
        super().__init__(backbone, width)
        self.offset = decoded_head(width, START, MatrixCorners())  # type: ignore[assignment]
