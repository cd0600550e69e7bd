"""Confidence and decisions, fitted on ``val``: candidates gathered, a logistic map, the threshold
that costs least, and the proof: a reliability table and plot.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from platehide.detector import OnnxDetector
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import label_iou, wilson
from platehide.formats import open_photo
from platehide.image_io import DEFAULT_MAX_PIXELS
from platehide.postprocess import sigmoid
from platehide.types import FloatArray

COST_OF_A_LEAK, COST_OF_A_TINY_LEAK = 10.0, 1.0
"""A plate that is not covered, in false covers: someone can be harmed by the first, the second
is untidy. Under 32 px a plate can hardly be read, and what looks like one is often none."""

LEAST_HIDE, MOST_HIDE = 0.1, 0.6
"""Bounds of the threshold: no extreme where ``val`` says little."""

SPREAD = 1.0
"""How far (σ, in logits) the confidence of other photos' plates is thought to scatter round that of
``val``'s: a few hundred plates of known countries leave wide gaps between two confidences, and the
upper end of a gap would be paid for elsewhere."""


@dataclass(frozen=True)
class Evidence:
    """Candidates over labelled photos: ``features`` ``(n, 3)`` = detector logit, refiner logit,
    1; ``is_plate`` ``(n,)``; ``wide`` ``(n,)``: a plate of 32 px or more; ``missed``: plates
    (≥ 32 px) that no candidate touched.
    """

    features: FloatArray
    is_plate: np.ndarray
    wide: np.ndarray
    missed: int


def gather(
    detector: OnnxDetector, records: Sequence[PhotoRecord], *, quiet: bool = False
) -> Evidence:
    """Run the detector's candidate stage; candidates of incompletely labelled photos that touch
    no label are left out (they may be unlabelled plates).
    """
    rows: list[list[float]] = []
    truth: list[bool] = []
    wide: list[bool] = []
    missed = 0
    for record in tqdm(records, desc="calibrate", unit="photo", disable=quiet):
        photo = open_photo(record.path.read_bytes(), max_pixels=DEFAULT_MAX_PIXELS)
        touched = set()
        for candidate in detector.candidates(photo.frames[0]):
            overlaps = [label_iou(candidate.quad, p) for p in record.plates]
            best = int(np.argmax(overlaps)) if overlaps else -1
            hit = best >= 0 and overlaps[best] >= 0.4
            if hit:
                touched.add(best)
            near_miss = best >= 0 and 0.1 <= overlaps[best] < 0.4
            if near_miss or (not hit and not record.complete):
                continue
            rows.append([candidate.logit, candidate.refiner_logit, 1.0])
            truth.append(hit)
            wide.append(hit and record.plates[best].width_px >= 32)
        missed += sum(p.width_px >= 32 and i not in touched for i, p in enumerate(record.plates))
    return Evidence(
        np.array(rows).reshape(-1, 3),
        np.array(truth, dtype=bool),
        np.array(wide, dtype=bool),
        missed,
    )


def fit_logistic(features: FloatArray, truth: np.ndarray, ridge: float = 1e-2) -> FloatArray:
    """Logistic regression by Newton's method (IRLS) with a small ridge; weights ``(d,)``."""
    weights = np.zeros(features.shape[1])
    target = truth.astype(np.float64)
    penalty = ridge * np.eye(features.shape[1])
    for _ in range(50):
        p = sigmoid(features @ weights)
        gradient = features.T @ (p - target) + penalty @ weights
        curvature = (features * (p * (1 - p))[:, None]).T @ features + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def choose_threshold(confidence: FloatArray, truth: np.ndarray, wide: np.ndarray) -> float:
    """The confidence that minimises the expected costs of leaks and false covers, every candidate
    of ``val`` taken as a normal distribution of ``SPREAD`` round its logit.
    """
    cuts = np.arange(LEAST_HIDE, MOST_HIDE + 1e-9, 0.01)

    def logit(p: FloatArray) -> FloatArray:
        p = np.clip(p, 1e-9, 1 - 1e-9)
        return np.asarray(np.log(p / (1.0 - p)))

    price = np.where(wide, COST_OF_A_LEAK, COST_OF_A_TINY_LEAK)
    distance = (logit(cuts)[:, None] - logit(confidence)[None]) / SPREAD
    # A logistic of 1.702 times the distance is the normal distribution within 0.01.
    below = sigmoid(1.702 * distance)
    cost = np.where(truth, price * below, 1.0 - below).sum(axis=1)
    return float(cuts[int(np.argmin(cost))])


