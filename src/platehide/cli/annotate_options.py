"""The options of ``platehide annotate``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from platehide.cli.options import count, positive, share
from platehide.errors import UsageError

_EPILOG = """\
examples:
  platehide annotate                                       # http://127.0.0.1:8090, SQLite
  platehide annotate project "Cars, spring" --several-plates
  platehide annotate add cars-spring photos/               # folder or fsspec URL
  platehide annotate add cars-spring golden/ --purpose control
  platehide annotate import cars-spring assignments.tsv --format toloka
  platehide annotate start cars-spring
  platehide annotate invite cars-spring --uses 20          # prints a link for annotators
  platehide annotate export labels/ --project cars-spring  # images/ + annotations.jsonl

Every command takes --db and --data; PLATEHIDE_ANNOTATE_DB and PLATEHIDE_ANNOTATE_DATA
set them for a shell. See docs/annotation.md.
"""


_SERVE: dict[str, dict[str, Any]] = {
    "host": {"default": "127.0.0.1", "help": "address to listen on"},
    "port": {"type": int, "default": 8090, "help": "port (default 8090, 0 = any free)"},
    "public-url": {
        "default": "",
        "metavar": "URL",
        "help": "how people reach the site (for links)",
    },
    "import-root": {
        "action": "append",
        "default": [],
        "metavar": "DIR|URL",
        "help": "where requesters may import photos from through the site (repeatable)",
    },
    "forwarded-allow-ips": {
        "default": "",
        "metavar": "IPS",
        "help": "proxies whose X-Forwarded-For is believed (comma-separated)",
    },
    "rate": {
        "type": positive,
        "default": 20.0,
        "help": "requests a second of one person (default 20)",
    },
    "address-rate": {
        "type": positive,
        "default": 200.0,
        "help": "requests a second of one network address (default 200)",
    },
    "log-level": {"default": "warning", "choices": ["info", "warning", "error"]},
}


def _store_options() -> dict[str, dict[str, Any]]:
    return {
        "db": {
            "metavar": "URL",
            "default": os.environ.get("PLATEHIDE_ANNOTATE_DB", ""),
            "help": "sqlite:///FILE or postgresql://USER@HOST/NAME (default: a file in --data)",
        },
        "data": {
            "metavar": "DIR",
            "type": Path,
            "default": Path(os.environ.get("PLATEHIDE_ANNOTATE_DATA", "annotate-data")),
            "help": "folder of the photos and of the SQLite file (default: annotate-data)",
        },
    }


def _store(parser: argparse.ArgumentParser) -> None:
    for name, options in _store_options().items():
        parser.add_argument(f"--{name}", **options)


def _dest(name: str) -> str:
    return name.replace("-", "_")


def _serve_options(parser: Any, prefix: str) -> None:
    """Options of ``serve``; with a prefix, under other names and without defaults."""
    found = {**_store_options(), **_SERVE} if prefix else _SERVE
    for name, options in found.items():
        bare = {"default": None, "dest": prefix + _dest(name)} if prefix else {}
        parser.add_argument(f"--{name}", **{**options, **bare})


def serve_by_default(args: argparse.Namespace) -> argparse.Namespace:
    """Without an action: what `serve` would have been given.

    Raises:
        UsageError: options before an action, where they would have no effect.
    """
    options = {**_store_options(), **_SERVE}
    given = {n: getattr(args, f"bare_{_dest(n)}") for n in options}
    if args.annotate_command is not None:
        early = [f"--{n}" for n, value in given.items() if value is not None]
        if early:
            raise UsageError(f"{', '.join(early)}: options go behind {args.annotate_command}")
        return args
    values = {n: options[n]["default"] if v is None else v for n, v in given.items()}
    return argparse.Namespace(
        annotate_command="serve", **{_dest(n): value for n, value in values.items()}
    )


def _one_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="NAME", help="the project's short name or id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [serve options]\n       %(prog)s ACTION ..."
    # Without an action the options are those of `serve`. They have names of their own here, or the
    # defaults of an action would quietly replace what was given before it.
    _serve_options(parser.add_argument_group("without an action"), "bare_")
    commands = parser.add_subparsers(dest="annotate_command", metavar="ACTION", prog=parser.prog)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name not in {"simulate", "bench"}:
            _store(sub)
        return sub

    _serve_options(command("serve", "run the web site and the API (the default)"), "")

    init = command("init", "create the store and print a link that signs the first requester in")
    init.add_argument("--public-url", default="http://127.0.0.1:8090", metavar="URL")

    project = command("project", "create a project")
    project.add_argument("name")
    project.add_argument("--instructions", type=Path, metavar="FILE", help="Markdown text")
    project.add_argument("--rules", type=Path, metavar="YAML", help="quality rules")
    project.add_argument("--several-plates", action="store_true", help="ask for every plate")
    project.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, e.g. --set price=0.003 --set overlap_max=4 (repeatable)",
    )

    add = command("add", "add photos from a folder or an fsspec URL")
    add.add_argument("project")
    add.add_argument("source")
    add.add_argument(
        "--purpose",
        choices=["task", "control", "training"],
        default="task",
        help="control and training photos need an annotations.jsonl with quads beside them",
    )

    take = command("import", "put another tool's answers or labels on a project's photos")
    take.add_argument("project")
    take.add_argument("file", type=Path, help="a file; for yolo-pose a folder")
    take.add_argument(
        "--format",
        required=True,
        choices=["judgements", "labels", "toloka", "label-studio", "cvat", "coco", "yolo-pose"],
    )
    take.add_argument(
        "--use",
        choices=["answers", "labels", "proposals", "control", "training"],
        help="answers of its workers; final labels; proposals to correct; known answers "
        "(default: answers where the format names workers, else labels)",
    )

    for name, text in (
        ("start", "open a project for annotators"),
        ("pause", "hand out no more tasks for now"),
        ("close", "end a project"),
    ):
        command(name, text).add_argument("project")

    invite = command("invite", "print an invite link")
    invite.add_argument("project")
    invite.add_argument("--role", choices=["worker", "expert", "requester"], default="worker")
    invite.add_argument("--uses", type=int, default=1, help="people who may use it")
    invite.add_argument("--days", type=float, default=7.0, help="days until it expires")
    invite.add_argument("--public-url", default="http://127.0.0.1:8090", metavar="URL")

    token = command("token", "print an API token")
    token.add_argument("name")
    token.add_argument("--role", choices=["requester", "expert", "worker"], default="requester")
    token.add_argument("--days", type=float, default=90.0)
    token.add_argument("--join", action="append", default=[], metavar="PROJECT")

    status = command("status", "print a project's figures as JSON")
    _one_project(status)

    rank = command("rank", "order open photos by a detector's uncertainty and keep its proposals")
    rank.add_argument("project")
    rank.add_argument("--model", help="weights (default: the released ones)")

    recompute = command("recompute", "compute everything derived again from the log")
    _one_project(recompute)

    export = command("export", "write settled photos as images/ and annotations.jsonl")
    export.add_argument("target", type=Path, metavar="DIR", help="new folder (a file for --format)")
    _one_project(export)
    export.add_argument(
        "--format",
        default="layout",
        choices=[
            "layout",
            "judgements",
            "toloka",
            "label-studio",
            "cvat",
            "coco",
            "yolo-pose",
        ],
        help="layout (default) is what train and evaluate read; judgements is what aggregate reads",
    )

    simulate = command("simulate", "let a simulated crowd with bots loose on the real server code")
    simulate.add_argument("--photos", type=count, default=1200)
    simulate.add_argument("--controls", type=count, default=400)
    simulate.add_argument("--workers", type=count, default=100)
    simulate.add_argument("--sloppy", type=share, default=0.2, help="share of sloppy workers")
    simulate.add_argument(
        "--bots", type=share, nargs="+", default=[0.2, 0.3, 0.4], help="shares of bots"
    )
    simulate.add_argument("--seeds", type=count, default=5, help="runs pooled for each share")
    simulate.add_argument(
        "--engine",
        choices=["server", "memory"],
        default="server",
        help="server: store, leases and log in SQLite; memory: the quality engine alone",
    )
    simulate.add_argument("--json", type=Path, metavar="FILE", help="write the figures too")

    bench = command("bench", "load a real server with simultaneous annotators and check its books")
    bench.add_argument("--annotators", type=count, default=200)
    bench.add_argument("--seconds", type=positive, default=60.0)
    bench.add_argument("--kill", action="store_true", help="kill -9 half-way and start again")
    bench.add_argument("--db", default="", metavar="URL", help="default: SQLite in a new folder")
