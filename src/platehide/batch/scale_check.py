"""Measure listing, sharding and resume planning of an archive of millions, without pixels.

    python -m platehide.batch.scale_check --photos 10000000

simulates the listing of an archive (ads with eight photos), gives half of the photos a row in a
manifest, and plans the rest, with the code that ``platehide batch`` runs. Each size has a process
of its own, so that its peak memory is its own. It fails if a photo is lost or counted twice, or if
time or memory grow faster than they should.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from platehide.batch.facts import RowFacts
from platehide.batch.listing import Entry, Grouping, Spool
from platehide.batch.manifest import Manifest
from platehide.batch.plan import Redo, plan_shard
from platehide.progress import Progress

AD_PHOTOS = 8
_TIME_SLACK, _MEMORY_SLACK = 1.6, 1.3

_ROW = (
    '{"image": "s3://archive/%s", "output": "s3://hidden/%s", "status": "hidden", '
    '"plates": [{"quad": [[412.31, 388.02], [561.77, 391.4], [560.9, 424.66], [411.5, 421.18]], '
    '"confidence": 0.9731}], '
    '"painted": [[[410.1, 386.0], [563.9, 389.4], [563.1, 426.7], [409.3, 423.2]]], '
    '"model": "simulated@1", "ms": {"decode": 4.1, "detect": 31.2, "cover": 5.0, "encode": 3.2, '
    '"total": 43.8, "read": 1.2, "write": 0.8, "cpu": 44.1}, "edit": "lossless", '
    '"removed": ["exif", "gps"], "key": "%s", '
    '"output_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}\n'
)


def keys(photos: int) -> Iterator[str]:
    """Keys of a simulated archive: dealers, ads, photos."""
    for number in range(photos):
        ad = number // AD_PHOTOS
        yield f"dealer-{ad % 9973:04}/ad-{ad:09}/{number % AD_PHOTOS}.jpg"


def measure(photos: int, folder: Path) -> dict[str, float]:
    """List, shard, and plan a resume after half of an archive; CPU seconds and peak MB."""
    grouping = Grouping()
    clock = time.process_time()
    spool = Spool(grouping, None, str(folder))
    try:
        for _ in spool.fill(Entry(key) for key in keys(photos)):
            pass
        listing = time.process_time() - clock
        spooled = sum(path.stat().st_size for path in spool.folder.iterdir())
        done = _write_manifest(spool, folder / "manifest")
        clock = time.process_time()
        manifest = Manifest(str(folder / "manifest"))
        listed = todo = kept = 0
        with Progress(photos) as progress:
            for shard in range(spool.shards):
                rows = manifest.load(shard, RowFacts.of).rows
                plan = plan_shard(shard, spool.read(shard), rows, grouping, Redo())
                listed += plan.listed
                todo += sum(len(unit.photos) for unit in plan.units)
                kept += len(plan.kept)
                progress.advance(plan.listed)
        planning = time.process_time() - clock
    finally:
        spool.close()
    if (listed, kept, todo) != (photos, done, photos - done):
        raise SystemExit(f"lost or doubled: {listed} listed, {kept} kept, {todo} to do")
    return {
        "photos": photos,
        "shards": spool.shards,
        "listing_s": listing,
        "spool_mb": spooled / 1e6,
        "done": done,
        "planning_s": planning,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _write_manifest(spool: Spool, folder: Path) -> int:
    """Rows for every ad with an even number: what a run left that was killed half way."""
    done = 0
    for shard in range(spool.shards):
        part = folder / f"shard-{shard:05}" / "part-000001.jsonl"
        part.parent.mkdir(parents=True)
        with part.open("w", encoding="ascii") as file:
            for entry in spool.read(shard):
                if int(entry.key.split("/")[1][3:]) % 2 == 0:
                    file.write(_ROW % (entry.key, entry.key, entry.key))
                    done += 1
    return done


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a tenth, a third and all of ``--photos``; 1 where growth is not linear."""
    parser = argparse.ArgumentParser(prog="python -m platehide.batch.scale_check")
    parser.add_argument("--photos", type=int, default=10_000_000)
    parser.add_argument("--folder", help="for the temporary files (default: the system's)")
    parser.add_argument("--quick", action="store_true", help="only a tenth and all of it")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            print(json.dumps(measure(args.photos, Path(folder))))
        return 0
    figures = []
    print("    photos shards   list s   plan s  spool MB  peak MB  (CPU seconds)")
    sizes = (args.photos // 10, args.photos // 3, args.photos)
    for size in sizes[:: 2 if args.quick else 1]:
        command = [sys.executable, "-m", __spec__.name, "--one", "--photos", str(size)]
        command += ["--folder", args.folder] if args.folder else []
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        figure = json.loads(run.stdout)
        figures.append(figure)
        print(
            f"{size:>10} {figure['shards']:>6} {figure['listing_s']:>8.1f} "
            f"{figure['planning_s']:>8.1f} {figure['spool_mb']:>9.0f} {figure['peak_mb']:>8.0f}",
            flush=True,
        )
    first, last = figures[0], figures[-1]
    growth = last["photos"] / first["photos"]
    seconds = [f["listing_s"] + f["planning_s"] for f in (first, last)]
    slower = seconds[1] / seconds[0] / growth
    larger = last["peak_mb"] / first["peak_mb"]
    print(f"time grew {slower:.2f} × as fast as the archive; memory {larger:.2f} × in all")
    return int(slower > _TIME_SLACK or larger > _MEMORY_SLACK)


if __name__ == "__main__":
    sys.exit(main())
