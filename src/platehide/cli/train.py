"""``platehide train``: from annotated photos to a checkpoint, one stage a command; or from released
weights and new labels to a candidate that the gate has judged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", type=Path, nargs="?", help="configs/….yaml")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="instead of a config: fine-tune released weights (CURRENT, NAME, NAME@VERSION or a"
        " folder) on --data and judge the result by the gate, whose exit code this is",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="RUN",
        help="instead of training: draw a run's learning curves and its 40 worst photos again",
    )
    parser.add_argument(
        "--run", type=Path, help="run folder (default runs/NAME); must be new unless --resume"
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="extend",
        nargs="+",
        metavar="DIR",
        help="annotated photos, a set or a folder of sets (default: the config's)",
    )
    parser.add_argument(
        "--pretrained", help="backbone weights: hub, none or a .safetensors/.pth file"
    )
    parser.add_argument("--init", type=Path, help="checkpoint to start from (tensors that fit)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a config key (with --from: refiner.KEY=VALUE is the refiner's)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    tuning = parser.add_argument_group("with --from")
    tuning.add_argument(
        "--gate-data",
        type=Path,
        action="extend",
        nargs="+",
        metavar="DIR",
        help="photos to calibrate, evaluate and judge on (default: --data)",
    )
    tuning.add_argument("--version", help="of the new weights (default: the next free one)")
    tuning.add_argument("--floors", type=Path, help="default: floors.json beside CURRENT")
    tuning.add_argument(
        "--crops", type=int, default=1000, metavar="N", help="plate-free crops (default 1000)"
    )
    tuning.add_argument(
        "--install",
        action="store_true",
        help="put weights that pass beside the others and make them CURRENT (else nothing there"
        " is touched)",
    )
    parser.epilog = (
        "The run folder gets config.yaml, run.json (git commit, data hash), metrics.jsonl,\n"
        "TensorBoard logs, samples.png (augmented pictures with their labels), curves.png,\n"
        "errors.html and errors.png (the 40 worst val photos), last.pt, best.pt, summary.json.\n"
        "They show real plates where the photos do: keep them out of the repository.\n"
        "Next: platehide export RUN."
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    import cv2

    cv2.setNumThreads(1)
    chosen = [v for v in (args.config, args.start, args.report) if v is not None]
    if len(chosen) != 1:
        raise UsageError("expected one of: a config, --from MODEL, --report RUN")
    for root in (args.data or []) + (args.gate_data or []):
        if not root.is_dir():
            raise UsageError(f"--data {root}: no such folder")
    overrides = {}
    for item in args.set:
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"--set {item}: expected KEY=VALUE")
        overrides[key] = value
    if args.report is not None:
        return _report(args)
    if args.start is not None:
        return _finetune(args, overrides)
    only_from = ("gate_data", "version", "floors", "install")
    given = [f"--{k.replace('_', '-')}" for k in only_from if getattr(args, k)]
    if given:
        raise UsageError(f"{', '.join(given)}: only with --from")
    if args.pretrained is not None:
        overrides["pretrained"] = json.dumps(args.pretrained)
    return _train(args, overrides)


def _warn_of_known_photos(roots: Sequence[Path]) -> None:
    """Say where a photo is trained on and judged on."""
    from platehide.evaluate.dataset import load_records, seen_in_training

    found = seen_in_training(load_records(roots))
    if found:
        judged, learned = found[0]
        print(
            f"platehide train: warning: {len(found)} photos of val or test are photos of train,"
            f" byte for byte (e.g. {judged.path} and {learned.path}): figures on them say nothing",
            file=sys.stderr,
        )


def _train(args: argparse.Namespace, overrides: dict[str, str]) -> int:
    from platehide.train.config import load_config
    from platehide.train.gallery import write_report
    from platehide.train.loop import train
    from platehide.train.validate import validator_for

    config = load_config(args.config, overrides)
    if args.data is None and not Path(config.data).is_dir():
        raise UsageError(f"{config.data}: no such folder; --data DIR names the annotated photos")
    folder = args.run or Path("runs") / config.name
    _warn_of_known_photos(args.data or [Path(config.data)])
    summary = train(
        config,
        folder,
        resume=args.resume,
        initial=args.init,
        data=args.data,
        quiet=args.quiet,
        validator=validator_for(config, args.data),
    )
    write_report(folder, args.data, quiet=args.quiet)
    print(f"{folder}: {summary['steps']} steps in {summary['seconds'] / 60:.1f} min", end="")
    best = summary["best"]
    print(f", best score on val {best:.4f}" if best is not None else ", no look at val")
    print(f"next: platehide export {folder} --name {config.name} --version 0.1.0")
    return 0


def _report(args: argparse.Namespace) -> int:
    from platehide.train.gallery import write_report

    for path in write_report(args.report, args.data, quiet=args.quiet):
        print(path)
    return 0


def _finetune(args: argparse.Namespace, overrides: dict[str, str]) -> int:
    from platehide.cli.gate import against_torch
    from platehide.evaluate.dataset import load_records
    from platehide.evaluate.gate import read_floors
    from platehide.evaluate.landing import verdict
    from platehide.train.finetune import Order, finetune, install, next_version
    from platehide.weights import list_models, load_weights, weights_root

    if not args.data:
        raise UsageError("--from needs --data DIR: photos with new labels")
    if args.init or args.pretrained:
        raise UsageError("--init, --pretrained: --from says what training starts with")
    base = load_weights(args.start)
    floors = read_floors(args.floors or weights_root() / "floors.json")
    prefix = f"{base.spec.name}@"
    taken = [m.removeprefix(prefix) for m in list_models() if m.startswith(prefix)]
    version = args.version or next_version(base.spec.version, taken)
    judged = args.gate_data or args.data
    _warn_of_known_photos([*args.data, *(r for r in judged if r not in args.data)])
    order = Order(
        data=tuple(args.data),
        judged=tuple(judged),
        run=args.run or Path("runs") / f"{base.spec.name}-{version}",
        version=version,
        overrides=overrides,
        resume=args.resume,
        crops=args.crops,
        quiet=args.quiet,
    )
    folder = finetune(base, order)
    found = verdict(
        folder,
        base.folder,
        load_records(judged, "val"),
        "val",
        floors,
        against_torch=against_torch,
        crops=args.crops,
        quiet=args.quiet,
    )
    for reason in found.reasons:
        print(f"refused: {reason}")
    if found.reasons:
        print(f"{folder}: refused; {base.spec.model} stays")
        return 1
    print(f"{folder}: may land")
    if args.install:
        print(f"{install(folder, weights_root())}: is CURRENT now")
    return 0
