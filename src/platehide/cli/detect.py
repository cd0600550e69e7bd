"""``platehide detect``: find plates without painting; JSON lines, a table or COCO."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from platehide.cli import EXIT_FAILED, EXIT_OK
from platehide.cli.options import add_model_options, count
from platehide.errors import UsageError, WeightsError
from platehide.files import byte_limit, expand_inputs, printable, write_result
from platehide.geometry import area, hull_box
from platehide.jobs import (
    DetectWorker,
    HiderFactory,
    HideSettings,
    PhotoTask,
    detect_file,
    failed_row,
    make_hider,
)
from platehide.photo_run import PhotoRun, default_workers
from platehide.progress import Progress
from platehide.report_file import to_line
from platehide.work import Stopper, one_thread

_PROG = "platehide detect"
_EPILOG = """\
exit codes: 0 every photo was looked at; 1 some could not be (listed); 2 wrong usage;
130 interrupted. See docs/command-line.md.
"""

Found = tuple[dict[str, Any], tuple[int, int] | None]
"""A report row, and width and height of the displayed photo in px where they were asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photos, folders (recursive), globs, or - (standard input)",
    )
    parser.add_argument(
        "--format",
        choices=("jsonl", "table", "coco"),
        default="jsonl",
        help="rows as `hide` reports them, a table, or a COCO data set (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    add_model_options(parser)
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes; 1 works in this one (default: one a core, fewer for few photos)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return detect(args, make_hider)


def make_worker(settings: HideSettings, make: HiderFactory, with_size: bool) -> DetectWorker:
    """Handler of a worker process."""
    return DetectWorker(make(settings), with_size)


def detect(args: argparse.Namespace, make: HiderFactory) -> int:
    """``run`` with the way to a hider as an argument (tests put a known detector in)."""
    settings = HideSettings(model=args.model, conf=args.conf, max_pixels=args.max_pixels)
    with_size = args.format == "coco"
    if args.output is not None and Path(args.output).is_dir():
        raise UsageError(f"the output {printable(args.output)} is a folder")
    if "-" in args.inputs:
        if args.inputs != ["-"]:
            raise UsageError("- (standard input) cannot be mixed with other inputs")
        found = _detect_stdin(settings, make, with_size)
        _write(args, [found], Stopper())
        if found[0]["status"] == "error":
            print(_failure(found[0]), file=sys.stderr)
            return EXIT_FAILED
        return EXIT_OK
    inputs = expand_inputs(args.inputs)
    if args.output is not None and os.path.realpath(args.output) in (
        os.path.realpath(photo.path) for photo in inputs.photos
    ):
        raise UsageError(f"the output {printable(args.output)} would replace a photo")
    tasks = [PhotoTask(i, photo.path, None) for i, photo in enumerate(inputs.photos)]
    workers = min(args.workers or default_workers(len(tasks)), len(tasks))
    stopper = Stopper()
    failed = len(inputs.unreadable)
    with ExitStack() as stack:
        stack.enter_context(stopper.catching())
        photo_run = stack.enter_context(
            PhotoRun(functools.partial(make_worker, settings, make, with_size), workers, stopper)
        )
        progress = stack.enter_context(
            Progress(len(tasks), quiet=args.quiet or (args.output is None and sys.stdout.isatty()))
        )
        for path, reason in inputs.unreadable:
            progress.line(f"{_PROG}: {printable(path)}: cannot be read: {reason}")

        def watched() -> Iterator[Found]:
            nonlocal failed
            for row, size in _in_order(photo_run.rows(tasks)):
                if row["status"] == "error":
                    failed += 1
                    progress.line(_failure(row))
                progress.advance()
                yield row, size

        _write(args, watched(), stopper)
    if stopper.stopping:
        print(f"{_PROG}: interrupted", file=sys.stderr)
        return stopper.exit_code
    return EXIT_FAILED if failed else EXIT_OK


def _in_order(results: Iterable[tuple[PhotoTask, Any]]) -> Iterator[Found]:
    """Results in the order of the inputs; what came early waits."""
    waiting: dict[int, Found] = {}
    following = 0
    for task, value in results:
        # A worker that died leaves a bare row.
        waiting[task.index] = value if isinstance(value, tuple) else (value, None)
        while following in waiting:
            yield waiting.pop(following)
            following += 1
    for index in sorted(waiting):  # interrupted: there are gaps
        yield waiting[index]


def _detect_stdin(settings: HideSettings, make: HiderFactory, with_size: bool) -> Found:
    try:
        one_thread()
        hider = make(settings)
    except WeightsError as error:
        raise UsageError(str(error)) from error
    limit = byte_limit(settings.max_pixels)
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        reason = f"more than {limit} bytes"
        return failed_row("-", hider.detector.model, "too_large", reason), None
    return detect_file(hider, "-", data=data, with_size=with_size)


def _write(args: argparse.Namespace, found: Iterable[Found], stopper: Stopper) -> None:
    """Write all results; standard output gets lines as they come, a file appears when all is
    done, and not at all when the run is interrupted.
    """
    lines = {"jsonl": _jsonl, "table": _table, "coco": _coco}[args.format](found)
    if args.output is None:
        _print_all(lines, sys.stdout)
        return
    data = "".join(lines).encode("utf-8", "backslashreplace")
    if stopper.stopping:
        return
    try:
        write_result(args.output, data)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(args.output)}: {error.strerror or error}"
        ) from error


