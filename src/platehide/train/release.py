"""Make released weights out of runs: export, calibrate on ``val``, choose thresholds, write
the model card.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from platehide.detector import OnnxDetector
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.evaluate.metrics import label_iou
from platehide.formats import open_photo
from platehide.image_io import DEFAULT_MAX_PIXELS
from platehide.model_spec import ModelSpec, Thresholds
from platehide.postprocess import sigmoid
from platehide.preprocess import stretch
from platehide.train.config import TrainConfig
from platehide.train.exporter import Checkpoint, export, load_checkpoint, write_file
from platehide.train.refiner_data import RefinerCrops
from platehide.train.samples import read_rgb
from platehide.types import FloatArray
from platehide.weights import Weights

COARSE_SIZE = 192
"""Long side of the second look for plates that nearly fill the frame."""

CANDIDATE = 0.4
"""Cells below this raw probability are not looked at: true plates lie far above (the card's
"never proposed" counts what that costs), and every candidate costs a refiner pass."""

COST_OF_A_LEAK, COST_OF_A_TINY_LEAK = 10.0, 1.0
"""A plate that is not covered, in false covers: someone can be harmed by the first, the second
is untidy. Under 32 px a plate can hardly be read, and what looks like one is often none."""


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


def gather(detector: OnnxDetector, records: Sequence[PhotoRecord]) -> Evidence:
    """Run the detector's candidate stage; candidates of incompletely labelled photos that touch
    no label are left out (they may be unlabelled plates).
    """
    rows: list[list[float]] = []
    truth: list[bool] = []
    wide: list[bool] = []
    missed = 0
    for record in tqdm(records, desc="calibrate", unit="photo"):
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
    """The confidence that minimises the costs of leaks and false covers on ``val``; between two
    candidates the middle, never below 0.05 nor above 0.6.
    """
    order = np.argsort(confidence)
    levels = confidence[order]
    cuts = np.concatenate([[0.0], 0.5 * (levels[1:] + levels[:-1]), [1.0]])
    price = np.where(wide, COST_OF_A_LEAK, np.where(truth, COST_OF_A_TINY_LEAK, 0.0))
    lost = np.concatenate([[0.0], np.cumsum(price[order])])
    false = (~truth).sum() - np.concatenate([[0], np.cumsum(~truth[order])])
    cost = lost[: len(cuts)] + false[: len(cuts)]
    best = np.flatnonzero(cost == cost.min())
    return float(np.clip(np.median(cuts[best]), 0.3, 0.6))


def parity_pictures(config: TrainConfig, records: Sequence[PhotoRecord]) -> np.ndarray:
    """A few real inputs of the network for the ONNX-against-torch check."""
    few = [r for r in records if r.plates][:4]
    size = (config.input_size, config.input_size)
    return np.stack([stretch(read_rgb(r), size).pixels for r in few])


def release(
    run_folder: Path,
    *,
    out: Path,
    data: Path,
    name: str | None,
    version: str,
    refiner: Path | None,
    passes: int,
    input_size: int | None,
    margin_of_doubt: float,
) -> tuple[ModelSpec, Path]:
    """Export and calibrate; returns the spec and the folder ``out/name/version``."""
    checkpoint = load_checkpoint(run_folder)
    validation = load_records(data, "val")
    second: tuple[Checkpoint, np.ndarray, int] | None = None
    if refiner is not None:
        part = load_checkpoint(refiner)
        crops = RefinerCrops([r for r in validation if r.plates][:20], 2, 4, 0)
        second = (part, np.stack([s.crop for s in crops[0] + crops[1]]), passes)
    run_file = (run_folder if run_folder.is_dir() else run_folder.parent) / "run.json"
    info = json.loads(run_file.read_text(encoding="utf-8")) if run_file.is_file() else {}
    model = name or checkpoint.config.name
    folder = out / model / version
    notes: dict[str, object] = {"steps": checkpoint.step, "config": checkpoint.config.to_dict()}
    if input_size is not None:
        notes["input_size"] = input_size
    spec = export(
        checkpoint,
        folder,
        name=model,
        version=version,
        pictures=parity_pictures(checkpoint.config, validation),
        thresholds=Thresholds(hide=0.5, candidate=CANDIDATE),
        refiner=second,
        data_hash=info.get("data_hash", ""),
        git_commit=info.get("git_commit", ""),
        notes=notes,
    )
    if spec.kind == "dense":
        spec = replace(spec, coarse_size=COARSE_SIZE)
    evidence = gather(OnnxDetector(Weights(folder, spec)), validation)
    calibration = fit_logistic(evidence.features, evidence.is_plate)
    if refiner is None:
        calibration[1] = 0.0
    confidence = sigmoid(evidence.features @ calibration)
    hide = choose_threshold(confidence, evidence.is_plate, evidence.wide)
    spec = replace(
        spec,
        calibration=tuple(round(float(v), 6) for v in calibration),
        thresholds=Thresholds(
            hide=round(hide, 4),
            unsure=round(max(0.02, hide - margin_of_doubt), 4) if margin_of_doubt else 1.0,
            candidate=CANDIDATE,
        ),
        notes=spec.notes | {"calibration": reliability(confidence, evidence)},
    )
    write_file(folder / "spec.json", spec.to_json().encode())
    write_file(folder / "MODEL_CARD.md", model_card(spec, load_records(data, "train")).encode())
    return spec, folder


def reliability(confidence: FloatArray, evidence: Evidence) -> dict[str, object]:
    """Reliability table on ``val``: per bin of confidence the count and the share of plates."""
    edges = np.linspace(0.0, 1.0, 11)
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1.0))
        n = int(inside.sum())
        share = round(float(evidence.is_plate[inside].mean()), 4) if n else None
        bins.append({"from": round(float(low), 1), "count": n, "share": share})
    return {"candidates": len(confidence), "plates_never_proposed": evidence.missed, "bins": bins}


def model_card(spec: ModelSpec, records: Sequence[PhotoRecord]) -> str:
    """Markdown card: what it is, how it was trained, every training set with its licence."""
    lines = [
        f"# {spec.model}",
        "",
        f"- kind: {spec.kind}, input {spec.input_size} px"
        + (f", refiner × {spec.refiner.passes}" if spec.refiner else ""),
        f"- files: {', '.join(f'{k} (sha256 {v[:12]}…)' for k, v in spec.sha256.items())}",
        f"- trained on data {spec.data_hash[:12]}…, code {spec.git_commit[:20]}",
        f"- confidence calibrated on `val`; a plate is covered from {spec.thresholds.hide}",
        f"- made {spec.created}; weights stored as float16, computed in float32",
        "",
        "## Use and limits",
        "",
        "Finds licence plates on photos of vehicles so that they can be covered. Figures by set",
        "are in evaluation.json and docs/evaluation.md. Not for reading plates, and no promise for",
        "plates under 32 px, hand-made plates, or scenes unlike the sets below.",
        "",
        "## Training sets (split `train`) and the licence each source states",
        "",
        "| set | photos | plates | licence as stated |",
        "|---|--:|--:|---|",
    ]
    for set_name in sorted({r.set_name for r in records}):
        mine = [r for r in records if r.set_name == set_name]
        counted = Counter(" ".join(r.licence.split())[:80] for r in mine).most_common(2)
        stated = "; ".join(text.replace("|", "/") for text, _ in counted)
        plates = sum(len(r.plates) for r in mine)
        lines.append(f"| {set_name} | {len(mine)} | {plates} | {stated} |")
    return "\n".join(lines) + "\n"
