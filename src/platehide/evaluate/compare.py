"""Several detectors side by side: one table, and leak rate against time with the Pareto front."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platehide.errors import PlateHideError, UsageError
from platehide.evaluate.dataset import PhotoRecord, data_hash
from platehide.evaluate.report import rows
from platehide.evaluate.run import judge_file, judge_model
from platehide.evaluate.runs import ExportRun, is_run, measurable, weights_inside
from platehide.weights import resolve

PUBLISHED = "two-head-resnet18"
"""The published network: a row of every table."""


@dataclass(frozen=True)
class Photos:
    """The photos that runs without figures of their own are judged on; ``export_run`` makes
    weights of a training's run folder."""

    records: Sequence[PhotoRecord]
    split: str
    export_run: ExportRun
    grow: float = 0.0
    conf: float | None = None
    quiet: bool = True


def _read(path: Path, split: str) -> dict[str, Any]:
    """An evaluation: a file that ``evaluate --out`` wrote, or an evaluation.json of weights."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    found = raw if isinstance(raw, dict) and "all" in raw else None
    if found is None and isinstance(raw, dict):
        found = raw.get(split)
    if not isinstance(found, dict) or not {"all", "sets"} <= set(found):
        raise UsageError(f"{path}: no evaluation for split {split}")
    if found.get("split", split) != split:
        raise UsageError(f"{path}: figures of split {found['split']}, asked for {split}")
    if not isinstance(found["all"], dict) or not isinstance(found["all"].get("leak_ge32"), dict):
        raise UsageError(f"{path}: half-measured, no leak rate for split {split}")
    return {"model": path.stem} | found


def load_run(name: str, split: str, photos: Photos | None) -> dict[str, Any]:
    """Figures of one RUN: an evaluation's JSON; predictions (``.jsonl``); a folder of weights or
    their name; the run folder of a training.

    Args:
        photos: what runs without figures of their own are judged on.

    Raises:
        UsageError: it is none of these, or there is no photo to judge it on.
    """
    path = Path(name)
    if path.suffix == ".jsonl":
        if photos is None:
            raise UsageError(f"{name}: predictions need --data DIR to be judged on")
        judged = judge_file(path, photos.records, split, conf=photos.conf, grow=photos.grow)
        return judged.result
    if path.is_file():
        return _read(path, split)
    inside = None if (path / "spec.json").is_file() else weights_inside(path)
    if inside is not None:
        name, path = str(inside), inside
    if (path / "evaluation.json").is_file():
        found = _read(path / "evaluation.json", split)
        if photos is None or found.get("data_hash") == data_hash(photos.records):
            return found
    if is_run(path):
        if photos is None:
            raise UsageError(f"{name}: a training's network needs --data DIR to be judged on")
        with measurable(name, photos.records, photos.export_run) as exported:
            return judge_model(exported, photos.records, split, quiet=photos.quiet).result
    try:
        folder = resolve(name)
    except UsageError as error:
        raise UsageError(
            f"{name}: no evaluation, predictions, weights or run folder ({error})"
        ) from error
    if photos is not None:
        return judge_model(str(folder), photos.records, split, quiet=photos.quiet).result
    return _read(folder / "evaluation.json", split)


def with_published(
    results: Sequence[dict[str, Any]], split: str, photos: Photos | None
) -> list[dict[str, Any]]:
    """The results and, where it is not among them, the published network's, last."""
    every = list(results)
    if any(str(r.get("model", "")).startswith(f"{PUBLISHED}@") for r in every):
        return every
    try:
        folder = resolve(PUBLISHED)
    except PlateHideError:
        return every
    return [*every, load_run(str(folder), split, photos)]


