"""``platehide evaluate``: the metrics of docs/metrics.md, per set, with intervals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", help="name, name@version or folder (default: CURRENT)")
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated photos")
    parser.add_argument("--split", choices=["train", "val", "test"], default="val")
    parser.add_argument("--sets", help="only these sets, comma separated")
    parser.add_argument("--conf", type=float, help="confidence from which a plate is covered")
    parser.add_argument("--limit", type=int, help="only every n-th photo, about this many")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--html", type=Path, help="write a report with the 40 worst photos here")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.epilog = (
        "The HTML report shows real plates where the photos do: keep it out of the repository."
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from platehide.detector import load_detector
    from platehide.evaluate.dataset import data_hash, load_records
    from platehide.evaluate.report import text_table, write_text
    from platehide.evaluate.runner import detector_predictor, report, run_records

    if args.conf is not None and not 0.0 <= args.conf <= 1.0:
        raise UsageError(f"--conf {args.conf}: expected 0 to 1")
    if not args.data.is_dir():
        raise UsageError(f"--data {args.data}: no such folder")
    sets = args.sets.split(",") if args.sets else None
    records = load_records(args.data, args.split, sets)
    if args.limit and len(records) > args.limit:
        records = records[:: max(1, len(records) // args.limit)]
    if not records:
        raise UsageError(f"{args.data}: no photo in split {args.split}")
    detector = load_detector(args.model)
    outcomes = run_records(records, detector_predictor(detector, args.conf), quiet=args.quiet)
    result: dict[str, Any] = {
        "model": detector.model,
        "split": args.split,
        "data_hash": data_hash(records),
        "conf": detector.spec.thresholds.hide if args.conf is None else args.conf,
    } | report(outcomes)
    text = json.dumps(result, indent=1) + "\n"
    if args.out:
        write_text(args.out, text)
    if args.html:
        _write_html(args.html, result, records, outcomes, detector, args.conf)
    print(text if args.json else f"{detector.model}, {args.split}\n{text_table(result)}")
    return 0


def _write_html(
    path: Path, result: dict[str, Any], records: Any, outcomes: Any, detector: Any, conf: Any
) -> None:
    from platehide.evaluate.report import html_report, overlay, worst_first, write_text
    from platehide.evaluate.runner import detector_predictor
    from platehide.formats import open_photo

    by_name = {r.name: r for r in records}
    predict = detector_predictor(detector, conf)
    gallery = []
    for outcome in worst_first(outcomes, 40):
        record = by_name[outcome.photo]
        frame = open_photo(record.path.read_bytes()).frames[0]
        width, height = frame.size_wh
        prediction = predict(frame)
        picture = overlay(
            frame.region((0, 0, width, height)), record, list(prediction.quads), prediction.painted
        )
        covered = ", ".join(f"{p.covered:.2f}" for p in outcome.plates) or "no plate"
        gallery.append((f"{outcome.photo}: coverage {covered}", picture))
    title = f"{result['model']} on {result['split']}"
    write_text(path, html_report(result, title, gallery))
