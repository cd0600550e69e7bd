"""Mutate photos of every kind and push them through: seeded, endless where asked.

    python tests/formats/formats_fuzz.py --seconds 600 --seed 7

Whatever goes in, only an ``ImageError`` may come out beside a finished photo that holds no secret.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from formats_torture import (
    ICC,
    OTHERS,
    SECRET_TEXT,
    animation,
    encode,
    finds_secret,
    icc_segment,
    insert_segments,
    patch,
    plain_jpeg,
    scene,
    tortured,
)

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.image_io import WriteOptions
from platehide.metadata.jpeg_walk import walk_jpeg

MAX_PIXELS = 400_000
_POLICIES = (
    WriteOptions(),
    WriteOptions(keep_metadata="safe"),
    WriteOptions(keep_metadata="location", thumbnail=True),
)


def bases() -> list[tuple[str, bytes]]:
    """The files that are mutated, all small."""
    jpegs = {
        "jpeg-all": tortured("all"),
        "jpeg": insert_segments(plain_jpeg(), icc_segment(ICC)),
        "jpeg-progressive": tortured("exif", plain_jpeg(progressive=True)),
        "jpeg-grey": encode(scene(1), "JPEG"),
        "jpeg-restarts": encode(scene(), "JPEG", restart_marker_rows=1),
        "jpeg-cmyk": encode(scene(4)[:, :, :3], "JPEG", keep_rgb=True),
        "jpeg-motion": tortured("motion-photo"),
    }
    more = {
        "png-palette": encode(scene(), "PNG"),
        "gif-animated": animation("GIF"),
    }
    others = {kind: make() for kind, make in OTHERS.items()}
    # uncompressed: a copy of its tail into its pixels would be seen by everyone, and is no leak
    others["bmp"] = encode(scene(), "BMP")
    return [*jpegs.items(), *more.items(), *others.items()]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four small damages: bits, runs, lengths, cuts, copies."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if len(out) < 8:
            break
        # headers are where parsers live
        reach = len(out) if rng.random() < 0.5 else min(len(out), 700)
        at = int(rng.integers(0, reach))
        match int(rng.integers(0, 8)):
            case 0:
                out[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                out[at] = int(rng.integers(0, 256))
            case 2:
                out[at : at + 4] = rng.bytes(4)
            case 3:
                out[at : at + 2] = bytes(rng.choice([0, 1, 127, 128, 255], 2).tolist())
            case 4:
                del out[at : at + int(rng.integers(1, 40))]
            case 5:
                out[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case 6:
                source = int(rng.integers(0, len(out)))
                copied = out[source : source + int(rng.integers(1, 400))]
                if not finds_secret(bytes(copied)):  # else the mutant itself would publish it
                    out[at:at] = copied
            case _:
                del out[int(rng.integers(1, len(out))) :]
    return bytes(out)


@dataclass
class Tally:
    """What came of the mutants; ``leaks`` and ``crashes`` hold the guilty files."""

    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    leaks: list[bytes] = field(default_factory=list)
    crashes: list[tuple[bytes, str]] = field(default_factory=list)
    slowest_seconds: float = 0.0


def _draws_secret(data: bytes) -> bool:
    """True where the primary picture of a JPEG is drawn from the secret's scan."""
    if not data.startswith(b"\xff\xd8"):
        return False
    first = walk_jpeg(data, max_pixels=MAX_PIXELS).scans[0].sos.end
    return finds_secret(data[first : first + 64])


def push(data: bytes, options: WriteOptions, *, cover: bool, tally: Tally) -> None:
    """One file through the whole way, and what came out through it again."""
    begin = time.thread_time()  # a machine that stands still is not the file's fault
    try:
        photo = open_photo(data, max_pixels=MAX_PIXELS)
        patches = []
        for index, frame in enumerate(photo.frames):
            frame.overview(32)
            width, height = frame.size_wh
            if cover and width >= 60 and height >= 35:
                frame.region((18, 13, 60, 35))
                patches.append(patch(index))
        finished = photo.write(patches, options)
        tally.outcomes[finished.edit] += 1
        # a mutant may make the embedded picture the one that everybody sees and looks at
        is_the_picture = sorted(photo.frames[0].size_wh) == [24, 48] or _draws_secret(data)
        if SECRET_TEXT[:24] in finished.data or (
            not is_the_picture and finds_secret(finished.data)
        ):
            tally.leaks.append(data)
        open_photo(finished.data, max_pixels=MAX_PIXELS).frames[0].overview(32)
    except ImageError as error:
        tally.outcomes[error.code] += 1
    except Exception as error:
        tally.crashes.append((data, f"{type(error).__name__}: {error}"))
    tally.runs += 1
    tally.slowest_seconds = max(tally.slowest_seconds, time.thread_time() - begin)


def fuzz(seconds: float, seed: int, most: int | None = None) -> Tally:
    """Mutants of all bases in turn until time or number is up."""
    tally, files = Tally(), bases()
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and (most is None or number < most):
        rng = np.random.default_rng((seed, number))
        _, data = files[number % len(files)]
        cover = bool(rng.integers(0, 2))
        push(mutate(data, rng), _POLICIES[int(rng.integers(0, 3))], cover=cover, tally=tally)
        number += 1
    return tally


def peak_megabytes() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=None)
    args = parser.parse_args()
    fuzz(2.0, args.seed + 1)
    before = peak_megabytes()
    tally = fuzz(args.seconds, args.seed, args.most)
    print(f"{tally.runs} mutants, {dict(tally.outcomes)}")
    print(f"slowest {tally.slowest_seconds:.2f} s, memory +{peak_megabytes() - before:.0f} MB")
    for data, reason in tally.crashes[:10]:
        print(f"CRASH {reason} ({len(data)} bytes, begins {data[:12]!r})")
    print(f"{len(tally.crashes)} crashes, {len(tally.leaks)} leaks")
    return int(bool(tally.crashes or tally.leaks))


if __name__ == "__main__":
    raise SystemExit(main())
