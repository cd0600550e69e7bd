"""The model card: what weights are, how they decide, what they were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from platehide.evaluate.dataset import PhotoRecord
from platehide.model_spec import ModelSpec
from platehide.train.calibrate import COST_OF_A_LEAK, COST_OF_A_TINY_LEAK


def model_card(spec: ModelSpec, records: Sequence[PhotoRecord]) -> str:
    """Markdown card: files, decisions with their costs on ``val``, every training set with its
    licence.

    Args:
        records: the photos of split ``train``.
    """
    t = spec.thresholds
    doubt = (
        f"`unsure` from {t.unsure:g}" if t.unsure < t.hide else "no `unsure` by confidence alone"
    )
    lines = [
        f"# {spec.model}",
        "",
        f"- kind: {spec.kind}, input {spec.input_size} px"
        + (f", refiner × {spec.refiner.passes}" if spec.refiner else "")
        + (" (the last with its mirror image)" if spec.refiner and spec.refiner.mirrored else ""),
        f"- files: {', '.join(f'{k} (sha256 {v[:12]}…)' for k, v in spec.sha256.items())}",
        f"- trained on data {spec.data_hash[:12]}…, code {spec.git_commit[:20]}",
        f"- confidence calibrated on `val`; a plate is covered from {t.hide:g}, {doubt}",
        f"- made {spec.created}; weights stored as float16, computed in float32",
    ]
    start = spec.notes.get("from")
    if start:
        lines.append(f"- fine-tuned from {start}")
    lines += [
        "",
        "## Use and limits",
        "",
        "Finds licence plates on photos of vehicles so that they can be covered. Figures by set",
        "are in evaluation.json and docs/evaluation.md. Not for reading plates, and no promise for",
        "plates under 32 px, hand-made plates, or scenes unlike the sets below.",
        "",
    ]
    lines += _decisions(spec.notes.get("calibration", {}))
    lines += [
        "## Training sets (split `train`) and the licence each source states",
        "",
        "| set | photos | plates | licence as stated |",
        "|---|--:|--:|---|",
    ]
    for set_name in sorted({r.set_name for r in records}):
        mine = [r for r in records if r.set_name == set_name]
        stated = "; ".join(
            text.replace("|", "/")
            for text, _ in Counter(" ".join(r.licence.split()) for r in mine).most_common(5)
        )
        plates = sum(len(r.plates) for r in mine)
        lines.append(f"| {set_name} | {len(mine)} | {plates} | {stated} |")
    return "\n".join(lines) + "\n"


def _decisions(table: dict[str, Any]) -> list[str]:
    if "costs" not in table:
        return []
    lines = [
        "## Decisions, chosen on `val`",
        "",
        f"A lost plate from 32 px costs {COST_OF_A_LEAK:g} false covers, a smaller one"
        f" {COST_OF_A_TINY_LEAK:g}; {table['plates_never_proposed']} plates from 32 px were never"
        " proposed.",
        "",
        "| covered from | lost, ≥ 32 px | lost, smaller | false covers | cost |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in table["costs"]:
        lines.append(
            f"| {row['hide']:g} | {row['lost']} | {row['lost_tiny']} | {row['false']} |"
            f" {row['cost']:g} |"
        )
    lines += [
        "",
        f"Reliability over {table['candidates']} candidates (plot: reliability.svg): expected"
        f" calibration error {table['expected_calibration_error']:.4f}, Brier {table['brier']}.",
        "",
        "| confidence | candidates | share that are plates | 95 % interval |",
        "|---|--:|--:|--:|",
    ]
    for row in table["bins"]:
        if row["count"]:
            lines.append(
                f"| {row['from']:.1f}–{row['from'] + 0.1:.1f} | {row['count']} |"
                f" {100 * row['share']:.1f} % | {100 * row['low']:.1f} to"
                f" {100 * row['high']:.1f} % |"
            )
    return [*lines, ""]
