"""Write docs/evaluation.md from the evaluation.json files of the released weights.

Run `python -m platehide.evaluate.page weights docs/evaluation.md`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from platehide.evaluate.metrics import Share
from platehide.evaluate.report import markdown_table, write_text

MAIN_PLATE_SETS = ("algeria-ouedkniss", "ealpr-egypt", "kaggle-n225", "stanford-cars-doc")
"""Photos with one main plate: the goals of the first network are over these."""


def pooled(result: dict[str, Any], metric: str, sets: tuple[str, ...]) -> dict[str, Any]:
    """A counted share summed over sets."""
    parts = [result["sets"][s][metric] for s in sets if s in result["sets"]]
    return Share(sum(p["count"] for p in parts), sum(p["total"] for p in parts)).to_json()


def _share(value: dict[str, Any]) -> str:
    return f"{100 * value['value']:.1f} % ({value['count']}/{value['total']})"


def page(weights: Path) -> str:
    """The page's Markdown."""
    current = (weights / "CURRENT").read_text(encoding="utf-8").strip()
    lines = [
        "# Evaluation of the released weights",
        "",
        "Made by `python -m platehide.evaluate.page weights docs/evaluation.md` from each folder's",
        "`evaluation.json`; definitions in [metrics.md](metrics.md). Shares are over plates, false",
        "covers over photos without a plate. Default model: `" + current + "`.",
        "",
    ]
    for path in sorted(weights.glob("*/*/evaluation.json")):
        both = json.loads(path.read_text(encoding="utf-8"))
        lines += [f"## {both['test']['model']}", ""]
        for split in ("test", "val"):
            result = both[split]
            main = pooled(result, "recall50", MAIN_PLATE_SETS)
            lines += [
                f"### {split}",
                "",
                f"Photos with one main plate ({', '.join(MAIN_PLATE_SETS)}): recall@0.5"
                f" {_share(main)}.",
                "",
                markdown_table(result),
                "",
                "| plate width | plates | recall@0.5 | leak rate | 95 % interval |",
                "|---|--:|--:|--:|--:|",
            ]
            for band, leak in result["all"]["leak_by_width"].items():
                recall = result["all"]["recall50_by_width"][band]
                if leak["total"]:
                    lines.append(
                        f"| {band} px | {leak['total']} | {100 * recall['value']:.1f} % |"
                        f" {100 * leak['value']:.1f} % |"
                        f" {100 * leak['low']:.1f} to {100 * leak['high']:.1f} % |"
                    )
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    write_text(Path(sys.argv[2]), page(Path(sys.argv[1])))
