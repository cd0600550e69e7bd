"""The published system's network: one photo in, eight coordinates and "is there a plate" out.

Two coordinate heads, same outputs, same loss (docs/adr/0002-two-head-vote.md):

* ``pooled``: global average pooling, one linear layer each, as published.
* ``vote``: every cell of a small pyramid proposes eight coordinates and the proposals are
  averaged with softmax weights. A learned "nothing" vote stands at (0, 0), which is what the
  published zero target asks for. It keeps the position that pooling throws away, and can start
  from a dense detector's layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from platehide.train.models.backbones import Backbone
from platehide.train.models.dense import DenseQuadNet


class PooledTwoHead(nn.Module):
    """Backbone, average pool, two linear heads.

    ``forward``: ``(B, H, W, 3)`` RGB 0…255 → corners ``(B, 4, 2)`` in 0…1 of width and height,
    presence logits ``(B, 2)`` (no plate, plate).
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.corners = nn.Linear(backbone.channels[2], 8)
        self.presence = nn.Linear(backbone.channels[2], 2)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        pooled = self.backbone(x)[2].mean(dim=(2, 3))
        corners = self.corners(pooled).to(torch.float32).view(-1, 4, 2)
        return corners, self.presence(pooled).to(torch.float32)


class VoteTwoHead(nn.Module):
    """A dense detector's cells vote for the eight coordinates; same outputs as the pooled head."""

    def __init__(self, backbone: Backbone, size: int) -> None:
        super().__init__()
        self.votes = DenseQuadNet(backbone)
        self.size = size
        self.nothing = nn.Parameter(torch.tensor(-2.0))
        self.sharpness = nn.Parameter(torch.tensor(1.5))
        self.presence = nn.Linear(backbone.channels[2] + 2, 2)

    @property
    def backbone(self) -> Backbone:
        """The feature extractor."""
        return self.votes.backbone

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, quads, pooled = self.votes.cells(image)
        null = self.nothing.expand(logits.shape[0], 1)
        scores = torch.cat([logits, null], dim=1) * self.sharpness
        share = scores.softmax(dim=1)
        corners = torch.einsum("bn,bnij->bij", share[:, :-1], quads) / self.size
        evidence = torch.stack([logits.amax(dim=1), torch.logsumexp(scores, 1)], dim=1)
        presence = self.presence(torch.cat([pooled.to(torch.float32), evidence], dim=1))
        return corners, presence.to(torch.float32)
