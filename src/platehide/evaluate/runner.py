"""Run a model over annotated photos and judge it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from platehide.cover import CoverOptions
from platehide.cover.shape import clip_to_picture, covering_quad, with_margin
from platehide.detection import Detector
from platehide.errors import ImageError, UnsureError, UsageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import PhotoOutcome, Prediction, score_photo, summarise
from platehide.formats import open_photo
from platehide.image_io import DEFAULT_MAX_PIXELS
from platehide.pixels import PixelSource

Predictor = Callable[[PixelSource], Prediction]
"""Anything that yields quads (or boxes as quads) and says what it would paint."""


def detector_predictor(detector: Detector, conf: float | None = None) -> Predictor:
    """The product's own way: detect, then paint the cover's polygon over every plate."""
    options = CoverOptions()

    def predict(source: PixelSource) -> Prediction:
        begin = time.perf_counter()
        findings = detector.detect(source, conf)
        spent = (time.perf_counter() - begin) * 1e3
        refused = Prediction(np.empty((0, 4, 2)), np.empty(0), (), "unsure", spent)
        if findings.doubtful:
            return refused
        quads = np.array([p.quad for p in findings.plates]).reshape(-1, 4, 2)
        try:
            painted = tuple(
                clip_to_picture(with_margin(covering_quad(q), options.margin), source.size_wh)
                for q in quads
            )
        except UnsureError:  # a plate wholly outside the picture: the product refuses it too
            return refused
        confidences = np.array([p.confidence for p in findings.plates])
        status = "hidden" if len(quads) else "none"
        return Prediction(quads, confidences, painted, status, spent)

    return predict


def open_record(record: PhotoRecord) -> PixelSource:
    """The photo's first frame, by the product's own reader.

    Raises:
        UsageError: the photo is not there, or has another size than its labels: they would lie
            elsewhere (a photo shown turned by its EXIF orientation, its labels not, is the usual
            case).
        ImageError: it cannot be read; the message names it.
    """
    try:
        data = record.path.read_bytes()
    except OSError as error:
        raise UsageError(f"{record.path}: {error.strerror}") from error
    try:
        frame = open_photo(data, max_pixels=DEFAULT_MAX_PIXELS).frames[0]
    except ImageError as error:
        raise ImageError(f"{record.path}: {error}", code=error.code) from error
    if frame.size_wh != (record.width, record.height):
        said = (
            f"{record.path}: shown as {frame.size_wh[0]} × {frame.size_wh[1]}, labelled as"
            f" {record.width} × {record.height}"
        )
        if frame.size_wh == (record.height, record.width):
            said += ": turn the photo upright or label it as it is shown"
        raise UsageError(said)
    return frame


def run_records(
    records: Sequence[PhotoRecord], predict: Predictor, *, quiet: bool = False
) -> list[PhotoOutcome]:
    """Judge every record; photos are opened by the product's own reader."""
    outcomes = []
    for record in tqdm(records, desc="evaluate", unit="photo", disable=quiet):
        outcomes.append(score_photo(record, predict(open_record(record))))
    return outcomes


def report(outcomes: Sequence[PhotoOutcome]) -> dict[str, Any]:
    """``{"all": …, "sets": {set: …}}``, JSON-ready."""
    names = sorted({o.set_name for o in outcomes})
    return {
        "all": summarise(outcomes),
        "sets": {n: summarise([o for o in outcomes if o.set_name == n]) for n in names},
    }
