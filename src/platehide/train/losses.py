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
    corners: left = min of TL and BL, top = min of TL and TR, and so on.
    """
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
                error = functional.smooth_l1_loss(hull, wanted, beta=0.05, reduction="none").mean(1)
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


def two_head_loss(
    corners: Tensor,
    presence: Tensor,
    targets: dict[str, Tensor],
    *,
    zero_target: bool,
    coordinate_weight: float,
) -> dict[str, Tensor]:
    """Smooth L1 over eight coordinates plus cross-entropy over "is there a plate".

    Args:
        corners: ``(B, 4, 2)`` in 0…1. presence: ``(B, 2)`` logits.
        targets: ``quad`` ``(B, 4, 2)`` in 0…1 (zeros without a plate), ``exact`` ``(B,)`` bool
            (else the quad is a box and is compared through the hull), ``use`` ``(B,)`` float
            (0 where the corners teach nothing), ``plate`` ``(B,)`` int 0 or 1.
        zero_target: photos without a plate pull the coordinates to zero (as published); else
            they are masked out.
    """
    beta = 0.02
    quad = targets["quad"]
    by_corner = functional.smooth_l1_loss(corners, quad, beta=beta, reduction="none").mean((1, 2))
    low, high = quad.amin(1), quad.amax(1)
    by_hull = functional.smooth_l1_loss(
        hull_of(corners), torch.cat([low, high], dim=1), beta=beta, reduction="none"
    ).mean(1)
    skew = (corners[:, 0] + corners[:, 2]) - (corners[:, 1] + corners[:, 3])
    by_hull = by_hull + 0.05 * skew.abs().mean(1)
    plate = targets["plate"]
    error = torch.where(targets["exact"] | (plate == 0), by_corner, by_hull)
    weight = targets["use"] * torch.where(plate == 1, 1.0, 0.3 if zero_target else 0.0)
    corner = (error * weight).sum() / weight.sum().clamp(min=1.0)
    entropy = functional.cross_entropy(presence, plate)
    return {
        "corner": corner,
        "presence": entropy,
        "total": coordinate_weight * corner + entropy,
    }


OUTWARD = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
"""Sign of "away from the plate" for x and y of TL, TR, BR, BL."""


def leaning(error: Tensor, difference: Tensor, outward: Tensor, inward_weight: float) -> Tensor:
    """``error`` with the components that fall short of the plate weighed ``inward_weight``."""
    return error * torch.where(difference * outward < 0, inward_weight, 1.0)


def refiner_loss(
    corners: Tensor,
    logit: Tensor,
    targets: dict[str, Tensor],
    inner_wh: Tensor,
    inward_weight: float,
) -> dict[str, Tensor]:
    """Smooth L1 over corners in units of the plate's side, hull loss for boxes, plate or not.

    Errors along the plate count √aspect times: the corner error is told in plate heights, the
    covered share in parts of each side; this lies between the two.

    Args:
        corners: ``(B, 4, 2)`` crop px. logit: ``(B,)``. inner_wh: ``(2,)`` px of the coarse quad
            in the crop.
        targets: ``target`` ``(B, 4, 2)``, ``to_photo`` ``(B, 3, 3)``, ``kind``, ``weight`` and
            ``aspect`` ``(B,)`` (see ``RefinerSample``).
    """
    kind, target = targets["kind"], targets["target"]
    is_plate = (kind > 0).to(torch.float32)
    plate = functional.binary_cross_entropy_with_logits(logit, is_plate)
    corner = corners.new_zeros(())
    exact, boxed = kind == 1, kind == 2
    beta = 0.01
    along = targets["aspect"].clamp(1.0, 5.0).sqrt()
    unit = torch.stack([along, torch.ones_like(along)], dim=1)
    if exact.any():
        error = functional.smooth_l1_loss(
            corners[exact] / inner_wh, target[exact] / inner_wh, beta=beta, reduction="none"
        )
        outward = corners.new_tensor(OUTWARD)
        error = leaning(error, corners[exact] - target[exact], outward, inward_weight)
        error = (error * unit[exact][:, None]).clamp(max=2.0)
        corner = corner + (error.mean((1, 2)) * targets["weight"][exact]).sum()
    if boxed.any():
        points = corners[boxed]
        ones = points.new_ones((*points.shape[:2], 1))
        mapped = torch.cat([points, ones], 2) @ targets["to_photo"][boxed].transpose(1, 2)
        photo = mapped[..., :2] / mapped[..., 2:].clamp(min=1e-3)
        low, high = target[boxed].amin(1), target[boxed].amax(1)
        size = (high - low).clamp(min=2.0)
        wanted = torch.cat([low, high], dim=1)
        sides = torch.cat([size, size], dim=1)
        hull = hull_of(photo)
        error = functional.smooth_l1_loss(hull / sides, wanted / sides, beta=beta, reduction="none")
        outward = hull.new_tensor((-1.0, -1.0, 1.0, 1.0))
        error = leaning(error, hull - wanted, outward, inward_weight)
        error = (error * torch.cat([unit[boxed]] * 2, dim=1)).clamp(max=2.0).mean(1)
        skew = ((photo[:, 0] + photo[:, 2]) - (photo[:, 1] + photo[:, 3])) / size
        error = error + 0.02 * skew.abs().clamp(max=2).sum(1)
        corner = corner + (error * targets["weight"][boxed]).sum()
    corner = corner / is_plate.sum().clamp(min=1.0)
    return {"corner": corner, "plate": plate, "total": 8.0 * corner + plate}