def costs(confidence: FloatArray, evidence: Evidence) -> list[dict[str, float]]:
    """What thresholds would have cost on ``val``: plates from 32 px and smaller ones that are lost,
    false covers, and their sum in false covers."""
    rows = []
    for cut in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        below = confidence < cut
        wide = int((below & evidence.wide).sum())
        tiny = int((below & evidence.is_plate & ~evidence.wide).sum())
        false = int((~below & ~evidence.is_plate).sum())
        total = COST_OF_A_LEAK * wide + COST_OF_A_TINY_LEAK * tiny + false
        rows.append({"hide": cut, "lost": wide, "lost_tiny": tiny, "false": false, "cost": total})
    return rows


def reliability(confidence: FloatArray, evidence: Evidence) -> dict[str, Any]:
    """Reliability table on ``val``: per bin of confidence the count, the mean confidence, the share
    of plates with its Wilson interval; the expected calibration error (Naeini et al. 2015) and the
    Brier score over all candidates.
    """
    edges = np.linspace(0.0, 1.0, 11)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1.0))
        n = int(inside.sum())
        row: dict[str, Any] = {"from": round(float(low), 1), "count": n, "share": None}
        if n:
            share = float(evidence.is_plate[inside].mean())
            mean = float(confidence[inside].mean())
            error += n / len(confidence) * abs(share - mean)
            least, most = wilson(int(evidence.is_plate[inside].sum()), n)
            row |= {"share": round(share, 4), "confidence": round(mean, 4)}
            row |= {"low": round(least, 4), "high": round(most, 4)}
        bins.append(row)
    brier = float(((confidence - evidence.is_plate) ** 2).mean()) if len(confidence) else None
    return {
        "candidates": len(confidence),
        "plates_never_proposed": evidence.missed,
        "expected_calibration_error": round(error, 5),
        "brier": None if brier is None else round(brier, 5),
        "bins": bins,
        "costs": costs(confidence, evidence),
    }


def reliability_svg(table: dict[str, Any], title: str, hide: float) -> str:
    """The table as a picture: share of plates against confidence with intervals, the diagonal of a
    perfect calibration, the threshold, and how many candidates a bin has.
    """
    left, top, side = 64, 44, 320

    def x(value: float) -> float:
        return left + side * value

    def y(value: float) -> float:
        return top + side * (1.0 - value)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 440" width="440" height="440"'
        ' font-family="sans-serif" font-size="12"><rect width="440" height="440" fill="#fff"/>'
        f'<text x="{left}" y="24" font-size="14">{title}: reliability on val</text>'
        f'<path d="M{left} {top}V{top + side}H{left + side}" fill="none" stroke="#333"/>'
        f'<path d="M{x(0)} {y(0)}L{x(1)} {y(1)}" stroke="#999" stroke-dasharray="4 4"/>'
        f'<path d="M{x(hide):.1f} {y(0)}V{y(1)}" stroke="#b3261e" stroke-dasharray="2 3"/>'
        f'<text x="{x(hide) + 4:.1f}" y="{y(1) + 12}" fill="#b3261e">covered from {hide:g}</text>'
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<text x="{x(tick)}" y="{y(0) + 16}" text-anchor="middle">{tick:g}</text>'
            f'<text x="{left - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>'
        )
    most = max((row["count"] for row in table["bins"]), default=0)
    for row in table["bins"]:
        if not row["count"]:
            continue
        height = 36 * np.log1p(row["count"]) / np.log1p(most)
        at, share = x(row["confidence"]), row["share"]
        parts.append(
            f'<rect x="{x(row["from"]) + 2:.1f}" y="{y(0) - height:.1f}"'
            f' width="{side / 10 - 4:.1f}" height="{height:.1f}" fill="#dbe4f0"/>'
            f'<path d="M{at:.1f} {y(row["low"]):.1f}V{y(row["high"]):.1f}" stroke="#1a56b0"/>'
            f'<circle cx="{at:.1f}" cy="{y(share):.1f}" r="4" fill="#1a56b0"/>'
            f'<text x="{at:.1f}" y="{y(0) - height - 3:.1f}" text-anchor="middle" font-size="9"'
            f' fill="#666">{row["count"]}</text>'
        )
    middle = left + side / 2
    parts.append(
        f'<text x="{middle}" y="{y(0) + 36}" text-anchor="middle">confidence (bars: candidates,'
        " logarithmic)</text>"
        f'<text x="18" y="{top + side / 2}" text-anchor="middle" transform="rotate(-90 18'
        f' {top + side / 2})">share that are plates, 95 % interval</text>'
        f'<text x="{left}" y="{y(0) + 58}" fill="#444">expected calibration error'
        f" {table['expected_calibration_error']:.4f}, {table['candidates']} candidates</text></svg>"
    )
    return "".join(parts) + "\n"
