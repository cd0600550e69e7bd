"""Dense, anchor-free quad detector: several plates a photo in one pass.

A light backbone, a small feature pyramid at strides 8, 16 and 32, and per cell one plate logit
and eight corner offsets from the cell's centre (in the manner of FCOS, Tian et al. 2019, with
four corners instead of four sides).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from platehide.train.models.backbones import Backbone

STRIDES = (8, 16, 32)
OFFSET_UNIT = 4.0
"""Offsets are predicted in units of this many strides."""


def conv_bn(c_in: int, c_out: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU6(inplace=True),
    )


def separable(channels: int) -> nn.Sequential:
    """5×5 depthwise then 1×1: a wide view at little cost."""
    return nn.Sequential(
        conv_bn(channels, channels, 5, groups=channels), conv_bn(channels, channels)
    )


UNIT_PLATE = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
"""TL, TR, BR, BL of an upright plate of width and height 1 round the origin."""


def decoded_head(width: int, start: Sequence[float], decode: nn.Module) -> nn.Sequential:
    """A head that predicts other numbers than corners, ``start`` at first, and ``decode``, which
    makes corners ``(B, 8, H, W)`` of them: takes the place of ``DenseQuadNet.offset``."""
    numbers = nn.Conv2d(width, len(start), 1)
    nn.init.normal_(numbers.weight, 0.0, 0.01)
    with torch.no_grad():
        numbers.bias.copy_(torch.tensor(start))  # type: ignore[union-attr]
    return nn.Sequential(numbers, decode)


class DenseQuadNet(nn.Module):
    """``forward``: uint8 or float ``(B, H, W, 3)`` RGB 0…255 → (logits, quads).

    ``logits`` is ``(B, N)``; ``quads`` is ``(B, N, 4, 2)`` in input pixels; N runs over the
    cells of stride 8, then 16, then 32, row by row. H and W are multiples of 32.
    """

    def __init__(self, backbone: Backbone, width: int = 96) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(conv_bn(c, width) for c in backbone.channels)
        self.smooth = nn.ModuleList(separable(width) for _ in STRIDES)
        self.tower = nn.Sequential(separable(width), separable(width))
        self.logit = nn.Conv2d(width, 1, 1)
        self.offset = nn.Conv2d(width, 8, 1)
        self.level_scale = nn.Parameter(torch.ones(len(STRIDES)))
        nn.init.constant_(self.logit.bias, -4.6)  # type: ignore[arg-type]
        nn.init.normal_(self.offset.weight, 0.0, 0.01)
        with torch.no_grad():
            start = torch.tensor([-1.0, -0.35, 1.0, -0.35, 1.0, 0.35, -1.0, 0.35])
            self.offset.bias.copy_(start)  # type: ignore[union-attr]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, quads, _ = self.cells(image)
        return logits, quads

    def cells(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``forward`` plus the average-pooled last feature map ``(B, C)``."""
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        x = (x - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last) if self.training else x
        c3, c4, c5 = self.backbone(x)
        p5 = self.lateral[2](c5)
        p4 = self.lateral[1](c4) + functional.interpolate(p5, scale_factor=2.0, mode="nearest")
        p3 = self.lateral[0](c3) + functional.interpolate(p4, scale_factor=2.0, mode="nearest")
        logits: list[Tensor] = []
        quads: list[Tensor] = []
        for level, feature in enumerate((p3, p4, p5)):
            h = self.tower(self.smooth[level](feature))
            batch, _, rows, cols = h.shape
            logits.append(self.logit(h).reshape(batch, -1))
            offset = self.offset(h) * self.level_scale[level]
            offset = offset.permute(0, 2, 3, 1).reshape(batch, -1, 4, 2).to(torch.float32)
            stride = STRIDES[level]
            centre = cell_centres(rows, cols, stride, offset.device).view(1, -1, 1, 2)
            quads.append(offset * (stride * OFFSET_UNIT) + centre)
        flat = torch.cat(logits, 1).to(torch.float32)
        return flat, torch.cat(quads, 1), c5.mean(dim=(2, 3))


def cell_centres(rows: int, cols: int, stride: int, device: torch.device) -> Tensor:
    """Centres ``(rows * cols, 2)`` in x, y input pixels, row by row."""
    y = torch.arange(rows, device=device, dtype=torch.float32).view(-1, 1).expand(rows, cols)
    x = torch.arange(cols, device=device, dtype=torch.float32).view(1, -1).expand(rows, cols)
    return torch.stack([x, y], dim=-1).reshape(-1, 2) * stride + stride / 2


def cell_table(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centres ``(N, 2)`` and strides ``(N,)`` of all cells of an input of that size."""
    device = torch.device("cpu")
    centres, strides = [], []
    for s in STRIDES:
        c = cell_centres(height // s, width // s, s, device)
        centres.append(c)
        strides.append(torch.full((len(c),), float(s)))
    return torch.cat(centres), torch.cat(strides)
