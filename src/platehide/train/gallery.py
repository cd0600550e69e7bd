"""What a run folder shows when training is over, and on demand (``platehide train --report RUN``):
learning curves, and the 40 worst ``val`` photos with what was found drawn over the truth.

They show real plates where the photos do: keep them out of the repository.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.evaluate.metrics import PhotoOutcome, Prediction, score_photo
from platehide.evaluate.report import html_report, overlay, worst_first, write_text
from platehide.evaluate.run import caption
from platehide.evaluate.runner import report
from platehide.files import write_whole
from platehide.model_spec import RefinerSpec
from platehide.pixels import ArrayPixels
from platehide.postprocess import merge_group, sigmoid, suppress, tidy_quad, top_candidates
from platehide.preprocess import fit_long_side, stretch
from platehide.refine import refine_quads
from platehide.train.config import TrainConfig
from platehide.train.exporter import load_checkpoint
from platehide.train.models.refiner import REFINER_MARGIN, REFINER_SIZE_WH
from platehide.train.refiner_data import jitter_quad
from platehide.train.samples import read_rgb
from platehide.types import FloatArray, ImageArray

WORST = 40
TILE_WH = (320, 260)
LOOK_LONG_SIDE = 512
LEAST_SCORE = 0.5

Finder = Callable[[ImageArray, PhotoRecord], tuple[list[FloatArray], list[float]]]
"""(photo RGB, record) → quads ``(4, 2)`` in photo px and their scores."""


def _dense(model: nn.Module) -> Finder:
    def find(image: ImageArray, record: PhotoRecord) -> tuple[list[FloatArray], list[float]]:
        seen = fit_long_side(image, LOOK_LONG_SIDE)
        logits, quads = model(torch.from_numpy(seen.pixels[None]))
        scores, cells = top_candidates(
            logits[0].numpy(), quads[0].numpy(), least=LEAST_SCORE, most=300
        )
        found, sure = [], []
        for group in suppress(scores, cells, iou_threshold=0.3):
            merged = seen.to_photo(merge_group(scores, cells, group, share=0.6))
            quad = tidy_quad(merged, image.shape[1], image.shape[0])
            if quad is not None:
                found.append(quad)
                sure.append(float(scores[group[0]]))
        return found, sure

    return find


def _two_head(model: nn.Module, size: int) -> Finder:
    def find(image: ImageArray, record: PhotoRecord) -> tuple[list[FloatArray], list[float]]:
        seen = stretch(image, (size, size))
        corners, presence = model(torch.from_numpy(seen.pixels[None]))
        score = float(sigmoid((presence[0, 1] - presence[0, 0]).numpy()))
        height, width = image.shape[:2]
        quad = tidy_quad(corners[0].numpy().astype(np.float64) * [width, height], width, height)
        return ([quad], [score]) if quad is not None and score >= LEAST_SCORE else ([], [])

    return find


def _refiner(model: nn.Module) -> Finder:
    """Every labelled plate seen through a coarse quad that is wrong as a detector's would be."""
    spec = RefinerSpec("", REFINER_SIZE_WH, REFINER_MARGIN, 2, True)

    def run(crops: ImageArray) -> tuple[FloatArray, FloatArray]:
        corners, logits = model(torch.from_numpy(crops))
        return corners.numpy().astype(np.float64), logits.numpy().astype(np.float64)

    def find(image: ImageArray, record: PhotoRecord) -> tuple[list[FloatArray], list[float]]:
        rng = np.random.default_rng([len(record.name), *record.name.encode()])
        coarse = [jitter_quad(np.asarray(p.polygon), rng, 0.5) for p in record.plates]
        quads, logits = refine_quads(ArrayPixels(image), coarse, spec, run)
        return quads, sigmoid(logits).tolist()

    return find


def finder_for(model: nn.Module, config: TrainConfig) -> Finder:
    """How a task's network finds plates on a whole photo."""
    if config.task == "refiner":
        return _refiner(model)
    if config.task == "two_head":
        return _two_head(model, config.input_size)
    return _dense(model)


