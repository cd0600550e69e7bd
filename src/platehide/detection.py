"""What a detector is, for everyone who uses one. No runtime is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from platehide.pixels import PixelSource
from platehide.types import Detection


@dataclass(frozen=True)
class Findings:
    """What a detector saw on one picture.

    Attributes:
        plates: to be covered, by descending confidence.
        doubtful: too likely to ignore, too unlikely to cover; makes a photo ``unsure``.
    """

    plates: tuple[Detection, ...]
    doubtful: tuple[Detection, ...] = ()


class Detector(Protocol):
    """Finds plates. Thread-safe; one instance may serve several threads."""

    @property
    def model(self) -> str:
        """``name@version``."""

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        """Find the plates of one picture.

        Args:
            conf: confidence from which a plate is covered; the weights' own where ``None``.
        """
