"""``platehide compare``: one table and one Pareto plot over several detectors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="an evaluation (JSON of platehide evaluate --out, or a folder with evaluation.json);"
        " with --data also weights (folder or name), run folders of platehide train, and"
        " predictions (.jsonl) of any detector",
    )
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        metavar="DIR",
        help="annotated photos for runs that have no figures on them yet",
    )
    parser.add_argument("--sets", help="only these sets of --data, comma separated")
    parser.add_argument("--conf", type=float, help="least score of predictions")
    parser.add_argument(
        "--grow", type=float, default=0.0, metavar="SHARE", help="paint predictions larger"
    )
    parser.add_argument(
        "--svg",
        type=Path,
        default=Path("compare.svg"),
        help="leak rate against time, with the Pareto front (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="write the figures of every row as JSON here")
    parser.add_argument("--no-published", action="store_true", help="no row for the published net")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.epilog = "Formats of predictions: docs/evaluation-formats.md."


def run(args: argparse.Namespace) -> int:
    """Compare; returns the exit code."""
    from platehide.cli.evaluate import export_run
    from platehide.evaluate import compare
    from platehide.evaluate.dataset import load_records, require_photos
    from platehide.evaluate.report import write_text

    if args.sets and not args.data:
        raise UsageError("--sets needs --data DIR")
    photos = None
    if args.data:
        for root in args.data:
            if not root.is_dir():
                raise UsageError(f"--data {root}: no such folder")
        sets = args.sets.split(",") if args.sets else None
        records = load_records(args.data, args.split, sets)
        if not records:
            raise UsageError(f"--data {args.data[0]}: no photo in split {args.split}")
        require_photos(records)
        photos = compare.Photos(records, args.split, export_run, args.grow, args.conf, args.quiet)
    results = [compare.load_run(name, args.split, photos) for name in args.runs]
    if not args.no_published:
        results = compare.with_published(results, args.split, photos)
    plot = compare.pareto_svg(results)
    table = compare.table(results)
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    others = compare.other_photos(results)
    if others:
        print(
            f"platehide compare: {', '.join(others)}: measured on other photos than"
            f" {results[0]['model']}; give --data to measure all of them on the same",
            file=sys.stderr,
        )
    if plot is None:
        print("platehide compare: no plot, no row has both a time and a leak rate", file=sys.stderr)
    else:
        write_text(args.svg, plot)
        print(f"plot: {args.svg}")
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")
    return 0
