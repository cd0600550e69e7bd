"""``platehide benchmark``: p50/p95/p99 by stage on one thread, the reference in the same run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("photos", nargs="+", metavar="PHOTOS", help="files, folders or globs")
    parser.add_argument("--model", help="name, name@version or folder (default: CURRENT)")
    parser.add_argument("--size", help="WIDTHxHEIGHT: scale and cut every photo to it first")
    parser.add_argument("--limit", type=int, default=100, help="photos at most (default 100)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--verify", choices=["full", "fast", "off"], help="proof on the output")
    parser.add_argument(
        "--io", action="store_true", help="compare the JPEG edit with decode + encode instead"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/benchmark"), help="folder for converted photos"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.epilog = (
        "The reference is the published two-head ResNet18 at 224 px, one thread, run between\n"
        "every two photos; shared machines are noisy, so quote the ratios."
    )


def run(args: argparse.Namespace) -> int:
    """Benchmark; returns the exit code."""
    from platehide.evaluate import benchmark as bench
    from platehide.files import expand_inputs
    from platehide.pipeline import PlateHider

    paths = [Path(item.path) for item in expand_inputs(args.photos).photos]
    step = max(1, len(paths) // max(1, args.limit))
    paths = paths[::step][: args.limit]
    if args.io:
        from platehide.evaluate import benchmark_io

        measured = benchmark_io.run(paths, args.cache, repeats=args.repeats)
        print(json.dumps(measured, indent=1) if args.json else benchmark_io.table(measured))
        return 0
    size = None
    if args.size:
        try:
            width, height = (int(v) for v in args.size.lower().split("x"))
        except ValueError as error:
            raise UsageError(f"--size {args.size}: expected WIDTHxHEIGHT") from error
        size = (width, height)
    options = {} if args.verify is None else {"verify": args.verify}
    hider = PlateHider(model=args.model, **options)
    result = bench.benchmark(bench.read_photos(paths, size), hider, repeats=args.repeats)
    print(json.dumps(result, indent=1) if args.json else bench.text_report(result))
    return 0
