#!/usr/bin/env python3
"""Fuzz the JPEG editor under AddressSanitizer and UndefinedBehaviorSanitizer.

    scripts/fuzz_jpeg.py [--seconds 60] [--seed 0]

Builds the compiled part anew with gcc's sanitizers in a temporary folder, then feeds it mutated
JPEGs of every kind (samplings, restart intervals, progressive, grey): each is opened, reduced,
read in part and edited. Allowed outcomes are a result, ``NotEditableError`` and ``ImageError``.
A sanitizer report, another exception, more than 5 s for one file or growing memory fails the run;
the file that did it is kept. Needs gcc and the headers of this Python.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "src" / "platehide" / "jpeg" / "csrc"
SECONDS_A_FILE = 5.0
GROWTH_BYTES = 200 << 20


def build(folder: Path) -> Path:
    """The compiled part with sanitizers."""
    library = folder / "_native.so"
    command = [
        "gcc", "-g", "-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
        "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        f"-I{sysconfig.get_path('include')}",
        *map(str, sorted(CSRC.glob("*.c"))), "-o", str(library), "-lm",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return library


def load_instrumented(library: Path) -> None:
    """Make ``platehide.jpeg._native`` the sanitized build."""
    name = "platehide.jpeg._native"
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    import platehide.jpeg.native

    assert platehide.jpeg.native.native is module, "the plain build was loaded"


def seeds(rng: np.random.Generator) -> list[bytes]:
    """Small intact JPEGs of every kind."""
    import simplejpeg
    from PIL import Image

    out = []
    for width, height in ((61, 45), (16, 16), (129, 24)):
        noise = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        rgb = np.ascontiguousarray(image)
        out += [
            simplejpeg.encode_jpeg(rgb, quality=quality, colorsubsampling=sampling)
            for sampling in ("444", "422", "420", "440", "411")
            for quality in (40, 95)
        ]
        for options in (
            {"progressive": True},
            {"optimize": True},
            {"restart_marker_blocks": 3},
            {"progressive": True, "restart_marker_blocks": 2},
        ):
            for mode in ("RGB", "L"):
                file = io.BytesIO()
                image.convert(mode).save(file, "JPEG", quality=85, **options)
                out.append(file.getvalue())
    return out


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """A damaged copy: bits, bytes, cuts, doubled parts; header and picture data alike."""
    out = bytearray(data)
    scan = data.index(b"\xff\xda")
    for _ in range(int(rng.integers(1, 5))):
        low, high = (2, scan + 14) if rng.random() < 0.3 else (scan, len(out))
        at = int(rng.integers(low, max(low + 1, high)))
        kind = int(rng.integers(0, 7))
        if at >= len(out):
            continue
        if kind <= 1:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind <= 3:
            out[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(0, 256)]))
        elif kind == 4:
            del out[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            out[at:at] = out[at : at + int(rng.integers(1, 40))]
        elif rng.random() < 0.3:
            out = out[:at] + b"\xff\xd9"
    return bytes(out)


def exercise(data: bytes, rng: np.random.Generator) -> str:
    """Use every part of the editor on one file."""
    from platehide.errors import ImageError
    from platehide.jpeg import JpegEditor, NotEditableError
    from platehide.metadata.jpeg_walk import walk_jpeg
    from platehide.pixels import Patch

    try:
        editor = JpegEditor(data, walk_jpeg(data, max_pixels=4_000_000))
        width, height = editor.size_wh
        for long_side in (1, width // 4, width // 2):
            editor.overview(long_side)
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = min(width - x, 40), min(height - y, 20)
        editor.region((x, y, x + w, y + h))
        for shrink in (2, 4, 8):
            editor.reduced((x, y, x + w, y + h), shrink)
        pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        changed = rng.random((h, w)) < 0.8
        edit = editor.edit([Patch(x, y, pixels, changed)])
        again = JpegEditor(edit.data)
        again.region((x, y, x + w, y + h))
    except (NotEditableError, ImageError) as error:
        return type(error).__name__
    return "edited"


def fuzz(seconds: float, seed: int, keep: Path) -> int:
    """Run until the time is up; returns the exit code."""
    rng = np.random.default_rng(seed)
    start = time.monotonic()
    sources = seeds(rng)
    counts: dict[str, int] = {}
    for data in sources:
        if exercise(data, rng) != "edited":
            print("an intact file was refused", file=sys.stderr)
            return 1
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + GROWTH_BYTES
    while time.monotonic() - start < seconds:
        data = mutate(sources[int(rng.integers(0, len(sources)))], rng)
        keep.write_bytes(data)
        begin = time.monotonic()
        outcome = exercise(data, rng)
        counts[outcome] = counts.get(outcome, 0) + 1
        if time.monotonic() - begin > SECONDS_A_FILE:
            print(f"more than {SECONDS_A_FILE:.0f} s for one file: {keep}", file=sys.stderr)
            return 1
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limit:
            print(f"memory grows, last file: {keep}", file=sys.stderr)
            return 1
    keep.unlink()
    print(f"{sum(counts.values())} mutated files, no finding: {counts}")
    return 0


def main() -> int:
    """Parse, build, run in a child process that the sanitizer is loaded into."""
    parser = argparse.ArgumentParser(description="Fuzz the JPEG editor under sanitizers.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    keep = Path(tempfile.gettempdir()) / f"fuzz_jpeg_{args.seed}.jpg"
    if args.child is not None:
        load_instrumented(args.child)
        return fuzz(args.seconds, args.seed, keep)
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        asan = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
        ).stdout.strip()
        environment = os.environ | {
            "LD_PRELOAD": asan,
            "PYTHONMALLOC": "malloc",  # so that buffers of Python objects have red zones too
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=32",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--child", str(library)]
        command += ["--seconds", str(args.seconds), "--seed", str(args.seed)]
        code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        print(f"fuzzing failed; the file is {keep}", file=sys.stderr)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
