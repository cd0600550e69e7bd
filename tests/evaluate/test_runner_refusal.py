"""What the product refuses, the evaluation counts as refused; it does not stop."""

from __future__ import annotations

import numpy as np

from platehide.detection import Findings
from platehide.evaluate.runner import detector_predictor
from platehide.pixels import ArrayPixels, PixelSource
from platehide.types import Detection


class Elsewhere:
    """A detector whose only plate lies beside the picture."""

    model = "elsewhere@1"

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        del source, conf
        quad = np.array([[200.0, 10], [260, 10], [260, 30], [200, 30]])
        return Findings((Detection(quad, 0.9),), ())


def test_a_plate_outside_the_picture_is_unsure() -> None:
    seen = detector_predictor(Elsewhere())(ArrayPixels(np.zeros((80, 100, 3), np.uint8)))
    assert (seen.status, seen.painted, len(seen.quads)) == ("unsure", (), 0)
