"""Corner refiner: looks at the full-resolution neighbourhood of one coarse quad.

The crop is rectified by the coarse quad (``preprocess.rectify``); the network says where the
four corners really are and whether this is a plate at all. Every cell of a fine feature map
votes for all four corners, and the votes are averaged with softmax weights of their own for each
corner: unlike a fully connected layer this keeps positions, and it starts from the dense
detector's (or ImageNet's) features. Measured against a fully connected head: docs/adr/0084.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import cell_centres, conv_bn, separable

REFINER_SIZE_WH = (224, 80)
"""Wide, because a wide plate's ends are what a corner's error is made of: 1 px of the crop is
0.8 % of the plate's width and 2.3 % of its height."""
REFINER_MARGIN = 0.4
BLOCKS = 11
"""Blocks of EfficientNet-Lite0 that are used: up to stride 16."""
STRIDE = 8
OFFSET_UNIT = 48.0
"""Votes are predicted in units of this many crop px."""


class RefinerNet(nn.Module):
    """``forward``: uint8 or float ``(B, 80, 224, 3)`` RGB → (corners, logit).

    ``corners`` is ``(B, 4, 2)`` in crop pixels (TL, TR, BR, BL); ``logit`` ``(B,)`` says how
    sure the network is that the crop is centred on a plate.

    Args:
        backbone: ``EfficientNetLite0``; its later blocks are dropped.
    """

    def __init__(self, backbone: Backbone, width: int = 96, margin: float = REFINER_MARGIN) -> None:
        super().__init__()
        blocks: nn.ModuleList = backbone.blocks  # type: ignore[assignment]
        backbone.blocks = nn.ModuleList(list(blocks)[:BLOCKS])
        self.backbone = backbone
        self.fine = nn.Sequential(
            nn.Conv2d(24, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True)
        )
        self.middle = conv_bn(40, width)
        self.coarse = conv_bn(112, width)
        self.tower = nn.Sequential(separable(width), separable(width), separable(width))
        self.weight = nn.Conv2d(width, 4, 1)
        self.offset = nn.Conv2d(width, 8, 1)
        self.plate = nn.Sequential(
            nn.Linear(112 + width, 64), nn.ReLU(inplace=True), nn.Linear(64, 1)
        )
        nn.init.normal_(self.offset.weight, 0.0, 0.01)
        wide, high = REFINER_SIZE_WH
        inner = torch.tensor([wide, high]) / (1 + 2 * margin)
        self.inner: Tensor
        self.centres: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("inner", inner)
        cells = cell_centres(high // STRIDE, wide // STRIDE, STRIDE, torch.device("cpu"))
        self.register_buffer("centres", cells.view(1, -1, 1, 2), persistent=False)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps of stride 4 (24 channels), 8 (40) and 16 (112)."""
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        x = (x - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last) if self.training else x
        stem: nn.Module = self.backbone.stem  # type: ignore[assignment]
        blocks: nn.ModuleList = self.backbone.blocks  # type: ignore[assignment]
        x = stem(x)
        maps = []
        for index, block in enumerate(blocks):
            x = block(x)
            if index in (2, 4, BLOCKS - 1):
                maps.append(x)
        return maps[0], maps[1], maps[2]

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        c2, c3, c4 = self.features(crop)
        up = functional.interpolate(self.coarse(c4), scale_factor=2.0, mode="nearest")
        h = self.tower(self.fine(c2) + self.middle(c3) + up)
        batch = h.shape[0]
        share = self.weight(h).to(torch.float32).reshape(batch, 4, -1).softmax(dim=2)
        offset = self.offset(h).to(torch.float32).permute(0, 2, 3, 1).reshape(batch, -1, 4, 2)
        votes = self.centres + offset * OFFSET_UNIT
        corners = torch.einsum("bcn,bncj->bcj", share, votes)
        pooled = torch.cat([c4.mean(dim=(2, 3)), h.mean(dim=(2, 3))], dim=1)
        return corners, self.plate(pooled).to(torch.float32)[:, 0]
