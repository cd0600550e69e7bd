"""``platehide evaluate``: the metrics of docs/metrics.md, per set, with intervals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from platehide.errors import UsageError

if TYPE_CHECKING:  # imported only when the command runs
    from platehide.evaluate.dataset import PhotoRecord
    from platehide.evaluate.run import Judged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--model",
        help="name, name@version, folder of weights, or a run folder of platehide train (default:"
        " CURRENT)",
    )
    what.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="JSONL of another detector's boxes or quads instead of a model",
    )
    what.add_argument(
        "--predictor",
        metavar="MODULE:FUNCTION",
        help="a Python function from a picture to boxes or quads instead of a model",
    )
    parser.add_argument("--name", help="name in the tables (predictions; default: the file's)")
    parser.add_argument(
        "--grow",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="paint predictions grown by this share of their size (default: as they are)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="extend",
        nargs="+",
        metavar="DIR",
        help="annotated photos, a set or a folder of sets",
    )
    parser.add_argument("--split", choices=["train", "val", "test"], default="val")
    parser.add_argument("--sets", help="only these sets, comma separated")
    parser.add_argument("--conf", type=float, help="confidence from which a plate is covered")
    parser.add_argument("--limit", type=int, help="only every n-th photo, about this many")
    parser.add_argument(
        "--crops",
        type=int,
        default=1000,
        metavar="N",
        help="plate-free crops on which false covers are counted too (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--html", type=Path, help="write a report with the 40 worst photos here")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.epilog = (
        "The HTML report shows real plates where the photos do: keep it out of the repository.\n"
        "Formats of --predictions and --predictor: docs/evaluation-formats.md."
    )


def export_run(run_folder: Path, records: Sequence[PhotoRecord], out: Path) -> Path:
    """Weights of a training's run folder, as it is.

    Raises:
        UsageError: the extra ``train`` is not installed.
    """
    try:
        from platehide.train import trial
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{run_folder}: to measure a run folder needs {error.name}"
            " (pip install 'platehide[train]')"
        ) from error
    return trial.export_run(run_folder, records, out)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from platehide.evaluate.dataset import load_records, require_photos
    from platehide.evaluate.report import text_report, write_text

    if args.conf is not None and not 0.0 <= args.conf <= 1.0:
        raise UsageError(f"--conf {args.conf}: expected 0 to 1")
    if args.grow and not (args.predictions or args.predictor):
        raise UsageError("--grow is for --predictions and --predictor: a model has its own margin")
    if not -0.5 <= args.grow <= 2.0:
        raise UsageError(f"--grow {args.grow}: expected -0.5 to 2")
    for folder in args.data:
        if not folder.is_dir():
            raise UsageError(f"--data {folder}: no such folder")
    sets = args.sets.split(",") if args.sets else None
    records = load_records(args.data, args.split, sets)
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit}: expected 1 or more")
    if args.limit and len(records) > args.limit:
        records = records[:: max(1, len(records) // args.limit)]
    if not records:
        raise UsageError(f"{', '.join(map(str, args.data))}: no photo in split {args.split}")
    if args.crops < 0:
        raise UsageError(f"--crops {args.crops}: expected 0 or more")
    require_photos(records)
    with ExitStack() as scratch:
        judged = _judge(args, records, scratch)
        page = judged.html(records) if args.html else None
    text = json.dumps(judged.result, indent=1) + "\n"
    if args.out:
        write_text(args.out, text)
    if page is not None:
        write_text(args.html, page)
    if args.json:
        print(text)
        return 0
    print(text_report(judged.result))
    return 0


def _judge(args: argparse.Namespace, records: Sequence[PhotoRecord], scratch: ExitStack) -> Judged:
    """The evaluation that was asked for; ``scratch`` keeps what its pictures still need."""
    from platehide.evaluate.run import judge_file, judge_function, judge_model
    from platehide.evaluate.runs import measurable

    if args.predictions:
        return judge_file(
            args.predictions, records, args.split, name=args.name, conf=args.conf, grow=args.grow
        )
    if args.predictor:
        sys.path.insert(0, "")  # a module of the working directory, as `python -m` finds it
        return judge_function(
            args.predictor,
            records,
            args.split,
            name=args.name,
            conf=args.conf,
            grow=args.grow,
            crops=args.crops,
            quiet=args.quiet,
        )
    model = scratch.enter_context(measurable(args.model, records, export_run))
    return judge_model(
        model, records, args.split, conf=args.conf, crops=args.crops, quiet=args.quiet
    )
