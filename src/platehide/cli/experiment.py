"""``platehide experiment plan | assign | analyze``."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from platehide.assignment import assign, check_variants
from platehide.errors import UsageError
from platehide.files import write_result

if TYPE_CHECKING:
    from platehide.experiment.plan import Plan, Population

EXIT_NO_VERDICT = 3

_EPILOG = """\
exit codes: 0 a verdict (ship or hold) or a plan; 1 a data file is bad; 2 usage or config;
3 no verdict. docs/experiment.md has the config's keys and the rules.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three commands."""
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _plan_arguments(commands.add_parser("plan", help="how many sellers, how many days"))
    _assign_arguments(commands.add_parser("assign", help="the variant of each unit"))
    _analyze_arguments(commands.add_parser("analyze", help="ship, hold or no verdict"))


def _plan_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--config", type=Path, help="take alpha, power, shares and the metric from it")
    p.add_argument("--baseline", type=float, help="the ratio metric today, e.g. 0.12")
    p.add_argument("--photos-per-seller", type=float, help="mean denominator of a seller")
    p.add_argument("--icc", type=float, help="intra-cluster correlation of a seller's photos")
    p.add_argument("--cluster-cv", type=float, default=0.0, help="its CV (default 0)")
    p.add_argument("--sd", type=float, help="SD of one photo's value (default: of a share)")
    p.add_argument("--pilot", type=Path, help="outcomes of the past instead of the four above")
    p.add_argument("--numerator", help="column of the pilot (default: the config's)")
    p.add_argument("--denominator", help="column of the pilot (default: the config's)")
    size = p.add_mutually_exclusive_group(required=True)
    size.add_argument("--effect", type=float, help="smallest difference to show, absolute")
    size.add_argument("--effect-relative", type=float, help="the same as a share of the baseline")
    p.add_argument("--alpha", type=float, help="two-sided level (default 0.05)")
    p.add_argument("--power", type=float, help="default 0.8")
    p.add_argument("--share", type=float, help="share of the treatment arm (default 0.5)")
    p.add_argument("--peeking", action="store_true", help="for the always-valid interval")
    p.add_argument(
        "--variance-reduction", type=float, default=0.0, help="what CUPED is expected to save, 0…1"
    )
    p.add_argument("--sellers-per-day", type=float, help="new sellers a day, for the duration")
    p.add_argument("--days-exact", action="store_true", help="do not round up to whole weeks")
    p.add_argument("--json", action="store_true", help="print JSON")


def _assign_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("units", nargs="*", metavar="UNIT", help="ids; none: one a line from --units")
    p.add_argument("--units", dest="file", metavar="FILE", help="ids, one a line; - is stdin")
    p.add_argument("--config", type=Path, help="take experiment, variants, salt, traffic from it")
    p.add_argument("--experiment", help="name of the experiment")
    p.add_argument("--variants", metavar="NAME=SHARE,…", help="e.g. control=0.5,candidate=0.5")
    p.add_argument("--salt", default="", help="makes the draw unpredictable for outsiders")
    p.add_argument("--traffic", type=float, default=1.0, help="share that takes part (default 1)")
    p.add_argument("--summary", action="store_true", help="print counts instead of units")
    p.add_argument("--json", action="store_true", help="one JSON object a line")


def _analyze_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = _EPILOG
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("exposures", type=Path, metavar="EXPOSURES", help=".jsonl, .csv or .parquet")
    p.add_argument("outcomes", type=Path, metavar="OUTCOMES", help=".jsonl, .csv or .parquet")
    p.add_argument("--config", type=Path, required=True, help="the experiment, YAML")
    p.add_argument(
        "--out",
        type=Path,
        default=Path(),
        help="folder for NAME.report.html and NAME.verdict.json; made if needed (default: here)",
    )
    p.add_argument("--json", action="store_true", help="print the verdict as JSON")
    p.add_argument("--no-report", action="store_true", help="write no files, only print")
    p.add_argument("--now", help="moment of the analysis, ISO 8601 (default: the clock)")


def run(args: argparse.Namespace) -> int:
    """Carry out the chosen command; returns the exit code."""
    actions = {"plan": _run_plan, "assign": _run_assign, "analyze": _run_analyze}
    return actions[args.action](args)


def _run_plan(args: argparse.Namespace) -> int:
    from platehide.experiment.config import load_config
    from platehide.experiment.plan import make_plan

    config = load_config(args.config) if args.config is not None else None
    share = args.share
    if share is None and config is not None:
        pair = (config.variants[config.treatment], config.variants[config.control])
        share = pair[0] / sum(pair)
    plan = make_plan(
        _population(args),
        effect=args.effect,
        effect_relative=args.effect_relative,
        alpha=_chosen(args.alpha, config.alpha if config else None, 0.05),
        power=_chosen(args.power, config.power if config else None, 0.8),
        treatment_share=_chosen(share, None, 0.5),
        peeking=args.peeking or (config is not None and config.peeking),
        variance_reduction=args.variance_reduction,
        units_per_day=args.sellers_per_day,
        whole_weeks=not args.days_exact,
    )
    print(json.dumps(plan.to_dict(), indent=2) if args.json else _plan_text(plan))
    return 0


def _chosen(given: float | None, configured: float | None, default: float) -> float:
    return next((v for v in (given, configured) if v is not None), default)


def _population(args: argparse.Namespace) -> Population:
    from platehide.experiment.plan import from_assumptions

    if args.pilot is not None:
        return _pilot(args)
    missing = [
        name
        for name, value in (
            ("--baseline", args.baseline),
            ("--photos-per-seller", args.photos_per_seller),
            ("--icc", args.icc),
        )
        if value is None
    ]
    if missing:
        raise UsageError(f"plan needs {', '.join(missing)}, or --pilot")
    return from_assumptions(
        args.baseline,
        photos_per_unit=args.photos_per_seller,
        icc=args.icc,
        cluster_cv=args.cluster_cv,
        sd=args.sd,
    )


