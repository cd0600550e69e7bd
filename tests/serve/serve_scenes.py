"""A detector that knows the rendered scenes by sight, for the page's tests and pictures."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from platehide.demo.scenes import SCENES, Sample, render
from platehide.detection import Findings
from platehide.pixels import PixelSource
from platehide.serve import settings
from platehide.serve.supervisor import serve
from platehide.types import Detection, ImageArray

MODEL = "scenes@1"
UNSURE_SCENE = "black-night"


def look(rgb: ImageArray) -> np.ndarray:
    """A 24 x 24 view of a picture, to recognise it by."""
    return cv2.resize(rgb, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float64)


@dataclass
class SceneDetector:
    """Answers the true corners of the scene that looks most like the picture."""

    samples: list[Sample]
    model: str = MODEL
    _known: list[tuple[np.ndarray, Sample]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for sample in self.samples:
            rgb = cv2.cvtColor(
                cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR),
                cv2.COLOR_BGR2RGB,
            )
            self._known.append((look(rgb), sample))

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        seen = look(source.overview(320))
        distance, best = min(
            ((float(np.abs(seen - known).mean()), s) for known, s in self._known),
            key=lambda pair: pair[0],
        )
        if distance > 12:
            return Findings(())
        plates = tuple(Detection(q, 0.97 - 0.05 * i) for i, q in enumerate(best.quads))
        if best.name == UNSURE_SCENE:
            return Findings((), plates)
        return Findings(plates)


@dataclass(frozen=True)
class SceneSource:
    """Loads the scenes."""

    names: tuple[str, ...] = tuple(s.name for s in SCENES)

    def name(self, model: str | None) -> str:
        return model or MODEL

    def load(self, model: str | None) -> SceneDetector:
        return SceneDetector([render(s) for s in SCENES if s.name in self.names])


def main() -> int:
    """Write the scenes into a folder, then serve them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes-dir", type=Path)
    parser.add_argument("--scenes", default=",".join(s.name for s in SCENES))
    settings.add_arguments(parser)
    args = parser.parse_args()
    names = tuple(args.scenes.split(","))
    if args.scenes_dir is not None:
        for spec in SCENES:
            if spec.name in names:
                (args.scenes_dir / f"{spec.name}.jpg").write_bytes(render(spec).jpeg)
    return serve(settings.from_arguments(vars(args)), SceneSource(names))


if __name__ == "__main__":
    sys.exit(main())
