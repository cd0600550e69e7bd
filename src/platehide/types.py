"""Frozen values that travel through the pipeline. No behaviour beyond checks and views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
"""Coordinates: float64. A *quad* is ``(4, 2)`` in x, y pixels, order TL, TR, BR, BL."""

ImageArray = NDArray[np.uint8]
"""A picture: uint8 ``(height, width, 3)``, channels R, G, B, orientation applied."""

Status = Literal["hidden", "none", "unsure", "error"]
EditMode = Literal["lossless", "reencoded", "untouched"]


def as_quad(points: object) -> FloatArray:
    """Return ``points`` as a read-only float64 ``(4, 2)`` array.

    Raises:
        ValueError: the shape is not ``(4, 2)`` or a coordinate is not finite.
    """
    quad = np.array(points, dtype=np.float64)
    if quad.shape != (4, 2):
        raise ValueError(f"a quad has shape (4, 2), got {quad.shape}")
    if not np.isfinite(quad).all():
        raise ValueError("a quad has finite coordinates")
    quad.setflags(write=False)
    return quad


@dataclass(frozen=True)
class Detection:
    """One plate that was found.

    Attributes:
        quad: ``(4, 2)`` pixels of the displayed photo, TL, TR, BR, BL as the plate is read.
        confidence: calibrated to 0…1.
    """

    quad: FloatArray
    confidence: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "quad", as_quad(self.quad))
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence lies in 0…1, got {self.confidence}")


@dataclass(frozen=True)
class HideResult:
    """What came out for one photo.

    Attributes:
        status: ``hidden`` (every found plate is covered), ``none`` (looked at, nothing found),
            ``unsure`` (could not be shown to be hidden), ``error``.
        data: bytes of the finished photo in the format of the input (HEIC and AVIF come back
            as JPEG); ``None`` unless ``status`` is ``hidden`` or ``none``.
        plates: exactly the plates that were covered, before the margin.
        painted: one opaque polygon ``(n, 2)`` for each plate, margin included, same order.
        model: ``name@version``.
        ms: milliseconds by stage: ``decode``, ``detect``, ``cover``, ``encode``, ``total``
            (and ``verify`` where it ran).
        edit: how the pixels were written; ``None`` when nothing was written.
        media_type: MIME type of ``data``.
        suffix: what the output's name gets where the format changed (``.jpg`` for HEIC).
        removed: names of the metadata and embedded pictures that were dropped.
        error: reason in words, for ``unsure`` and ``error``.
        code: stable error code, for ``unsure`` and ``error``.
    """

    status: Status
    data: bytes | None
    plates: tuple[Detection, ...]
    painted: tuple[FloatArray, ...]
    model: str
    ms: Mapping[str, float]
    edit: EditMode | None = None
    media_type: str | None = None
    suffix: str = ""
    removed: tuple[str, ...] = ()
    error: str | None = None
    code: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def row(self, image: str, output: str | None) -> dict[str, Any]:
        """Return the JSON report row (see docs/report.md) for input name ``image``."""
        row: dict[str, Any] = {
            "image": image,
            "output": output,
            "status": self.status,
            "plates": [
                {
                    "quad": np.round(p.quad, 2).tolist(),
                    "confidence": round(float(p.confidence), 4),
                }
                for p in self.plates
            ],
            "painted": [np.round(polygon, 2).tolist() for polygon in self.painted],
            "model": self.model,
            "ms": {name: round(float(value), 2) for name, value in self.ms.items()},
        }
        if self.edit is not None:
            row["edit"] = self.edit
        if self.removed:
            row["removed"] = list(self.removed)
        if self.error is not None:
            row["error"] = self.error
            row["code"] = self.code
        row.update(self.extra)
        return row