def other_photos(results: Sequence[dict[str, Any]]) -> list[str]:
    """Models whose figures are of other photos than the first one's: not comparable."""
    first = results[0].get("data_hash")
    return [str(r["model"]) for r in results[1:] if r.get("data_hash") != first]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats in both values (smaller is better), by the first
    value."""
    kept: list[int] = []
    lowest = math.inf
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if points[index][1] < lowest:
            kept.append(index)
            lowest = points[index][1]
    return kept


def _points(results: Sequence[dict[str, Any]]) -> list[tuple[float, float, str]]:
    found = []
    for result in results:
        ms, leak = result["all"].get("ms_p50"), result["all"]["leak_ge32"]["value"]
        if ms is not None and leak is not None:
            found.append((float(ms), 100 * float(leak), str(result["model"])))
    return found


def table(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Header and one row a model, as texts."""
    lines: list[list[str]] = []
    points = _points(results)
    best = {points[i][2] for i in front([(p[0], p[1]) for p in points])}
    for result in results:
        header, *_, total = rows(result)
        if not lines:
            lines.append(["model", *header[1:], "ms p50", "× ref", "Pareto"])
        ratio = result["all"].get("ratio_p50")
        ms, name = result["all"].get("ms_p50"), str(result["model"])
        shown = f"{name} (published)" if name.startswith(f"{PUBLISHED}@") else name
        time = "–" if ms is None else f"{ms:.0f}"
        relative = "–" if ratio is None else f"{ratio:.2f}"
        lines.append([shown, *total[1:], time, relative, "*" if name in best else ""])
    return lines


def pareto_svg(results: Sequence[dict[str, Any]]) -> str | None:
    """Leak rate (≥ 32 px) against detection time as a small self-contained SVG, the front drawn;
    ``None`` where no evaluation has both."""
    points = _points(results)
    if not points:
        return None
    across, up = (
        _ticks(1.15 * max(p[0] for p in points)),
        _ticks(max(5.0, 1.1 * max(p[1] for p in points))),
    )

    def at(ms: float, leak: float) -> tuple[float, float]:
        return 60 + 560 * ms / across[-1], 350 - 330 * leak / up[-1]

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 400" font-family="sans-serif"'
        ' font-size="13"><rect width="640" height="400" fill="white"/>'
        '<path d="M60 20V350H620" fill="none" stroke="#333"/>'
        '<text x="340" y="388" text-anchor="middle">ms a photo, one thread</text>'
        '<text x="16" y="190" transform="rotate(-90 16 190)" text-anchor="middle">'
        "leak rate, plates from 32 px, %</text>"
    ]
    for value in across:
        x = at(value, 0)[0]
        parts.append(f'<text x="{x:.0f}" y="366" text-anchor="middle">{value:g}</text>')
    for value in up:
        y = at(0, value)[1]
        parts.append(f'<path d="M60 {y:.0f}H620" stroke="#e5e7eb"/>')
        parts.append(f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
    kept = front([(p[0], p[1]) for p in points])
    steps = " ".join("{:.1f},{:.1f}".format(*at(*points[i][:2])) for i in kept)
    parts.append(
        f'<polyline points="{steps}" fill="none" stroke="#1a56b0" stroke-dasharray="5 4"/>'
    )
    placed: list[tuple[float, float, float]] = []
    for index, (ms, leak, name) in enumerate(points):
        x, y = at(ms, leak)
        fill = "#1a56b0" if index in kept else "#9aa4b2"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}"/>')
        left, base = _free_place(x, y, 7.4 * len(name), placed)
        placed.append((left, base, 7.4 * len(name)))
        parts.append(f'<text x="{left:.1f}" y="{base:.1f}">{html.escape(name)}</text>')
    return "".join(parts) + "</svg>\n"


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to ``most`` or a little more: four to seven of them."""
    unit = 10.0 ** math.floor(math.log10(most))
    step = next(s * unit for s in (0.2, 0.25, 0.5, 1.0, 2.0) if most / (s * unit) <= 6.0)
    return [round(step * i, 10) for i in range(math.ceil(most / step) + 1)]


def _free_place(
    x: float, y: float, width: float, placed: Sequence[tuple[float, float, float]]
) -> tuple[float, float]:
    """Left end and baseline of a label beside its point, moved up until it lies on no other."""
    left = x + 8 if x + 8 + width < 636 else max(2.0, x - 8 - width)
    base = y - 7
    while any(
        abs(base - b) < 14 and left < other + w and other < left + width for other, b, w in placed
    ):
        base -= 14
    return left, base
