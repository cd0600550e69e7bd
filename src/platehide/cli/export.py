"""``platehide export``: a run's checkpoint becomes versioned weights with a spec and a card."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder or checkpoint")
    parser.add_argument("--name", help="model name (default: the run's)")
    parser.add_argument("--version", default="0.1.0", help="version (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="default %(default)s")
    parser.add_argument("--refiner", type=Path, help="run folder of the corner refiner")
    parser.add_argument("--passes", type=int, default=2, help="refiner passes (default 2)")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the refiner's last pass looks at the mirror image as well (default: yes)",
    )
    parser.add_argument("--input-size", type=int, help="long side when serving (dense)")
    parser.add_argument(
        "--data", type=Path, action="append", help="annotated photos (default: ../shared/photos)"
    )
    parser.add_argument(
        "--eight-bits", action="store_true", help="run the dense network in 8 bits (faster)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--margin-of-doubt", type=float, default=0.0, help="width of the unsure band below hide"
    )


def run(args: argparse.Namespace) -> int:
    """Export, calibrate on ``val``, write spec and card; returns the exit code."""
    from platehide.errors import UsageError
    from platehide.train.release import Serving, parts_of, release

    roots = args.data or [Path("../shared/photos")]
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"--data {root}: no such folder")
    if not 1 <= args.passes <= 8:
        raise UsageError(f"--passes {args.passes}: expected 1 to 8")
    if args.input_size is not None and not 32 <= args.input_size <= 4096:
        raise UsageError(f"--input-size {args.input_size}: expected 32 to 4096")
    if not 0.0 <= args.margin_of_doubt < 1.0:
        raise UsageError(f"--margin-of-doubt {args.margin_of_doubt}: expected 0 to 1")
    parts = parts_of(args.run_folder, args.refiner)
    spec, folder = release(
        parts,
        out=args.out,
        data=roots,
        name=args.name or parts.main.config.name,
        version=args.version,
        serving=Serving(
            input_size=args.input_size,
            passes=args.passes,
            mirrored=args.mirror,
            margin_of_doubt=args.margin_of_doubt,
            eight_bits=args.eight_bits,
        ),
        quiet=args.quiet,
    )
    given = " ".join(f"--data {root}" for root in roots)
    print(f"{folder}: {spec.model}, hide from {spec.thresholds.hide:.3f}")
    print(f"next: platehide evaluate --model {folder} {given} --split test")
    return 0
