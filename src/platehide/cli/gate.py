"""``platehide gate``: refuse weights that are bad, half-measured, damaged or slower."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.weights import Weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("candidate", help="folder of weights, name or name@version")
    parser.add_argument("--baseline", help="what it is measured against (default: CURRENT)")
    parser.add_argument("--no-baseline", action="store_true", help="floors only (a first release)")
    parser.add_argument(
        "--data", type=Path, action="append", help="annotated photos (default: ../shared/photos)"
    )
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="measure whole sets with about N photos together; the floors are then held against"
        " the committed figures that those sets have reproduced",
    )
    parser.add_argument(
        "--crops", type=int, default=1000, metavar="N", help="plate-free crops (default 1000)"
    )
    parser.add_argument("--floors", type=Path, help="default: floors.json beside CURRENT")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.epilog = "Exit code 0: may land; 1: refused, one sentence a reason."


def against_torch(weights: Weights, records: Sequence[PhotoRecord]) -> list[str]:
    """Compare ONNX with torch; without torch that is a missing measurement."""
    try:
        from platehide.train.restore import check_against_torch
    except ModuleNotFoundError as error:
        return [
            f"ONNX was not compared with torch on photos: {error.name} is not installed"
            " (pip install 'platehide[train]')"
        ]
    return check_against_torch(weights, records)


def run(args: argparse.Namespace) -> int:
    """Gate; returns the exit code."""
    from platehide.evaluate.dataset import load_records
    from platehide.evaluate.gate import check_files, read_floors
    from platehide.evaluate.landing import Verdict, verdict
    from platehide.weights import resolve, weights_root

    folder = resolve(args.candidate)
    floors = read_floors(args.floors or weights_root() / "floors.json")
    roots = args.data or [Path("../shared/photos")]
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit}: expected 1 or more")
    damage = check_files(folder)
    if damage:
        found = Verdict(tuple(damage))
    else:
        for root in roots:
            if not root.is_dir():
                raise UsageError(f"--data {root}: no such folder; nothing can be measured")
        records = load_records(roots, args.split)
        if not records:
            raise UsageError(f"--data {roots[0]}: no photo in split {args.split}")
        found = verdict(
            folder,
            None if args.no_baseline else resolve(args.baseline),
            records,
            args.split,
            floors,
            against_torch=against_torch,
            limit=args.limit,
            crops=args.crops,
            quiet=args.quiet,
        )
    if args.json:
        print(json.dumps(found.to_json(folder)))
        return 1 if found.reasons else 0
    for reason in found.reasons:
        print(f"refused: {reason}")
    if not found.reasons:
        print(f"{folder}: may land")
    return 1 if found.reasons else 0
