"""``platehide compare``: one table and one Pareto plot over several evaluations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="evaluation JSON files (platehide evaluate --out) or folders with evaluation.json",
    )
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--svg", type=Path, help="write leak rate against time here")


def _load(name: str, split: str) -> dict[str, Any]:
    path = Path(name)
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    found = raw if "all" in raw else raw.get(split)
    if not isinstance(found, dict) or "all" not in found:
        raise UsageError(f"{path}: no evaluation for split {split}")
    return found


def run(args: argparse.Namespace) -> int:
    """Compare; returns the exit code."""
    from platehide.evaluate.report import rows, write_text

    results = [_load(name, args.split) for name in args.runs]
    table: list[list[str]] = []
    for result in results:
        header, *_, total = rows(result)
        if not table:
            table.append(["model", *header[1:], "ms p50"])
        ms = result["all"].get("ms_p50")
        table.append(
            [str(result.get("model", "?")), *total[1:], "–" if ms is None else f"{ms:.0f}"]
        )
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)))
    if args.svg:
        write_text(args.svg, pareto_svg(results))
        print(f"plot: {args.svg}")
    return 0


def pareto_svg(results: list[dict[str, Any]]) -> str:
    """Leak rate (≥ 32 px) against detection time as a small self-contained SVG."""
    points = []
    for result in results:
        values = result["all"]
        if values.get("ms_p50") is not None and values["leak_ge32"]["value"] is not None:
            points.append((values["ms_p50"], 100 * values["leak_ge32"]["value"], result["model"]))
    if not points:
        raise UsageError("no evaluation has both a time and a leak rate")
    right = 1.15 * max(p[0] for p in points)
    top = max(5.0, 1.15 * max(p[1] for p in points))
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
        )
        parts.append(f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{top * tick / 4:.0f}</text>')
    for ms, leak, name in points:
        x, y = 60 + 560 * ms / right, 350 - 330 * leak / top
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#1a56b0"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 6:.1f}">{name}</text>')
    return "".join(parts) + "</svg>\n"
