"""Peak memory of detecting plates, measured in a process of its own:
``python -m platehide.evaluate.memory MODEL PHOTO…`` prints MiB.

A process's own peak would count what evaluation adds: the reference network, crops, pictures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from platehide.detector import load_detector
from platehide.evaluate.dataset import PhotoRecord
from platehide.formats import open_photo

LIMIT_S = 600.0
PHOTOS = 4


def largest(records: Sequence[PhotoRecord], count: int = PHOTOS) -> list[Path]:
    """The photos with the most pixels: they decide the peak."""
    ordered = sorted(records, key=lambda r: (-r.width * r.height, r.name))
    return [r.path for r in ordered[:count]]


def peak_mib(model: str, photos: Sequence[Path]) -> float | None:
    """Peak resident memory in MiB of a fresh process that loads ``model`` (folder or name) and
    looks for plates on ``photos``; ``None`` where it cannot be told.

    One thread, as everywhere else that something is measured.
    """
    command = [sys.executable, "-m", "platehide.evaluate.memory", model, *map(str, photos)]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _own_peak_mib() -> float:
    """Of this process. ``getrusage`` would count the parent's pages from before exec."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status: no VmHWM")


def main() -> int:
    """Command line; returns the exit code."""
    model, *photos = sys.argv[1:]
    detector = load_detector(model)
    for photo in photos:
        detector.detect(open_photo(Path(photo).read_bytes()).frames[0])
    print(f"{_own_peak_mib():.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
