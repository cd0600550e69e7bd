"""``platehide aggregate``: crowd judgements in, labels and workers out."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from platehide.crowd.aggregate import AggregatePolicy, Aggregation, aggregate
from platehide.crowd.audit import doubtful_controls
from platehide.crowd.events import events_from_judgements
from platehide.crowd.interchange.base import write_text
from platehide.crowd.judgements import Judgement, read_judgements
from platehide.crowd.rules import Rule, dry_run, evaluate, load_rules
from platehide.errors import UsageError

EXIT_OK = 0

_EPILOG = """\
input, one judgement a line:
  {"task": "t1", "worker": "w7", "width": 1280, "height": 960, "submitted_at": 1767225600,
   "seconds": 9.4, "answer": {"plates": [[[x,y],[x,y],[x,y],[x,y]]]} or {"skip": true},
   "golden": {"plates": [...]}  on control tasks}
  Corners come in any start and direction, in pixels; no plates means "no plate".

output, one task a line: task, plates (quad TL,TR,BR,BL, agreement, spread_px), status (agreed,
open: another answer would be asked for, escalated: an expert's), judgements, posterior.
Use the plates of agreed tasks; those of the others are a best guess.

The same judgements in any order give the same output. docs/annotation-quality.md describes the
method.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    default = AggregatePolicy()
    parser.epilog = _EPILOG
    parser.add_argument("judgements", type=Path, metavar="JUDGEMENTS.jsonl")
    parser.add_argument("-o", "--output", type=Path, metavar="LABELS.jsonl", help="labels")
    parser.add_argument("--workers", type=Path, metavar="WORKERS.jsonl", help="workers")
    parser.add_argument(
        "--max-answers",
        type=int,
        default=default.max_answers,
        metavar="N",
        help="escalate a task that has N answers and no agreement (default %(default)s)",
    )
    parser.add_argument(
        "--posterior",
        type=float,
        default=default.posterior,
        metavar="P",
        help="probability from which a label is agreed (default %(default)s)",
    )
    parser.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="quality rules (.yaml or .json); their bans are applied too",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --rules: print what each rule would have done, write nothing",
    )


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _policy(args: argparse.Namespace) -> AggregatePolicy:
    try:
        return AggregatePolicy(max_answers=args.max_answers, posterior=args.posterior)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_paths(args: argparse.Namespace) -> None:
    if args.dry_run and args.rules is None:
        raise UsageError("--dry-run needs --rules")
    if args.output is None and not args.dry_run:
        raise UsageError("-o LABELS.jsonl is missing")
    paths = [p.resolve() for p in (args.judgements, args.output, args.workers) if p is not None]
    if len(set(paths)) != len(paths):
        raise UsageError("the input and the outputs must be different files")
    for path in (args.output, args.workers):
        if path is not None and path.is_dir():
            raise UsageError(f"{path}: is a folder")


def _print_dry_run(rules: tuple[Rule, ...], judgements: list[Judgement]) -> None:
    for found in dry_run(rules, events_from_judgements(judgements)):
        print(f"{found.rule}: {found.sentence}")
        for decision in found.decisions:
            print(f"  {decision.worker} at {decision.at:.0f}: {decision.reason}")


def _rule_bans(rules: tuple[Rule, ...], judgements: list[Judgement]) -> dict[str, str]:
    bans: dict[str, str] = {}
    for decision in evaluate(rules, events_from_judgements(judgements)):
        if decision.action.kind in ("ban", "reject"):
            bans.setdefault(decision.worker, decision.reason)
    return bans


def _summary(result: Aggregation) -> str:
    status = Counter(label.status for label in result.labels)
    banned = sum(w.banned for w in result.workers)
    return (
        f"{len(result.labels)} tasks: {status['agreed']} agreed, {status['open']} open, "
        f"{status['escalated']} escalated; {len(result.workers)} workers, {banned} banned"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; see ``platehide aggregate --help``."""
    _check_paths(args)
    policy = _policy(args)
    rules = load_rules(args.rules) if args.rules is not None else ()
    judgements = read_judgements(args.judgements)
    if args.dry_run:
        _print_dry_run(rules, judgements)
        return EXIT_OK
    bans = _rule_bans(rules, judgements) if rules else {}
    result = aggregate(judgements, policy, banned=bans)
    if args.workers is not None:
        write_text(args.workers, _lines(w.row() for w in result.workers))
    write_text(args.output, _lines(label.row() for label in result.labels))
    for doubt in doubtful_controls(judgements, result, policy):
        print(f"warning: {doubt}", file=sys.stderr)
    print(_summary(result), file=sys.stderr)
    return EXIT_OK
