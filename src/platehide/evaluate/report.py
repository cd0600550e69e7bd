"""Tables and the self-contained HTML report of an evaluation."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import PhotoOutcome
from platehide.files import write_result
from platehide.types import FloatArray, ImageArray

COLUMNS: tuple[tuple[str, str], ...] = (
    ("photos", "photos"),
    ("plates", "plates"),
    ("recall@0.5", "recall50"),
    ("≥32 px", "recall50_ge32"),
    ("recall@0.75", "recall75"),
    ("precision", "precision50"),
    ("leak ≥32 px", "leak_ge32"),
    ("leak, quads", "leak_ge32_quads"),
    ("quad IoU", "quad_iou"),
    ("corner err. %", "corner_error_median"),
    ("p95 %", "corner_error_p95"),
    ("over-cover", "over_cover"),
    ("false covers", "false_covers"),
    ("on crops", "false_covers_crops"),
    ("unsure", "unsure"),
)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        if not value["total"]:
            return "–"
        if key.startswith("false_covers"):
            return f"{value['count']}/{value['total']}"
        return f"{100 * value['value']:.1f} %"
    if key.startswith("corner_error"):
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _with_interval(key: str, value: Any) -> str:
    """The cell, and a share's Wilson 95 % interval in per cent."""
    text = _cell(key, value)
    if not isinstance(value, dict) or not value["total"]:
        return text
    return f"{text}\n{100 * value['low']:.0f}–{100 * value['high']:.0f}"


def rows(result: dict[str, Any], *, intervals: bool = False) -> list[list[str]]:
    """Header and one row a set, ``all`` last, as texts; shares with their intervals on a second
    line if wanted."""
    cell = _with_interval if intervals else _cell
    table = [["set", *(title for title, _ in COLUMNS)]]
    crops = result.get("crops", {}).get("sets", {})
    for name, values in [*result["sets"].items(), ("all", result["all"])]:
        here = crops.get(name) if name != "all" else None
        if here:
            values = values | {"false_covers_crops": here["false_covers"]}
        table.append([name, *(cell(key, values.get(key)) for _, key in COLUMNS)])
    return table


def band_rows(result: dict[str, Any]) -> list[list[str]]:
    """Header and one row a band of plate widths, with Wilson intervals, as texts."""

    def interval(share: dict[str, Any]) -> str:
        return f"{100 * share['low']:.1f} to {100 * share['high']:.1f} %"

    table = [["plate width", "plates", "recall@0.5", "95 % interval", "leak rate", "95 % interval"]]
    for name, leak in result["all"]["leak_by_width"].items():
        recall = result["all"]["recall50_by_width"][name]
        shown = [_cell("", recall), interval(recall), _cell("", leak), interval(leak)]
        table.append([f"{name} px", str(leak["total"]), *shown])
    return table


def costs(result: dict[str, Any]) -> str:
    """Time and memory of the detection in one sentence; empty where neither was measured."""
    every = result["all"]
    said = []
    if every.get("ms_p50") is not None:
        known = [q for q in ("p50", "p95", "p99") if every.get(f"ms_{q}") is not None]
        times = ", ".join(f"{q} {every[f'ms_{q}']:.1f} ms" for q in known)
        said.append(f"detection of a decoded photo, one thread: {times}")
        if every.get("ratio_p50") is not None:
            given = [every[f"ratio_{q}"] for q in known if f"ratio_{q}" in every]
            ratios = " / ".join(f"{value:.2f}" for value in given)
            said.append(f"{ratios} × the reference network of the same run")
    if every.get("memory_mib") is not None:
        said.append(f"peak memory {every['memory_mib']:.0f} MiB")
    return "; ".join(said)


def text_table(result: dict[str, Any]) -> str:
    """The table of sets for a terminal."""
    return _aligned(rows(result))


def text_report(result: dict[str, Any]) -> str:
    """Everything a terminal is shown: by set, by plate width, crops, time and memory."""
    leak = result["all"]["leak_ge32"]
    lines = [
        f"{result['model']}, {result['split']}",
        text_table(result),
        "",
        _aligned(band_rows(result)),
        "",
    ]
    if leak["total"]:
        low, high = 100 * leak["low"], 100 * leak["high"]
        lines.append(
            f"leak rate from 32 px: {100 * leak['value']:.1f} % (95 % interval {low:.1f} to"
            f" {high:.1f} %)"
        )
    crops = result.get("crops")
    if crops:
        false = crops["false_covers"]
        lines.append(
            f"plate-free crops: {false['count']} false covers on {false['total']}"
            f" ({100 * (false['value'] or 0.0):.1f} per 100,"
            f" {100 * false['low']:.1f} to {100 * false['high']:.1f})"
        )
    spent = costs(result)
    return "\n".join([*lines, spent] if spent else lines)


def _aligned(table: list[list[str]]) -> str:
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(r, widths, strict=True))
        )
        for r in table
    )


