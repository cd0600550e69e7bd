"""``platehide gate``: refuse weights that are bad, half-measured, damaged or slower."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("candidate", help="folder of weights, name or name@version")
    parser.add_argument("--baseline", help="what it is measured against (default: CURRENT)")
    parser.add_argument("--no-baseline", action="store_true", help="floors only (a first release)")
    parser.add_argument("--data", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--limit", type=int, help="about this many photos only")
    parser.add_argument("--floors", type=Path, help="default: floors.json beside CURRENT")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "Exit code 0: may land; 1: refused, one sentence a reason."


def run(args: argparse.Namespace) -> int:
    """Gate; returns the exit code."""
    from platehide.detector import OnnxDetector
    from platehide.evaluate import gate
    from platehide.evaluate.dataset import load_records
    from platehide.model_spec import read_spec
    from platehide.weights import Weights, resolve, weights_root

    folder = resolve(args.candidate)
    floors = gate.read_floors(args.floors or weights_root() / "floors.json")
    reasons = gate.check_files(folder)
    ratios: dict[str, float] = {}
    if not reasons:
        if not args.data.is_dir():
            raise UsageError(f"--data {args.data}: no such folder; nothing can be measured")
        records = load_records(args.data, args.split)
        whole = not args.limit or len(records) <= args.limit
        if not whole:
            records = records[:: max(1, len(records) // args.limit)]

        def measure(where: Path) -> gate.Measured:
            spec = read_spec(where / "spec.json")
            return gate.measure(OnnxDetector(Weights(where, spec)), records)

        candidate = measure(folder)
        baseline = None
        if not args.no_baseline:
            base = resolve(args.baseline)
            baseline = candidate if base.resolve() == folder.resolve() else measure(base)
            ratios[baseline.model] = baseline.ratio_p95
        ratios[candidate.model] = candidate.ratio_p95
        reasons = gate.judge(candidate, baseline, floors)
        if whole:
            reasons += gate.reproduces(folder, candidate, args.split)
    if args.json:
        print(json.dumps({"candidate": str(folder), "reasons": reasons, "p95_ratio": ratios}))
    else:
        for reason in reasons:
            print(f"refused: {reason}")
        if not reasons:
            print(f"{folder}: may land")
    return 1 if reasons else 0
