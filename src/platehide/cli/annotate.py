"""``platehide annotate``: the crowd annotation system."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platehide.cli.annotate_options import add_arguments, serve_by_default
from platehide.errors import UsageError

if TYPE_CHECKING:
    from platehide.annotate.context import Context


def run(args: argparse.Namespace) -> int:
    """Run one sub-command; returns the exit code."""
    args = serve_by_default(args)
    action = {
        "serve": _serve,
        "init": _init,
        "project": _project,
        "add": _add,
        "import": _import,
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


def _import(args: argparse.Namespace) -> int:
    from platehide.annotate.importing import import_annotations

    context = _context(args)
    project = context.projects.find(args.project)
    report = import_annotations(
        context.db,
        context.projects,
        project.id,
        "system",
        args.file,
        name=args.file.name,
        form=args.format,
        use=args.use,
    )
    context.deriver.catch_up()
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


__all__ = ["add_arguments", "run"]
