"""``platehide train``: from annotated photos to a checkpoint, one stage a command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from platehide.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", type=Path, help="configs/….yaml")
    parser.add_argument(
        "--run", type=Path, help="run folder (default runs/NAME); must be new unless --resume"
    )
    parser.add_argument(
        "--data", type=Path, action="append", help="annotated photos (default: the config's)"
    )
    parser.add_argument(
        "--pretrained", help="backbone weights: hub, none or a .safetensors/.pth file"
    )
    parser.add_argument("--init", type=Path, help="checkpoint to start from (tensors that fit)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a config key"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.epilog = (
        "The run folder gets config.yaml, run.json (git commit, data hash), metrics.jsonl,\n"
        "TensorBoard logs, samples.png (augmented pictures with their labels), last.pt, best.pt,\n"
        "and summary.json. Next: platehide export RUN."
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    import cv2

    from platehide.train.config import load_config
    from platehide.train.loop import train
    from platehide.train.validate import validator_for

    overrides = {}
    for item in args.set:
        key, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"--set {item}: expected KEY=VALUE")
        overrides[key] = value
    if args.pretrained is not None:
        overrides["pretrained"] = json.dumps(args.pretrained)
    config = load_config(args.config, overrides)
    folder = args.run or Path("runs") / config.name
    cv2.setNumThreads(1)
    summary = train(
        config,
        folder,
        resume=args.resume,
        initial=args.init,
        data=args.data,
        quiet=args.quiet,
        validator=validator_for(config, args.data),
    )
    print(f"{folder}: {summary['steps']} steps in {summary['seconds'] / 60:.1f} min", end="")
    print(f", best score on val {summary['best']:.4f}")
    print(f"next: platehide export {folder} --name {config.name} --version 0.1.0")
    return 0
