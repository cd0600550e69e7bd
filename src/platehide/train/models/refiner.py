"""Corner refiner: looks at the full-resolution neighbourhood of one coarse quad.

The crop is rectified by the coarse quad (``preprocess.rectify``); the network says where the
four corners really are and whether this is a plate at all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REFINER_SIZE_WH = (160, 80)
REFINER_MARGIN = 0.4


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class RefinerNet(nn.Module):
    """``forward``: uint8 or float ``(B, 80, 160, 3)`` RGB → (corners, logit).

    ``corners`` is ``(B, 4, 2)`` in crop pixels (TL, TR, BR, BL); ``logit`` ``(B,)`` says how
    sure the network is that the crop is centred on a plate.
    """

    def __init__(self, margin: float = REFINER_MARGIN) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(3, 24, 2),
            _conv(24, 48, 2),
            _Residual(48),
            _conv(48, 96, 2),
            _Residual(96),
            _conv(96, 128, 2),
            _Residual(128),
        )
        width, height = REFINER_SIZE_WH
        cells = (width // 16) * (height // 16)
        self.squeeze = nn.Sequential(
            nn.Conv2d(128, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        )
        self.hidden = nn.Linear(32 * cells, 256)
        self.corners = nn.Linear(256, 8)
        self.plate = nn.Linear(256, 1)
        nn.init.normal_(self.corners.weight, 0.0, 0.002)
        nn.init.zeros_(self.corners.bias)
        inner = torch.tensor([width, height]) / (1 + 2 * margin)
        centre = torch.tensor([width, height]) / 2
        half = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        self.register_buffer("inner", inner)
        self.register_buffer("start", centre + half * inner)

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        x = (crop.permute(0, 3, 1, 2).to(torch.float32) - 118.0) / 60.0
        h = torch.relu(self.hidden(self.squeeze(self.features(x)).flatten(1)))
        offset = self.corners(h).to(torch.float32).view(-1, 4, 2)
        inner: Tensor = self.inner  # type: ignore[assignment]
        start: Tensor = self.start  # type: ignore[assignment]
        return start + offset * inner, self.plate(h).to(torch.float32)[:, 0]