def _print_all(lines: Iterable[str], stream: TextIO) -> None:
    for line in lines:
        stream.write(line)
        stream.flush()


def _failure(row: dict[str, Any]) -> str:
    return f"{_PROG}: {printable(row['image'])}: error: {printable(str(row.get('error')))}"


def _jsonl(found: Iterable[Found]) -> Iterator[str]:
    for row, _ in found:
        yield to_line(row)


def _table(found: Iterable[Found]) -> Iterator[str]:
    """One line a plate; a photo without one has a line too."""
    yield f"{'status':<7} {'conf':>5} {'x':>6} {'y':>6} {'width':>6} {'height':>6}  photo\n"
    plates = photos = 0
    for row, _ in found:
        photos += 1
        name = printable(row["image"])
        if not row["plates"]:
            reason = f"  ({printable(row['error'])})" if row.get("error") else ""
            blank = f"{'-':>5} {'-':>6} {'-':>6} {'-':>6} {'-':>6}"
            yield f"{row['status']:<7} {blank}  {name}{reason}\n"
        for plate in row["plates"]:
            plates += 1
            x0, y0, x1, y1 = hull_box(plate["quad"])
            yield (
                f"{row['status']:<7} {plate['confidence']:5.2f} {x0:6.0f} {y0:6.0f} "
                f"{x1 - x0:6.0f} {y1 - y0:6.0f}  {name}\n"
            )
    yield f"{plates} plates on {photos} photos\n"


def _coco(found: Iterable[Found]) -> Iterator[str]:
    """A COCO detection data set: quads as polygons, no keypoints.

    Photos with an error are left out of ``images``, since their size is not known.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    model = ""
    for row, size in found:
        model = row["model"]
        if size is None:
            continue
        image_id = len(images) + 1
        images.append(
            {
                "id": image_id,
                "file_name": row["image"],
                "width": size[0],
                "height": size[1],
                "status": row["status"],
            }
        )
        for plate in row["plates"]:
            x0, y0, x1, y1 = (float(v) for v in hull_box(plate["quad"]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": [[v for point in plate["quad"] for v in point]],
                    "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round(area(plate["quad"]), 2),
                    "iscrowd": 0,
                    "score": plate["confidence"],
                }
            )
    data = {
        "info": {"description": "licence plates found by platehide", "model": model},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "licence_plate", "supercategory": "vehicle"}],
    }
    yield json.dumps(data) + "\n"
