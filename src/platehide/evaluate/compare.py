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
    right = 1.25 * max(p[0] for p in points)
    top = max(5.0, 1.15 * max(p[1] for p in points))

    def at(ms: float, leak: float) -> tuple[float, float]:
        return 60 + 560 * ms / right, 350 - 330 * leak / top

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 400" font-family="sans-serif"'
        ' font-size="13"><rect width="640" height="400" fill="white"/>'
        '<path d="M60 20V350H620" fill="none" stroke="#333"/>'
        '<text x="340" y="388" text-anchor="middle">ms a photo, one thread</text>'
        '<text x="16" y="190" transform="rotate(-90 16 190)" text-anchor="middle">'
        "leak rate, plates from 32 px, %</text>"
    ]
    for tick in range(5):
        x, y = 60 + 560 * tick / 4, 350 - 330 * tick / 4
        parts.append(
            f'<text x="{x:.0f}" y="366" text-anchor="middle">{right * tick / 4:.0f}</text>'
            f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{top * tick / 4:.0f}</text>'
        )
    kept = front([(p[0], p[1]) for p in points])
    steps = " ".join("{:.1f},{:.1f}".format(*at(*points[i][:2])) for i in kept)
    parts.append(
        f'<polyline points="{steps}" fill="none" stroke="#1a56b0" stroke-dasharray="5 4"/>'
    )
    for index, (ms, leak, name) in enumerate(points):
        x, y = at(ms, leak)
        fill = "#1a56b0" if index in kept else "#9aa4b2"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}"/>')
        end = ' text-anchor="end"' if x > 420 else ""
        shift = -8 if end else 8
        parts.append(f'<text x="{x + shift:.1f}" y="{y - 7:.1f}"{end}>{html.escape(name)}</text>')
    return "".join(parts) + "</svg>\n"
