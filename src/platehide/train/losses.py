"""Losses: dense quad detection with boxes as weak supervision, and the published two-head loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class PlateTargets:
    """Labels of one picture in network pixels.

    Attributes:
        quads: ``(n, 4, 2)``; for a plate known only by its box, the box as a quad.
        is_quad: ``(n,)`` bool; False where only the hull may be compared.
        complete: False where unlabelled plates may be in the picture.
    """

    quads: Tensor
    is_quad: Tensor
    complete: bool


def hull_of(quads: Tensor) -> Tensor:
    """Upright hull ``(..., 4)`` x0, y0, x1, y1 of quads ``(..., 4, 2)`` from the edges' outer
    corners: left = min of TL and BL, top = min of TL and TR, and so on."""
    left = torch.minimum(quads[..., 0, 0], quads[..., 3, 0])
    top = torch.minimum(quads[..., 0, 1], quads[..., 1, 1])
    right = torch.maximum(quads[..., 1, 0], quads[..., 2, 0])
    bottom = torch.maximum(quads[..., 2, 1], quads[..., 3, 1])
    return torch.stack([left, top, right, bottom], dim=-1)


def level_stride(width_px: float) -> float:
    """The pyramid level that answers for a plate of this width in network pixels."""
    return 8.0 if width_px < 56 else 16.0 if width_px < 130 else 32.0


def dense_loss(
    logits: Tensor,
    quads: Tensor,
    centres: Tensor,
    strides: Tensor,
    targets: Sequence[PlateTargets],
    *,
    distrust_above: float = 1.1,
) -> tuple[Tensor, Tensor]:
    """Focal loss (Lin et al. 2017) over cells and smooth L1 over corners of the positive cells.

    Corner distances are divided by √(plate width × height). A plate known by its box is compared
    through the predicted quad's hull, plus a small pull towards a parallelogram.

    Args:
        logits: ``(B, N)``. quads: ``(B, N, 4, 2)``. centres: ``(N, 2)``. strides: ``(N,)``.
        distrust_above: in incompletely labelled pictures a negative cell with a probability
            above this is taken for an unlabelled plate and ignored.

    Returns:
        (classification loss, corner loss), scalars.
    """
    positive = torch.zeros_like(logits)
    ignore = torch.zeros_like(logits, dtype=torch.bool)
    corner = quads.new_zeros(())
    count = 0
    for b, target in enumerate(targets):
        for quad, exact in zip(target.quads, target.is_quad.tolist(), strict=True):
            low, high = quad.amin(0), quad.amax(0)
            width = (high[0] - low[0]).clamp(min=4.0)
            height = (high[1] - low[1]).clamp(min=3.0)
            centre = quad.mean(0)
            level = level_stride(float(width))
            relative = (centres - centre).abs() / torch.stack([width, height])
            inside = (relative < 0.55).all(1)
            core = (relative < 0.22).all(1) & (strides == level)
            distance = ((centres - centre) ** 2).sum(1) + (strides != level) * 1e9
            core[distance.argmin()] = True
            ignore[b] |= inside
            index = core.nonzero()[:, 0]
            positive[b, index] = 1.0
            size = (width * height).sqrt()
            predicted = quads[b, index] / size
            if exact:
                error = functional.smooth_l1_loss(
                    predicted, (quad / size).expand_as(predicted), beta=0.05, reduction="none"
                ).mean((1, 2))
            else:
                hull = hull_of(predicted)
                wanted = (torch.cat([low, high]) / size).expand_as(hull)
                error = functional.smooth_l1_loss(
                    hull, wanted, beta=0.05, reduction="none"
                ).mean(1)
                skew = (predicted[:, 0] + predicted[:, 2]) - (predicted[:, 1] + predicted[:, 3])
                error = error + 0.025 * skew.abs().mean(1)
            corner = corner + error.mean()
            count += 1
    ignore &= positive == 0
    probability = logits.sigmoid()
    if distrust_above < 1.0:
        for b, target in enumerate(targets):
            if not target.complete:
                ignore[b] |= (probability[b].detach() > distrust_above) & (positive[b] == 0)
    ce = functional.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    p_true = probability * positive + (1 - probability) * (1 - positive)
    weight = (0.75 * positive + 0.25 * (1 - positive)) * (1 - p_true) ** 2
    focal = (ce * weight * (~ignore)).sum() / positive.sum().clamp(min=1.0)
    return focal, 4.0 * corner / max(count, 1)