def markdown_table(result: dict[str, Any]) -> str:
    """The table for docs/evaluation.md."""
    table = rows(result)
    lines = ["| " + " | ".join(r) + " |" for r in table]
    lines.insert(1, "|---|" + "--:|" * (len(table[0]) - 1))
    return "\n".join(lines)


def worst_first(outcomes: Sequence[PhotoOutcome], count: int) -> list[PhotoOutcome]:
    """Photos by badness: uncovered plates first, then false covers, then loose covers."""

    def badness(o: PhotoOutcome) -> tuple[float, float]:
        leaked = sum(1.0 + (0.95 - p.covered) for p in o.plates if p.leaked and p.width_px >= 32)
        false = float(o.painted) if not o.plates else 0.0
        over = o.over_cover if np.isfinite(o.over_cover) else 0.0
        return leaked + false, over

    return sorted(outcomes, key=badness, reverse=True)[:count]


def overlay(
    image: ImageArray,
    record: PhotoRecord,
    quads: Sequence[FloatArray],
    painted: Sequence[FloatArray],
    long_side: int = 480,
) -> ImageArray:
    """A reduced copy with the truth (quad green, box blue), predictions red, covers yellow."""
    scale = min(1.0, long_side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def draw(polygon: FloatArray, colour: tuple[int, int, int]) -> None:
        points = np.round(np.asarray(polygon) * scale * 8).astype(np.int32)
        cv2.polylines(canvas, [points], True, colour, 1, cv2.LINE_AA, 3)

    for plate in record.plates:
        draw(plate.polygon, (0, 220, 0) if plate.quad is not None else (60, 120, 255))
    for polygon in painted:
        draw(polygon, (255, 220, 0))
    for quad in quads:
        draw(quad, (255, 40, 40))
    return np.asarray(canvas, dtype=np.uint8)


STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:82rem;padding:0 1rem}"
    "h1{overflow-wrap:anywhere}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;"
    "overflow-x:auto}td,th{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right;"
    "vertical-align:top;white-space:nowrap}th{white-space:normal}"
    # The name stays in sight while a phone's reader scrolls to the figures.
    "td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:#fff;"
    "white-space:normal;min-width:6.5rem;max-width:11rem;overflow-wrap:anywhere}"
    ".g{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;max-width:22rem}"
    "img{max-width:100%}figcaption{font-size:12px;color:#444;overflow-wrap:anywhere}"
)


def _facts(result: dict[str, Any]) -> str:
    """What was measured, in one line."""
    said = [f"{result['all']['photos']} photos, {result['all']['plates']} plates"]
    if result.get("conf") is not None:
        said.append(f"covered from confidence {result['conf']:g}")
    if result.get("data_hash"):
        said.append(f"data {result['data_hash'][:12]}")
    spent = costs(result)
    return "; ".join([*said, spent] if spent else said) + "."


def html_report(
    result: dict[str, Any],
    title: str,
    gallery: Sequence[tuple[str, ImageArray]],
) -> str:
    """A self-contained page: the table, leaks by plate width, and pictures with captions."""
    newline = "\n"

    def table_html(table: list[list[str]]) -> str:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in table[0])
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(c).replace(newline, '<br>')}</td>" for c in r)
            + "</tr>"
            for r in table[1:]
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    seen = result.get("crops")
    crops = ""
    if seen:
        lines = [["set", "photos", "crops", "false covers", "per 100", "95 % interval", "unsure"]]
        for name, row in [*seen["sets"].items(), ("all", seen)]:
            false = row["false_covers"]
            lines.append(
                [
                    name,
                    str(row["photos"]),
                    str(row["crops"]),
                    str(false["count"]),
                    "–" if false["value"] is None else f"{100 * false['value']:.1f}",
                    f"{100 * false['low']:.1f} to {100 * false['high']:.1f}",
                    _cell("", row["unsure"]),
                ]
            )
        crops = (
            "<h2>Plate-free crops</h2><p>Parts of at least 256 × 256 px, without a plate, of"
            f" photos on which every readable plate is labelled.</p>{table_html(lines)}"
        )
    figures = []
    for caption, picture in gallery:
        ok, code = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [1, 80])
        if ok:
            data = base64.b64encode(code.tobytes()).decode()
            figures.append(
                f'<figure><img alt="{html.escape(caption)}" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(_facts(result))}</p><h2>By set</h2>"
        "<p>Second line: the 95 % interval (Wilson), in per cent.</p>"
        f"{table_html(rows(result, intervals=True))}"
        f"<h2>By plate width</h2>{table_html(band_rows(result))}{crops}"
        "<h2>Worst photos</h2><p>Truth green (quad) or blue (box), found red, painted yellow.</p>"
        f'<div class="g">{"".join(figures)}</div></html>'
    )


def write_text(path: Path, text: str) -> None:
    """Write under a temporary name, then rename."""
    write_result(path, text.encode("utf-8"))
