"""Plates on a picture with released weights. The only module that imports onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime

from platehide.detection import Findings
from platehide.errors import WeightsError
from platehide.geometry import plate_height, plate_width
from platehide.looks import Look, belongs, plan_looks, tiles
from platehide.model_spec import ModelSpec
from platehide.pixels import Closeup, Explained, PixelSource
from platehide.postprocess import merge_group, sigmoid, suppress, tidy_quad, top_candidates
from platehide.preprocess import fit_long_side, stretch
from platehide.refine import refine_quads
from platehide.types import Detection, FloatArray, ImageArray
from platehide.weights import Weights, load_weights

# A privacy product reports nothing to anyone.
onnxruntime.disable_telemetry_events()

MAX_CANDIDATES = 300
MAX_PLATES = 24
CLOSEUP_SIZE = 256
"""Long side of the only look at a close-up: its plate is then about 128 px wide."""


def make_session(model: bytes, name: str) -> onnxruntime.InferenceSession:
    """An inference session on one CPU thread that does not spin while idle.

    Two threads cost nearly twice the processor time for one picture; parallelism is over photos.

    Raises:
        WeightsError: the bytes are not a model that ONNX Runtime takes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise WeightsError(f"{name}: ONNX Runtime refuses it: {error}") from error


@dataclass(frozen=True)
class Candidate:
    """A possible plate before decisions: ``(4, 2)`` photo px and the two stages' logits."""

    quad: FloatArray
    logit: float
    refiner_logit: float