def _pilot(args: argparse.Namespace) -> Population:
    from platehide.experiment.config import load_config
    from platehide.experiment.data import read_pilot
    from platehide.experiment.plan import from_pilot

    config = load_config(args.config) if args.config is not None else None
    numerator, denominator = args.numerator, args.denominator
    if config is not None and numerator is None:
        if config.primary.quantile is not None:
            raise UsageError("plan is for ratio metrics; the config's primary is a quantile")
        numerator, denominator = config.primary.numerator, config.primary.denominator
    if numerator is None:
        raise UsageError("--pilot needs --numerator (and --denominator), or --config")
    columns = config.columns if config is not None else {}
    sums, rate = read_pilot(args.pilot, numerator, denominator, columns)
    return from_pilot(sums, rate)


def _plan_text(plan: Plan) -> str:
    looks = "any number, always-valid" if plan.peeking else "one, at the horizon"
    lines = [
        f"baseline         {plan.baseline:.6g}",
        f"effect           {plan.effect:+.6g} ({plan.effect_relative:+.2%})",
        f"alpha, power     {plan.alpha:g} two-sided, {plan.power:g}",
        f"looks            {looks}",
        f"variance from    {plan.source}",
    ]
    if plan.design_effect is not None:
        lines.append(f"design effect    {plan.design_effect:.3g}")
    lines.append(
        f"sellers          {plan.units:,} ({plan.units_control:,} control, "
        f"{plan.units_treatment:,} treatment)"
    )
    if plan.days is not None:
        lines.append(f"duration         {plan.days} days ({plan.weeks} weeks)")
    horizon = f"units: {plan.units}" + ("" if plan.days is None else f", days: {plan.days}")
    lines.append(f"for the config   horizon: {{{horizon}}}")
    return "\n".join(lines)


def _run_assign(args: argparse.Namespace) -> int:
    if args.config is not None:
        from platehide.experiment.config import load_config

        config = load_config(args.config)
        name, variants = config.experiment, dict(config.variants)
        salt, traffic = config.salt, config.traffic
    else:
        if args.experiment is None or args.variants is None:
            raise UsageError("assign needs --config, or --experiment and --variants")
        name, variants = args.experiment, _parse_variants(args.variants)
        salt, traffic = args.salt, args.traffic
    counts: dict[str | None, int] = dict.fromkeys([*variants, None], 0)
    for unit in _units(args):
        variant = assign(name, unit, variants, salt=salt, traffic=traffic)
        counts[variant] += 1
        if not args.summary:
            row = {"experiment": name, "unit": unit, "variant": variant}
            print(json.dumps(row, ensure_ascii=False) if args.json else f"{unit}\t{variant or '-'}")
    if args.summary:
        total = sum(counts.values()) or 1
        for variant, n in counts.items():
            label = variant or "takes no part"
            if args.json:
                print(json.dumps({"variant": variant, "units": n, "share": n / total}))
            else:
                print(f"{label}\t{n}\t{n / total:.4f}")
    return 0


def _parse_variants(text: str) -> dict[str, float]:
    variants: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().rpartition("=")
        try:
            value = float(share)
        except ValueError:
            raise UsageError(f"--variants is NAME=SHARE,…, got {part!r}") from None
        if name in variants:
            raise UsageError(f"--variants names {name} twice")
        variants[name] = value
    return check_variants(variants)


def _units(args: argparse.Namespace) -> Iterable[str]:
    if args.units:
        if args.file is not None:
            raise UsageError("units either as arguments or from --units")
        return list(args.units)
    if args.file is None:
        raise UsageError("no unit given (arguments, or --units FILE, or --units -)")
    if args.file == "-":
        lines = sys.stdin.read().splitlines()
    else:
        try:
            lines = Path(args.file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"{args.file}: {error.strerror or error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise UsageError(f"{args.file}:{number}: the unit's id is empty")
    return [line.strip() for line in lines]


def _run_analyze(args: argparse.Namespace) -> int:
    from platehide.experiment.config import as_utc, load_config
    from platehide.experiment.data import prepare, read_table
    from platehide.experiment.report import render
    from platehide.experiment.verdict import analyze

    config = load_config(args.config)
    now = datetime.now(UTC) if args.now is None else as_utc(args.now, "--now")
    if not args.no_report:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {args.out}: {error.strerror}") from None
    data = prepare(read_table(args.exposures), read_table(args.outcomes), config)
    files = (args.exposures, args.outcomes, args.config)
    analysis = analyze(data, config, now=now, inputs={str(f): _sha256(f) for f in files})
    text = json.dumps(analysis.to_dict(), indent=2, ensure_ascii=False)
    written = []
    if not args.no_report:
        stem = args.out / re.sub(r"[^\w.-]+", "-", config.experiment)
        for suffix, content in (
            (".report.html", render(analysis, data, config)),
            (".verdict.json", text + "\n"),
        ):
            written.append(stem.with_name(stem.name + suffix))
            _write(written[-1], content)
    if args.json:
        print(text)
    else:
        print(f"verdict: {analysis.verdict}")
        for reason in analysis.reasons:
            print(f"  - {reason}")
        for path in written:
            print(f"written: {path}")
    return EXIT_NO_VERDICT if analysis.verdict == "no verdict" else 0


def _sha256(path: Path) -> str:
    if path.is_dir():
        from platehide.experiment.data import parts

        lines = "".join(f"{_sha256(p)}  {p.name}\n" for p in parts(path))
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    try:
        write_result(path, text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
