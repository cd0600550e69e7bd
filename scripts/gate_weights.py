#!/usr/bin/env python3
"""What CI asks of the committed weights: `.venv/bin/python scripts/gate_weights.py`.

1. Floors may only rise over the history that this checkout knows.
2. `platehide gate CURRENT` against what CURRENT was before (the weights of the previous commit
   that had others; floors alone where no history says so), on a fixed part of `val`: whole sets,
   smallest first, about --limit photos together. The floors are held against the committed figures
   of all of `val`, which those sets must reproduce.
3. The committed evaluation.json is reproduced, on whole sets of about --others photos together, on
   `test` and for every other model.

Exit code 0: the weights may stay; 1: refused, one sentence a reason. Without the photos only files,
floors and the committed figures are checked; with PLATEHIDE_ALL_TOOLS=1 that is an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

from platehide.cli.gate import against_torch
from platehide.detector import OnnxDetector
from platehide.errors import WeightsError
from platehide.evaluate import gate
from platehide.evaluate.dataset import load_records
from platehide.evaluate.landing import verdict
from platehide.evaluate.reproduce import consistent, reproduces, saved_evaluation, whole_sets
from platehide.model_spec import read_spec
from platehide.weights import Weights

ROOT = Path(__file__).resolve().parents[1]
FILES = ("model.onnx", "model.int8.onnx", "refiner.onnx", "spec.json")


def git(*arguments: str) -> bytes | None:
    """Output of a git command, or ``None`` where there is no git, no history, or no such thing."""
    program = shutil.which("git")
    if program is None or not (ROOT / ".git").exists():
        return None
    done = subprocess.run(
        [program, "-c", f"safe.directory={ROOT}", *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def lines(*arguments: str) -> list[str]:
    """Lines of a git command's output, none where it failed."""
    found = git(*arguments)
    return [] if found is None else found.decode().split("\n")[:-1]


def floors_that_fell(floors: gate.Floors) -> list[str]:
    """Reasons against floors.json, from every version of it that history knows."""
    reasons = []
    for commit in lines("log", "--format=%H", "--", "weights/floors.json"):
        text = git("show", f"{commit}:weights/floors.json")
        if text is not None:
            fell = gate.loosened(gate.parse_floors(text.decode()), floors)
            reasons += [f"{r} (was so in {commit[:10]})" for r in fell]
    return reasons


def same_as_now(commit: str, name: str, now: Path) -> bool:
    """Whether a commit's default weights are the ones in the working tree, byte for byte."""
    for file in FILES:
        then = git("show", f"{commit}:weights/{name.replace('@', '/')}/{file}")
        path = now / file
        if then != (path.read_bytes() if path.is_file() else None):
            return False
    return True


def previous(now: Path, into: Path) -> tuple[Path, str] | None:
    """Unpack the default weights before these: from the newest commit that had others."""
    for commit in lines("log", "--format=%H", "--", "weights"):
        raw = git("show", f"{commit}:weights/CURRENT")
        if raw is None:
            continue
        name = raw.decode().strip()
        if same_as_now(commit, name, now):
            continue
        archive = git("archive", commit, f"weights/{name.replace('@', '/')}")
        if archive is None:
            continue
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(into, filter="data")
        return into / "weights" / name.replace("@", "/"), f"{name} of {commit[:10]}"
    return None


def other_folders(current: Path) -> list[Path]:
    """The other committed folders of weights."""
    found = sorted(p.parent for p in (ROOT / "weights").glob("*/*/spec.json"))
    return [f for f in found if f.resolve() != current.resolve()]


def committed_figures(folder: Path) -> list[str]:
    """Reasons against what a folder says of itself."""
    reasons = gate.check_files(folder)
    if not reasons:
        model = read_spec(folder / "spec.json").model
        for split in ("val", "test"):
            try:
                reasons += consistent(saved_evaluation(folder, split), model)
            except WeightsError as error:
                reasons.append(str(error))
    return reasons


def reproduced(folder: Path, photos: Path, split: str, most: int) -> list[str]:
    """Reasons why a folder's figures are not what its smallest sets give now."""
    records = whole_sets(load_records(photos, split), most)
    weights = Weights(folder, read_spec(folder / "spec.json"))
    (found,) = gate.measure([OnnxDetector(weights)], records, crops=0, quiet=True)
    return reproduces(folder, found, split)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("PLATEHIDE_PHOTOS", str(ROOT.parent / "shared" / "photos"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--crops", type=int, default=300, help="plate-free crops (default 300)")
    parser.add_argument("--others", type=int, default=70, help="photos a split (default 70)")
    parser.add_argument(
        "--limit", type=int, default=270, help="photos for the gate, 0 = all (default 270)"
    )
    args = parser.parse_args()
    began = time.monotonic()
    current = ROOT / "weights" / (ROOT / "weights/CURRENT").read_text().strip().replace("@", "/")
    floors = gate.read_floors(ROOT / "weights" / "floors.json")
    reasons = floors_that_fell(floors)
    for folder in (current, *other_folders(current)):
        reasons += [f"{folder.relative_to(ROOT)}: {r}" for r in committed_figures(folder)]
    have = any(args.data.glob("*/annotations.jsonl"))
    if not have:
        print(f"no photos in {args.data}: only files, floors and committed figures were checked")
        if os.environ.get("PLATEHIDE_ALL_TOOLS") == "1":
            reasons.append("the photos are not here, and CI must measure")
        if not reasons:
            saved = saved_evaluation(current, "val")["all"]
            reasons += gate.judge_floors(saved, floors)
    if have and not reasons:
        with tempfile.TemporaryDirectory() as scratch:
            before = previous(current, Path(scratch))
            said = "floors only, no history of other weights" if before is None else before[1]
            print(f"{current.relative_to(ROOT)} against {said}", flush=True)
            found = verdict(
                current,
                None if before is None else before[0],
                load_records(args.data, "val"),
                "val",
                floors,
                against_torch=against_torch,
                limit=args.limit or None,
                crops=args.crops,
                quiet=True,
            )
            reasons += found.reasons
            for one in (found.candidate, found.baseline):
                if one is not None:
                    leak = one.metrics["leak_ge32"]["value"]
                    print(f"  {one.model}: leak {leak:.4f}, p95 {one.ratio_p95:.2f} × reference")
        jobs = [
            (current, "test"),
            *((f, s) for f in other_folders(current) for s in ("val", "test")),
        ]
        for folder, split in jobs:
            wrong = reproduced(folder, args.data, split, args.others)
            reasons += [f"{folder.relative_to(ROOT)}: {r}" for r in wrong]
            print(f"  {folder.relative_to(ROOT)}, {split}: {'refused' if wrong else 'reproduced'}")
    for reason in reasons:
        print(f"refused: {reason}")
    print(f"{'refused' if reasons else 'may stay'}, {time.monotonic() - began:.0f} s")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