class OnnxDetector:
    """Detector over a verified folder of weights.

    Raises:
        WeightsError: on construction, where file and spec disagree.
    """

    def __init__(self, weights: Weights) -> None:
        self.spec: ModelSpec = weights.spec
        graph = self.spec.graph
        self._net = make_session(weights.read(graph), f"{self.spec.model}/{graph}")
        self._refiner: Any = None
        if self.spec.refiner is not None:
            file = self.spec.refiner.file
            self._refiner = make_session(weights.read(file), f"{self.spec.model}/{file}")
        inputs = [i.name for i in self._net.get_inputs()]
        if inputs != ["image"] or self._net.get_inputs()[0].type != "tensor(uint8)":
            raise WeightsError(f"{self.spec.model}: expected one uint8 input 'image', got {inputs}")

    @property
    def model(self) -> str:
        """``name@version``."""
        return self.spec.model

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        """Find the plates of one picture; see ``detection.Detector``."""
        hide = self.spec.thresholds.hide if conf is None else conf
        unsure = min(self.spec.thresholds.unsure, hide) if conf is None else hide
        plates: list[Detection] = []
        doubtful: list[Detection] = []
        for candidate in self.candidates(source):
            found = Detection(candidate.quad, self.confidence(candidate))
            if found.confidence >= hide:
                plates.append(found)
            elif found.confidence >= unsure:
                doubtful.append(found)
        key = lambda d: -d.confidence  # noqa: E731
        return Findings(tuple(sorted(plates, key=key)), tuple(sorted(doubtful, key=key)))

    def confidence(self, candidate: Candidate) -> float:
        """Calibrated confidence in 0…1 (a logistic map fitted on ``val``)."""
        if not self.spec.calibration:
            return float(sigmoid(np.array(candidate.logit)))
        a, b, c = self.spec.calibration
        return float(sigmoid(np.array(a * candidate.logit + b * candidate.refiner_logit + c)))

    def candidates(self, source: PixelSource) -> list[Candidate]:
        """Everything that may be a plate, refined, one per place, best first."""
        found = self._two_head(source) if self.spec.kind == "two_head" else self._dense(source)
        least = self.spec.least_px
        return [c for c in found if max(plate_width(c.quad), plate_height(c.quad)) >= least]

    def refine(self, source: PixelSource, quads: Sequence[FloatArray]) -> list[FloatArray]:
        """Refine coarse quads ``(4, 2)`` in photo px that somebody else found."""
        if self._refiner is None or self.spec.refiner is None:
            return list(quads)
        return refine_quads(source, quads, self.spec.refiner, self._run_refiner)[0]

    def _two_head(self, source: PixelSource) -> list[Candidate]:
        size = self.spec.input_size
        width, height = source.size_wh
        image = stretch(source.overview(size), (size, size))
        corners, presence = self._net.run(None, {"image": image.pixels[None]})
        quad = tidy_quad(corners[0].astype(np.float64) * [width, height], width, height)
        if quad is None:
            return []
        logit = float(presence[0, 1] - presence[0, 0])
        return [Candidate(quad, logit, 0.0)]

    def _look(
        self, view: ImageArray, size_wh: tuple[int, int], look: Look
    ) -> tuple[FloatArray, FloatArray]:
        """One look of the dense network at ``view``, a picture of the whole photo of size
        ``size_wh``: scores ``(k,)`` and quads ``(k, 4, 2)`` in photo px of what it answers for."""
        image = fit_long_side(view, look.long_side)
        seen_wh = (image.pixels.shape[1], image.pixels.shape[0])
        to_photo = np.array(size_wh) / (view.shape[1], view.shape[0]) / image.scale_xy
        parts = []
        for tile in tiles(seen_wh) if look.tiled else [(0, 0, *seen_wh)]:
            x0, y0, x1, y1 = tile
            pixels = np.ascontiguousarray(image.pixels[y0:y1, x0:x1])
            logits, quads = self._net.run(None, {"image": pixels[None]})
            scores, found = top_candidates(
                logits[0], quads[0], least=self.spec.thresholds.candidate, most=MAX_CANDIDATES
            )
            found = found + [x0, y0]
            own = belongs(tile, seen_wh, found.mean(axis=1))
            parts.append((scores[own], found[own] * to_photo))
        scores = np.concatenate([part[0] for part in parts])
        found = np.concatenate([part[1] for part in parts])
        width = np.ptp(found[:, :, 0], axis=1)
        own = (width >= look.least) & (width < look.most)
        return scores[own], found[own]

    def _looks(self, source: PixelSource) -> tuple[Look, ...]:
        if isinstance(source, Closeup):
            return (Look(CLOSEUP_SIZE, 0.0, math.inf),)
        return plan_looks(
            max(source.size_wh),
            input_size=self.spec.input_size,
            coarse_size=self.spec.coarse_size,
            trained_width=self.spec.trained_width,
        )

    def _dense(self, source: PixelSource) -> list[Candidate]:
        width, height = source.size_wh
        known = source.known if isinstance(source, Closeup | Explained) else None
        looks = self._looks(source)
        # One reduced picture serves all looks: for a JPEG, each one asked for is a decode.
        view = source.overview(looks[0].long_side)
        parts = [self._look(view, source.size_wh, look) for look in looks]
        scores = np.concatenate([part[0] for part in parts])
        found = np.concatenate([part[1] for part in parts])
        order = np.argsort(-scores, kind="stable")
        scores, found = scores[order], found[order]
        groups = suppress(scores, found, iou_threshold=self.spec.iou_threshold)[:MAX_PLATES]
        coarse: list[FloatArray] = []
        kept: list[float] = []
        for group in groups:
            merged = merge_group(scores, found, group, share=0.6)
            tidy = tidy_quad(merged, width, height)
            if tidy is not None and not (known is not None and known(tidy)):
                coarse.append(tidy)
                kept.append(float(scores[group[0]]))
        raw = [float(np.log(s / max(1.0 - s, 1e-7))) for s in kept]
        if self._refiner is None or self.spec.refiner is None:
            return [Candidate(q, s, 0.0) for q, s in zip(coarse, raw, strict=True)]
        fine, second = refine_quads(source, coarse, self.spec.refiner, self._run_refiner)
        return self._one_per_place(
            [Candidate(q, s, float(r)) for q, s, r in zip(fine, raw, second, strict=True)]
        )

    def _one_per_place(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """After refinement two candidates may have met on one plate: keep the surer."""
        ordered = sorted(candidates, key=self.confidence, reverse=True)
        if not ordered:
            return []
        scores = np.array([self.confidence(c) for c in ordered])
        quads = np.stack([c.quad for c in ordered])
        groups = suppress(scores, quads, iou_threshold=self.spec.iou_threshold)
        return [ordered[group[0]] for group in groups]

    def _run_refiner(self, crops: ImageArray) -> tuple[FloatArray, FloatArray]:
        corners, logits = self._refiner.run(None, {"image": crops})
        return corners.astype(np.float64), logits.astype(np.float64)


@lru_cache(maxsize=4)
def load_detector(model: str | None = None) -> OnnxDetector:
    """The detector of a model (``None`` = the default); one instance a process and model.

    Raises:
        UsageError: no such model. WeightsError: the weights cannot be used.
    """
    return OnnxDetector(load_weights(model))
