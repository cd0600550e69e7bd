"""Compare the batch job with independent `hide` processes over the same photos, in the same run.

    python -m platehide.batch.bench PHOTOS [--limit 2000] [--workers 2] [--ray]

Prints photos/s and CPU time of N independent `platehide hide --workers 1` (each with its share of
the photos) and of `platehide batch` with N workers, in turns; how much of the workers' time between
the first and the last output was no work on photos (start-up apart); and the memory of driver and
workers over the run. On a busy machine only the CPU time means something. Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from platehide.files import expand_inputs

_SAMPLE_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(prog="python -m platehide.batch.bench")
    parser.add_argument("photos", nargs="+", help="files, folders or globs")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="measure the engine ray too")
    parser.add_argument(
        "--engines-only", action="store_true", help="no `hide`: only what the engines cost"
    )
    args = parser.parse_args(argv)
    engines = ("processes", "ray") if args.ray else ("processes",)
    photos = [photo.path for photo in expand_inputs(args.photos).photos][: args.limit]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shares = [folder / f"share{n}" for n in range(args.workers)]
        for share in (*shares, folder / "all"):
            share.mkdir()
        for number, photo in enumerate(photos):
            link = f"{number:06}{Path(photo).suffix}"
            (folder / "all" / link).symlink_to(Path(photo).resolve())
            (shares[number % args.workers] / link).symlink_to(Path(photo).resolve())
        for turn in range(args.rounds):
            before = _cpu_seconds()
            alone = None
            if not args.engines_only:
                seconds = _hides(shares, folder / f"hide{turn}")
                alone = len(photos) / seconds
                print(
                    f"{args.workers} × hide: {seconds:.1f} s, {alone:.2f} photos/s; "
                    f"CPU {_cpu_seconds() - before:.1f} s",
                    flush=True,
                )
            for engine in engines:
                out = folder / f"{engine}{turn}"
                before = _cpu_seconds()
                seconds, memory = _batch(folder / "all", out, engine, args.workers)
                rate = len(photos) / seconds
                of_hide = "" if alone is None else f", {rate / alone:.3f} of hide"
                print(
                    f"batch, {engine}: {seconds:.1f} s, {rate:.2f} photos/s{of_hide}; "
                    f"CPU {_cpu_seconds() - before:.1f} s; {_idle(out, args.workers)}; "
                    f"memory {memory}",
                    flush=True,
                )
    return 0


def _hides(shares: list[Path], out: Path) -> float:
    start = time.monotonic()
    runs = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "platehide", "hide", str(share), "--workers", "1", "-q"),
                *("-o", str(out / share.name), "--report", str(out / f"{share.name}.jsonl")),
            ],
            stderr=subprocess.DEVNULL,
        )
        for share in shares
    ]
    for run in runs:
        run.wait()
    return time.monotonic() - start


def _batch(source: Path, out: Path, engine: str, workers: int) -> tuple[float, str]:
    start = time.monotonic()
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "platehide", "batch", str(source), str(out), "-q"),
            *("--engine", engine, "--workers", str(workers), "--gallery", "off"),
            *("--contact-sheet", ""),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    samples: list[float] = []
    while True:
        try:
            run.wait(_SAMPLE_SECONDS)
            break
        except subprocess.TimeoutExpired:
            samples.append(_memory_mb(run.pid))
    seconds = time.monotonic() - start
    last = len(samples) - 1
    marks = [f"{samples[int(q * last)]:.0f}" for q in (0.2, 0.4, 0.6, 0.8) if samples]
    return seconds, "/".join(marks) + " MB at 20/40/60/80 %"


def _idle(out: Path, workers: int) -> str:
    """Share of the workers' time between first and last output that was no work on photos."""
    work = 0.0
    for part in (out / "_platehide").rglob("part-*.jsonl"):
        for line in part.read_text("utf-8").splitlines():
            ms = json.loads(line)["ms"]
            work += (ms["total"] + ms["read"] + ms["write"]) / 1e3
    written = [p for p in out.rglob("*") if p.is_file() and "_platehide" not in p.parts]
    stamps = [path.stat().st_mtime for path in written]
    if not stamps or work == 0.0:
        return "no output"
    span = max(stamps) - min(stamps)
    return f"overhead {100 * (span * workers / work - 1):.1f} % of the photo work"


def _cpu_seconds() -> float:
    """CPU time of all children so far, and of theirs (not of a Ray that ran before)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        pages[int(stat.parent.name)] = int(fields[21])
    total = 0
    for each, count in pages.items():
        above: int | None = each
        while above is not None and above != pid:
            above = parents.get(above)
        total += count if above == pid else 0
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
