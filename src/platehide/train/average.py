"""One network out of several trained one from another: the mean of their weights.

Run `python -m platehide.train.average RUN|CHECKPOINT|model.onnx … -o runs/NAME`; the folder is then
exported as any run. What a later stage has learned and what it has unlearned both shrink: on `val`
the mean is surer of plates than each of its parts (Wortsman et al. 2022, "Model soups"). The parts
must descend from one another, or their weights have nothing to do with each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from platehide.errors import UsageError
from platehide.files import write_whole
from platehide.train.checkpoints import run_info, save_atomic
from platehide.train.exporter import load_checkpoint, state_of


def state_at(path: Path) -> dict[str, Tensor]:
    """The state of a run folder, a checkpoint or an exported ``.onnx`` file."""
    if path.suffix == ".onnx":
        try:
            return state_of(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
    return dict(load_checkpoint(path).model.state_dict())


def average(paths: Sequence[Path], out: Path) -> None:
    """Write ``out/best.pt`` and ``out/run.json``; config and step are those of the last path.

    Raises:
        UsageError: fewer than two paths, the last is no checkpoint, states that do not fit
            together, or the folder exists.
    """
    if len(paths) < 2:
        raise UsageError("an average takes two networks or more")
    if out.exists():
        raise UsageError(f"{out}: exists already")
    last = load_checkpoint(paths[-1])
    states = [state_at(path) for path in paths]
    mean: dict[str, Tensor] = {}
    for key, value in last.model.state_dict().items():
        if not value.dtype.is_floating_point:
            mean[key] = value
            continue
        for path, state in zip(paths, states, strict=True):
            if key not in state or state[key].numel() != value.numel():
                raise UsageError(
                    f"{path}: {key} is missing or has another shape than in {paths[-1]}"
                )
        mean[key] = torch.stack([state[key].reshape(value.shape) for state in states]).mean(0)
    info = run_info(paths[-1]) | {"averaged": [str(path) for path in paths]}
    out.mkdir(parents=True)
    payload = {"model": mean, "config": last.config.to_dict(), "step": last.step}
    save_atomic(payload, out / "best.pt")
    write_whole(out / "run.json", (json.dumps(info, indent=2) + "\n").encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Average the weights of networks.")
    parser.add_argument("parts", type=Path, nargs="+", help="run folders, checkpoints, model.onnx")
    parser.add_argument("-o", "--out", type=Path, required=True, help="new run folder")
    args = parser.parse_args()
    try:
        average(args.parts, args.out)
    except UsageError as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.out}: mean of {len(args.parts)} networks; next: platehide export {args.out}")


if __name__ == "__main__":
    main()