def judge_network(
    model: nn.Module, config: TrainConfig, records: Sequence[PhotoRecord], *, quiet: bool = False
) -> tuple[list[PhotoOutcome], dict[str, Prediction]]:
    """Score a network on photos, with nothing calibrated and no margin painted."""
    find = finder_for(model.eval(), config)
    outcomes, predictions = [], {}
    with torch.inference_mode():
        for record in tqdm(records, desc="gallery", unit="photo", disable=quiet):
            quads, scores = find(read_rgb(record), record)
            array = np.array(quads, dtype=np.float64).reshape(-1, 4, 2)
            status = "hidden" if quads else "none"
            seen = Prediction(array, np.array(scores), tuple(array), status)
            outcomes.append(score_photo(record, seen))
            predictions[record.name] = seen
    return outcomes, predictions


def contact_sheet(pictures: Sequence[tuple[str, ImageArray]], columns: int = 5) -> ImageArray:
    """Captioned pictures as one, ``columns`` side by side."""
    width, height = TILE_WH
    tiles = []
    for text, picture in pictures:
        tile = np.full((height, width, 3), 255, np.uint8)
        scale = min(width / picture.shape[1], (height - 20) / picture.shape[0])
        size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
        tile[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        shown = text.encode("ascii", "replace").decode()[-52:]
        font, at = cv2.FONT_HERSHEY_SIMPLEX, (2, height - 6)
        cv2.putText(tile, shown, at, font, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    while len(tiles) % columns or not tiles:
        tiles.append(np.full((height, width, 3), 255, np.uint8))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)


def _write_png(path: Path, picture: ImageArray) -> None:
    ok, code = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError(f"{path}: OpenCV could not encode the picture")
    write_whole(path, code.tobytes())


def write_gallery(
    model: nn.Module,
    config: TrainConfig,
    folder: Path,
    roots: Sequence[Path],
    *,
    quiet: bool = False,
) -> list[Path]:
    """``errors.html`` and ``errors.png`` of the 40 worst ``val`` photos; none where there is no
    ``val`` photo."""
    records = load_records(roots, "val")
    if config.task == "refiner":
        records = [r for r in records if r.plates]
    if not records:
        return []
    outcomes, predictions = judge_network(model, config, records, quiet=quiet)
    by_name = {r.name: r for r in records}
    pictures = []
    for outcome in worst_first(outcomes, WORST):
        record = by_name[outcome.photo]
        quads = list(predictions[record.name].quads)
        pictures.append((caption(outcome), overlay(read_rgb(record), record, quads, [])))
    result = {"model": config.name, "split": "val"} | report(outcomes)
    title = f"{config.name}: worst photos of val (network alone, no margin)"
    html, sheet = folder / "errors.html", folder / "errors.png"
    write_text(html, html_report(result, title, pictures))
    _write_png(sheet, contact_sheet(pictures))
    return [html, sheet]


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves of a run, (step, value) by name; looks at ``val`` are named ``val/…``.

    Raises:
        UsageError: the folder is no run, or its metrics are broken.
    """
    path = folder / "metrics.jsonl"
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            step = int(row.pop("step"))
            looks = row.pop("val", {})
            for name, value in [*row.items(), *((f"val/{k}", v) for k, v in looks.items())]:
                if isinstance(value, int | float) and math.isfinite(value):
                    curves.setdefault(name, []).append((step, float(value)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {error!r}") from error
    return curves


def write_curves(folder: Path) -> list[Path]:
    """``curves.png``: losses, rate, speed and every look at ``val`` over steps; nothing where the
    run has not reported yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = read_metrics(folder)
    if not curves:
        return []
    names = sorted(curves, key=lambda n: (not n.startswith("val/"), n))
    columns = 3
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, number)
        steps, values = zip(*curves[name], strict=True)
        axes.plot(steps, values, marker="." if len(steps) < 60 else "", linewidth=1.2)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.suptitle(folder.name, fontsize=10)
    path = folder / "curves.png"
    part = path.with_name(".curves.part.png")
    figure.savefig(part, dpi=90)
    part.replace(path)
    return [path]


def write_report(
    folder: Path, data: Sequence[Path] | None = None, *, quiet: bool = False
) -> list[Path]:
    """Curves and gallery of a run's best checkpoint; returns the files.

    Raises:
        UsageError: no such run, or no checkpoint in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such run folder")
    checkpoint = load_checkpoint(folder)
    config = checkpoint.config
    roots = list(data) if data else [Path(config.data)]
    return write_curves(folder) + write_gallery(
        checkpoint.model, config, folder, roots, quiet=quiet
    )
