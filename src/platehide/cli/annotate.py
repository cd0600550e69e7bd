"""``platehide annotate``: the crowd annotation system."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platehide.errors import UsageError

if TYPE_CHECKING:
    from platehide.annotate.context import Context

_EPILOG = """\
examples:
  platehide annotate serve                                 # http://127.0.0.1:8090, SQLite
  platehide annotate project "Cars, spring" --several-plates
  platehide annotate add cars-spring photos/               # folder or fsspec URL
  platehide annotate add cars-spring golden/ --purpose control
  platehide annotate start cars-spring
  platehide annotate invite cars-spring --uses 20          # prints a link for annotators
  platehide annotate export labels/ --project cars-spring  # images/ + annotations.jsonl

Every command takes --db and --data; PLATEHIDE_ANNOTATE_DB and PLATEHIDE_ANNOTATE_DATA
set them for a shell. See docs/annotation.md.
"""


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db",
        metavar="URL",
        default=os.environ.get("PLATEHIDE_ANNOTATE_DB", ""),
        help="sqlite:///FILE or postgresql://USER@HOST/NAME (default: a file in --data)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("PLATEHIDE_ANNOTATE_DATA", "annotate-data")),
        help="folder of the photos and of the SQLite file (default: annotate-data)",
    )


def _one_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="NAME", help="the project's short name or id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(dest="annotate_command", metavar="ACTION", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name not in {"simulate", "bench"}:
            _store(sub)
        return sub

    serve = command("serve", "run the web site and the API")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=int, default=8090, help="port (default 8090, 0 = any free)")
    serve.add_argument(
        "--public-url", default="", metavar="URL", help="how people reach the site (for links)"
    )
    serve.add_argument(
        "--import-root",
        action="append",
        default=[],
        metavar="DIR|URL",
        help="where requesters may import photos from through the site (repeatable)",
    )
    serve.add_argument(
        "--forwarded-allow-ips",
        default="",
        metavar="IPS",
        help="proxies whose X-Forwarded-For is believed (comma-separated)",
    )
    serve.add_argument(
        "--rate", type=float, default=20.0, help="requests a second of one person (default 20)"
    )
    serve.add_argument(
        "--address-rate",
        type=float,
        default=200.0,
        help="requests a second of one network address (default 200)",
    )
    serve.add_argument("--log-level", default="warning", choices=["info", "warning", "error"])

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
    simulate.add_argument("--photos", type=int, default=1200)
    simulate.add_argument("--controls", type=int, default=400)
    simulate.add_argument("--workers", type=int, default=100)
    simulate.add_argument("--sloppy", type=float, default=0.2, help="share of sloppy workers")
    simulate.add_argument(
        "--bots", type=float, nargs="+", default=[0.2, 0.3, 0.4], help="shares of bots"
    )
    simulate.add_argument("--seeds", type=int, default=5, help="runs pooled for each share")
    simulate.add_argument(
        "--engine",
        choices=["server", "memory"],
        default="server",
        help="server: store, leases and log in SQLite; memory: the quality engine alone",
    )
    simulate.add_argument("--json", type=Path, metavar="FILE", help="write the figures too")

    bench = command("bench", "load a real server with simultaneous annotators and check its books")
    bench.add_argument("--annotators", type=int, default=200)
    bench.add_argument("--seconds", type=float, default=60.0)
    bench.add_argument("--kill", action="store_true", help="kill -9 half-way and start again")
    bench.add_argument("--db", default="", metavar="URL", help="default: SQLite in a new folder")


def run(args: argparse.Namespace) -> int:
    """Run one sub-command; returns the exit code."""
    action = {
        "serve": _serve,
        "init": _init,
        "project": _project,
        "add": _add,
        "start": _status_change,
        "pause": _status_change,
        "close": _status_change,
        "invite": _invite,
        "token": _token,
        "status": _show,
        "rank": _rank,
        "recompute": _recompute,
        "export": _export,
        "simulate": _simulate,
        "bench": _bench,
    }[args.annotate_command]
    return action(args)


def _context(args: argparse.Namespace, **options: Any) -> Context:
    from platehide.annotate.context import build_context

    try:
        args.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--data {args.data}: {error.strerror}") from error
    url = args.db or f"sqlite:///{args.data.resolve() / 'annotate.sqlite3'}"
    return build_context(url, args.data, **options)


def _pick(context: Context, key: str | None) -> Any:
    if key:
        return context.projects.find(key)
    rows = context.projects.all()
    if len(rows) != 1:
        names = ", ".join(r.slug for r in rows) or "none"
        raise UsageError(f"--project is needed; there are: {names}")
    return rows[0]


def _serve(args: argparse.Namespace) -> int:
    from platehide.annotate.limits import Limits
    from platehide.annotate.server import serve

    public = args.public_url or f"http://{args.host}:{args.port}"
    context = _context(
        args,
        import_roots=tuple(args.import_root),
        https=public.startswith("https://"),
        public_url=public,
        limits=Limits(per_person=args.rate, per_address=args.address_rate),
    )
    return serve(
        context,
        host=args.host,
        port=args.port,
        log_level=args.log_level,
        forwarded_allow_ips=args.forwarded_allow_ips,
    )


def _init(args: argparse.Namespace) -> int:
    from platehide.annotate.server import requester_link

    print(requester_link(_context(args, public_url=args.public_url)))
    return 0


def _project(args: argparse.Namespace) -> int:
    from platehide.annotate.settings import ProjectSettings

    values: dict[str, Any] = {"several_plates": args.several_plates}
    for item in args.set:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, got {item!r}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    if args.rules is not None:
        values["rules"] = _text(args.rules)
    instructions = _text(args.instructions) if args.instructions is not None else ""
    context = _context(args)
    project_id = context.projects.create(
        args.name, instructions=instructions, settings=ProjectSettings.from_json(values)
    )
    print(context.projects.find(project_id).slug)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def _add(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from platehide.annotate.media import iter_source

    context = _context(args)
    project = context.projects.find(args.project)
    items = tqdm(iter_source(args.source), unit="photo", disable=not sys.stderr.isatty())
    report = context.projects.add_photos(project.id, items, purpose=args.purpose)
    for refusal in report.refused:
        print(f"refused: {refusal['reason']}", file=sys.stderr)
    print(f"added {report.added}, known already {report.known}, refused {len(report.refused)}")
    return 1 if report.refused else 0


def _status_change(args: argparse.Namespace) -> int:
    context = _context(args)
    status = {"start": "active", "pause": "paused", "close": "closed"}[args.annotate_command]
    context.projects.change(context.projects.find(args.project).id, status=status)
    print(f"{args.project}: {status}")
    return 0


def _invite(args: argparse.Namespace) -> int:
    from platehide.annotate.auth import add_invite

    context = _context(args, public_url=args.public_url)
    project = context.projects.find(args.project)
    with context.db.write() as connection:
        _, secret = add_invite(
            connection,
            args.role,
            context.clock(),
            project_id=project.id,
            lifetime_seconds=args.days * 86_400,
            max_uses=args.uses,
        )
    print(context.link(secret))
    return 0


def _token(args: argparse.Namespace) -> int:
    from platehide.annotate.auth import add_credential, add_user, join

    context = _context(args)
    projects = [context.projects.find(key).id for key in args.join]
    with context.db.write() as connection:
        now = context.clock()
        user_id = add_user(connection, args.role, args.name, now)
        for project_id in projects:
            join(connection, project_id, user_id, now)
        _, secret = add_credential(
            connection,
            user_id,
            "api",
            now,
            lifetime_seconds=args.days * 86_400,
            label=args.name,
        )
    print(secret)
    return 0


def _show(args: argparse.Namespace) -> int:
    from platehide.annotate.stats import overview

    context = _context(args)
    project = _pick(context, args.project)
    context.deriver.catch_up()
    print(json.dumps(overview(context.db, project.id, context.clock()), indent=2))
    return 0


def _rank(args: argparse.Namespace) -> int:
    from platehide.annotate.proposals import rank_photos
    from platehide.detector import load_detector

    context = _context(args)
    project = context.projects.find(args.project)
    report = rank_photos(context.db, context.photos, project.id, load_detector(args.model))
    for failure in report["failed"]:
        print(f"failed: {failure['name']}: {failure['reason']}", file=sys.stderr)
    print(f"ranked {report['ranked']}, with a proposal {report['proposed']} ({report['model']})")
    return 1 if report["failed"] else 0


def _recompute(args: argparse.Namespace) -> int:
    context = _context(args)
    project = _pick(context, args.project)
    context.deriver.recompute(project.id)
    print(f"{project.slug}: recomputed")
    return 0


def _export(args: argparse.Namespace) -> int:
    from platehide.annotate.exporting import export_as

    context = _context(args)
    project = _pick(context, args.project)
    context.deriver.catch_up()
    count = export_as(context.db, context.photos, project.id, args.target, args.format)
    print(f"{args.target}: {count} {'answers' if args.format == 'judgements' else 'photos'}")
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from platehide.annotate.simulate import simulate

    return simulate(
        photos=args.photos,
        controls=args.controls,
        workers=args.workers,
        sloppy=args.sloppy,
        bots=args.bots,
        seeds=args.seeds,
        real_server=args.engine == "server",
        json_path=args.json,
    )


def _bench(args: argparse.Namespace) -> int:
    from platehide.annotate.bench import bench

    return bench(annotators=args.annotators, seconds=args.seconds, kill=args.kill, database=args.db)
