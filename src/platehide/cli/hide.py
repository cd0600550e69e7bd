"""``platehide hide``: photos in, photos with hidden plates out, a report row for each."""

# Paths stay strings as the caller wrote them (odd bytes, './' and all), and os.path is fast.
# ruff: noqa: PTH100, PTH116, PTH118, PTH120

from __future__ import annotations

import argparse
import dataclasses
import filecmp
import functools
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from platehide.cli import EXIT_FAILED, EXIT_OK
from platehide.cli.options import add_cover_options, add_model_options, count, hide_settings
from platehide.errors import UsageError, WeightsError
from platehide.files import (
    Inputs,
    Source,
    byte_limit,
    check_outputs,
    expand_inputs,
    make_out_dir,
    planned_name,
    printable,
    remove_leftovers,
)
from platehide.jobs import HiderFactory, HideSettings, HideWorker, PhotoTask, failed_row, make_hider
from platehide.photo_run import PhotoRun, default_workers
from platehide.progress import Progress
from platehide.report_file import (
    FINISHED,
    OldRow,
    ReportFile,
    is_report,
    old_rows,
    photo_key,
)
from platehide.work import Stopper, one_thread

_PROG = "platehide hide"
_EPILOG = """\
exit codes: 0 every photo was written; 1 some were not (listed); 2 wrong usage; 130 interrupted.
A rerun goes on where an earlier run stopped. See docs/command-line.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photos, folders (recursive), globs, or - (standard input to standard output)",
    )
    parser.add_argument("-o", "--output", metavar="OUT_DIR", help="folder for the finished photos")
    parser.add_argument("--report", metavar="FILE.jsonl", help="one JSON line a photo")
    add_cover_options(parser)
    add_model_options(parser)
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes; 1 works in this one (default: one a core, fewer for few photos)",
    )
    parser.add_argument("--overwrite", action="store_true", help="redo photos that are finished")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return hide(args, make_hider)


def make_worker(settings: HideSettings, make: HiderFactory) -> HideWorker:
    """Handler of a worker process."""
    return HideWorker(make(settings), settings.audit)


def hide(args: argparse.Namespace, make: HiderFactory) -> int:
    """``run`` with the way to a hider as an argument (tests put a known detector in)."""
    settings = hide_settings(args)
    if "-" in args.inputs:
        return _hide_stdin(args, settings, make)
    if args.output is None:
        raise UsageError("-o OUT_DIR is missing")
    report = None if args.report is None else Path(args.report)
    inputs = _without_report(expand_inputs(args.inputs, args.output), report)
    taken = check_outputs(inputs.photos, args.output)
    _check_report_place(report, inputs, args.output, taken)
    old = {} if report is None else old_rows(report)
    todo, finished = _plan(inputs, args.output, old, report is not None, args.overwrite)
    tasks = [
        PhotoTask(
            index,
            photo.path,
            os.path.join(args.output, photo.relative),
            jpeg_name_taken=photo.relative + ".jpg" in taken,
            old_output=_own_output(photo, args.output, old.get(photo_key(photo.path)), taken),
        )
        for index, photo in enumerate(todo)
    ]
    folders = {os.path.dirname(str(task.output)) for task in tasks}
    workers = min(args.workers or default_workers(len(tasks)), max(1, len(tasks)))
    started = time.monotonic()
    counts: Counter[str] = Counter()
    stopper = Stopper()
    with ExitStack() as stack:
        stack.enter_context(stopper.catching())
        stack.callback(_tidy_after_a_stop, folders, stopper)  # when the workers have ended
        # Everything that can be wrong with model and cover shows before anything is written.
        photo_run = (
            stack.enter_context(
                PhotoRun(functools.partial(make_worker, settings, make), workers, stopper)
            )
            if tasks
            else None
        )
        make_out_dir(args.output)
        remove_leftovers(folders)
        redone = {photo_key(photo.path) for photo in todo}
        file = _open_report(report, old, redone, stack)
        progress = stack.enter_context(Progress(len(tasks), quiet=args.quiet))
        for path, reason in inputs.unreadable:
            progress.line(f"{_PROG}: {printable(path)}: cannot be read: {reason}")
        for _, row in photo_run.rows(tasks) if photo_run else ():
            if file is not None:
                file.add(row)
            counts[row["status"]] += 1
            if row["status"] not in FINISHED:
                progress.line(_failure(row))
            progress.advance()
    seconds = time.monotonic() - started
    if not args.quiet:
        _summarise(counts, seconds, finished, inputs)
        changed = sum(_is_newer(photo, args.output) for photo in finished)
        if changed:
            print(
                f"{_PROG}: {changed} finished photos have changed since; --overwrite redoes them",
                file=sys.stderr,
            )
    if stopper.stopping:
        left = len(tasks) - counts.total()
        print(f"{_PROG}: interrupted, {left} photos left; a rerun goes on", file=sys.stderr)
        return stopper.exit_code
    failed = counts["unsure"] + counts["error"] + len(inputs.unreadable)
    return EXIT_FAILED if failed else EXIT_OK


def _tidy_after_a_stop(folders: Iterable[str], stopper: Stopper) -> None:
    """A second Ctrl-C ends workers in the middle of a file."""
    if stopper.stopping:
        remove_leftovers(folders)


def _without_report(inputs: Inputs, report: Path | None) -> Inputs:
    """A rerun with `photos/*` meets the report of the first run: it is no photo.

    Raises:
        UsageError: nothing else was named.
    """
    if report is None or not is_report(report):
        return inputs
    place = os.path.realpath(report)
    photos = tuple(p for p in inputs.photos if os.path.realpath(p.path) != place)
    if not photos:
        raise UsageError("no photos found: the only input is the report")
    return dataclasses.replace(inputs, photos=photos)


def _own_output(
    photo: Source, out_dir: str, row: OldRow | None, taken: frozenset[str]
) -> str | None:
    """What an earlier run wrote for a photo, where no other input of this run owns that name."""
    if row is None or row.output is None:
        return None
    base = os.path.join(out_dir, photo.relative)
    longer = photo.relative + ".jpg"
    names = {base, planned_name(base)} | ({base + ".jpg"} if longer not in taken else set())
    return row.output if os.path.abspath(row.output) in map(os.path.abspath, names) else None


def _open_report(
    report: Path | None, old: dict[str, OldRow], redone: set[str], stack: ExitStack
) -> ReportFile | None:
    if report is None:
        return None

    def keep(key: str, line: int) -> bool:
        return key not in redone and key in old and old[key].line == line

    return stack.enter_context(ReportFile(report, keep))


def _check_report_place(
    report: Path | None, inputs: Inputs, out_dir: str, outputs: frozenset[str]
) -> None:
    """Refuse a report that would replace a photo."""
    if report is None:
        return
    place = os.path.realpath(report)
    taken = {os.path.realpath(photo.path) for photo in inputs.photos}
    if report.is_dir():
        raise UsageError(f"the report {printable(str(report))} is a folder")
    if place in taken or os.path.relpath(place, os.path.realpath(out_dir)) in outputs:
        raise UsageError(f"the report {printable(str(report))} would replace a photo")


def _plan(
    inputs: Inputs, out_dir: str, old: dict[str, OldRow], has_report: bool, overwrite: bool
) -> tuple[list[Source], list[Source]]:
    """Photos to do, and photos that an earlier run finished."""
    todo: list[Source] = []
    finished: list[Source] = []
    for photo in inputs.photos:
        done = not overwrite and (
            _finished_by_row(photo, out_dir, old.get(photo_key(photo.path)))
            if has_report
            else _finished_by_file(photo, out_dir)
        )
        (finished if done else todo).append(photo)
    return todo, finished


def _finished_by_row(photo: Source, out_dir: str, row: OldRow | None) -> bool:
    if row is None or row.status not in FINISHED or row.output is None:
        return False
    base = os.path.join(out_dir, photo.relative)
    expected = {os.path.abspath(name) for name in (base, planned_name(base), base + ".jpg")}
    return os.path.abspath(row.output) in expected and _has_bytes(row.output)


def _finished_by_file(photo: Source, out_dir: str) -> bool:
    """Without a report the output itself must do: there, and not a mere copy of the input."""
    base = os.path.join(out_dir, photo.relative)
    for name in {base, planned_name(base)}:
        if _has_bytes(name):
            try:
                return not filecmp.cmp(photo.path, name, shallow=False)
            except OSError:
                return False
    return False


def _is_newer(photo: Source, out_dir: str) -> bool:
    """True if an input was changed after its output was written."""
    base = os.path.join(out_dir, photo.relative)
    try:
        written = max(os.stat(n).st_mtime for n in {base, planned_name(base)} if _has_bytes(n))
        return os.stat(photo.path).st_mtime > written
    except (OSError, ValueError):
        return False


def _has_bytes(path: str) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_size > 0


def _failure(row: dict[str, Any]) -> str:
    reason = row.get("error") or "no reason given"
    return f"{_PROG}: {printable(row['image'])}: {row['status']}: {printable(str(reason))}"


def _summarise(
    counts: Counter[str], seconds: float, finished: list[Source], inputs: Inputs
) -> None:
    parts = [f"{counts[name]} {name}" for name in ("hidden", "none", "unsure", "error")]
    if finished:
        parts.append(f"{len(finished)} finished earlier")
    if inputs.left_out:
        parts.append(f"{inputs.left_out} files without an image extension left out")
    rate = counts.total() / seconds if seconds > 0 else 0.0
    print(
        f"{_PROG}: {', '.join(parts)}; {seconds:.1f} s, {rate:.2f} photos/s",
        file=sys.stderr,
    )


def _hide_stdin(args: argparse.Namespace, settings: HideSettings, make: HiderFactory) -> int:
    """One photo from standard input to standard output; messages go to standard error."""
    if args.inputs != ["-"]:
        raise UsageError("- (standard input) cannot be mixed with other inputs")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it to a file")
    if args.output not in (None, "-"):
        print(
            f"{_PROG}: -o {printable(args.output)} is not used: a photo from standard input goes "
            "to standard output",
            file=sys.stderr,
        )
    try:
        one_thread()
        hider = make(settings)
    except WeightsError as error:
        raise UsageError(str(error)) from error
    report = None if args.report is None else Path(args.report)
    old = {} if report is None else old_rows(report)
    with ExitStack() as stack:
        file = _open_report(report, old, {"-"}, stack)
        limit = byte_limit(settings.max_pixels)
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            row = failed_row("-", hider.detector.model, "too_large", f"more than {limit} bytes")
            result = None
        else:
            result = hider.hide(data, audit=settings.audit)
            row = result.row("-", None if result.data is None else "-")
        if result is not None and result.data is not None:
            try:
                sys.stdout.buffer.write(result.data)
                sys.stdout.buffer.flush()
            except OSError as error:
                reason = f"cannot write to standard output: {error.strerror or error}"
                row = failed_row("-", hider.detector.model, "write_failed", reason)
        if file is not None:
            file.add(row)
    if row["status"] in FINISHED:
        return EXIT_OK
    print(_failure(row), file=sys.stderr)
    return EXIT_FAILED
