"""``platehide batch``: hide the plates of a whole archive; ``batch report``: sum a manifest up."""

from __future__ import annotations

import argparse
import sys

from platehide.batch.driver import BatchOptions, is_below, read_any, run_batch
from platehide.batch.listing import Grouping
from platehide.batch.plan import Redo, parse_model
from platehide.batch.report import contact_sheet, html_page, open_manifest, summarise
from platehide.batch.stores import open_store
from platehide.batch.summary import DEFAULT_PRICE
from platehide.cli import EXIT_OK
from platehide.cli.options import (
    add_cover_options,
    add_model_options,
    count,
    hide_settings,
    positive,
)
from platehide.errors import UsageError
from platehide.files import write_result
from platehide.jobs import HiderFactory, make_hider

_EPILOG = """\
platehide batch report MANIFEST [-o FILE.html] sums a manifest (or the destination it lies in) up
as a page. exit codes: 0 every photo was written; 1 some were set aside; 2 wrong usage; 130
interrupted. See docs/batch.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [options] SRC DST\n       %(prog)s report MANIFEST [-o FILE.html]"
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a folder, a URL (s3://, gs://, file://), or a Parquet or JSONL list of photos",
    )
    parser.add_argument("destination", metavar="DST", help="a folder or URL for the photos")
    parser.add_argument("--engine", choices=("processes", "ray"), default="processes")
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes or actors (default: one a core)"
    )
    parser.add_argument(
        "--shards",
        type=count,
        metavar="N",
        help="parts of the manifest (default: one for 20,000 photos)",
    )
    parser.add_argument(
        "--manifest", metavar="URL", help="folder of the manifest (default: DST/_platehide)"
    )
    parser.add_argument(
        "--manifest-format",
        choices=("jsonl", "parquet"),
        help="of finished shards (default: jsonl, or what an earlier run was given)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an archive begun earlier")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try photos that were set aside again"
    )
    parser.add_argument(
        "--model-older-than",
        metavar="NAME@VERSION",
        help="redo what another model or an older version did (only VERSION: any older one)",
    )
    parser.add_argument(
        "--check-outputs",
        action="store_true",
        help="ask the store for every finished output (local folders are always asked)",
    )
    parser.add_argument(
        "--limit-rate", type=positive, metavar="R", help="at most R photos a second"
    )
    parser.add_argument("--dry-run", action="store_true", help="list and plan, write nothing")
    parser.add_argument(
        "--root", metavar="URL", help="what paths in a list are relative to (default: its folder)"
    )
    parser.add_argument(
        "--path-column",
        metavar="NAME",
        help="column of the list (default: image, path, url, uri, file, filename or file_name)",
    )
    parser.add_argument(
        "--gallery",
        default="folder",
        metavar="WHAT",
        help="photos of one ad: 'folder', the name of a list's column, or 'off' "
        "(default: %(default)s)",
    )
    parser.add_argument("--spool", metavar="DIR", help="local folder for the listing")
    parser.add_argument(
        "--contact-sheet",
        metavar="FILE",
        help="the most doubtful photos, outside DST ('' for none; default: a name with the time)",
    )
    parser.add_argument(
        "--price-core-hour",
        type=positive,
        default=DEFAULT_PRICE,
        metavar="MONEY",
        help="to state the cost at (default: %(default)s)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="a Ray cluster (default: RAY_ADDRESS, a cluster on this machine, or a new local one)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="with report: the page's file, or -")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    add_cover_options(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return batch(args, make_hider)


def batch(args: argparse.Namespace, make: HiderFactory) -> int:
    """``run`` with the way to a hider as an argument (tests put a known detector in)."""
    if args.source == "report":
        return _report(args)
    if args.output is not None:
        raise UsageError("-o goes with `batch report`; the photos go to DST")
    sheet = args.contact_sheet
    if sheet and is_below(sheet, open_store(args.destination)):
        raise UsageError(f"the contact sheet shows plates: {sheet} must not lie in DST")
    gallery = args.gallery
    grouping = Grouping(gallery) if gallery in ("folder", "off") else Grouping("column", gallery)
    older = args.model_older_than
    options = BatchOptions(
        source=args.source,
        destination=args.destination,
        hide=hide_settings(args),
        engine=args.engine,
        workers=args.workers,
        shards=args.shards,
        manifest=args.manifest,
        part_format=args.manifest_format,
        resume=args.resume,
        redo=Redo(
            older_than=None if older is None else parse_model(older), failed=args.retry_failed
        ),
        check_outputs=args.check_outputs,
        limit_rate=args.limit_rate,
        dry_run=args.dry_run,
        root=args.root,
        path_column=args.path_column,
        grouping=grouping,
        spool=args.spool,
        sheet=sheet,
        price=args.price_core_hour,
        ray_address=args.ray_address,
        quiet=args.quiet,
    )
    return run_batch(options, make)


def _report(args: argparse.Namespace) -> int:
    manifest, state = open_manifest(args.destination)
    name = args.output or "platehide-batch-report.html"
    parents = (state.destination, manifest.store.url)
    if name != "-" and any(is_below(name, open_store(parent)) for parent in parents):
        raise UsageError(f"the report shows plates: {name} must not lie in the destination")
    summary = summarise(manifest, state)
    sheet = None
    if args.contact_sheet != "":
        sheet = contact_sheet(summary.doubtful(), read_any)
    page = html_page(summary, state, args.price_core_hour, sheet)
    if name == "-":
        sys.stdout.write(page.encode("utf-8", "backslashreplace").decode("utf-8"))
        return EXIT_OK
    try:
        write_result(name, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"cannot write {name}: {error.strerror or error}") from error
    for line in summary.lines(args.price_core_hour):
        print(line)
    print(f"report: {name}", file=sys.stderr)
    return EXIT_OK
