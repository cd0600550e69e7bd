"""What reading, covering and writing a JPEG costs, beside decoding and encoding it as a whole.

All sides get the same JPEG bytes and the same plate, make the picture that a detector looks at,
put the same cover on, and give JPEG bytes; detection itself is left out. Compared are CPU time,
what happened to the pixels away from the plate, and the size of the picture data.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from platehide.cover import Cover, CoverOptions, cover_plate, load_cover
from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.image_io import WriteOptions
from platehide.looks import closest_side
from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.pixels import ArrayPixels, Patch
from platehide.preprocess import fit_long_side
from platehide.types import FloatArray, ImageArray

SIZES: dict[str, tuple[int, int]] = {"1280x960": (1280, 960), "12MP": (4000, 3000)}
"""Name and size in px of the JPEGs that photos are turned into."""
QUALITY = 90
DETECTOR_INPUT = 512
# Decoders interpolate one pixel beyond the rewritten MCUs, which are at most 16 px.
_FRINGE_PX = 17


@dataclass(frozen=True)
class IoRow:
    """One photo at one size.

    Attributes:
        cpu_ms: CPU time, the best of the repeats, by side.
        outside_psnr_db: peak signal-to-noise ratio away from the plate against the input, by
            side; infinite where no pixel differs.
        scan_change: size of the finished picture data relative to the input's, minus 1, by side.
    """

    photo: str
    size: str
    edit: str
    cpu_ms: dict[str, float]
    outside_psnr_db: dict[str, float]
    scan_change: dict[str, float]


Side = Callable[[bytes, FloatArray, Cover], bytes]


def plate_quad(size_wh: tuple[int, int]) -> FloatArray:
    """A plate as on an ordinary photo of a car: an eighth of the width, low, seen at an angle."""
    w, h = size_wh
    unit = np.array([[0.44, 0.66], [0.56, 0.675], [0.56, 0.71], [0.44, 0.695]])
    return np.asarray(unit * (w, h), np.float64)


def whole_job(data: bytes, quad: FloatArray, cover: Cover) -> bytes:
    """platehide: only the touched blocks are coded anew."""
    photo = open_photo(data)
    frame = photo.frames[0]
    side = closest_side(max(frame.size_wh), DETECTOR_INPUT)
    fit_long_side(frame.overview(side), side)
    covered = cover_plate(frame, quad, cover, CoverOptions())
    return photo.write([covered.patch], WriteOptions()).data


def by_simplejpeg(data: bytes, quad: FloatArray, cover: Cover) -> bytes:
    """Everything decoded and encoded by simplejpeg (libjpeg-turbo)."""
    rgb = simplejpeg.decode_jpeg(data)
    _cover_in_place(rgb, quad, cover)
    return bytes(simplejpeg.encode_jpeg(rgb, quality=QUALITY, colorsubsampling="420"))


def by_opencv(data: bytes, quad: FloatArray, cover: Cover) -> bytes:
    """Everything decoded and encoded by OpenCV."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    rgb = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags), np.uint8)
    _cover_in_place(rgb, quad, cover)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()


def _cover_in_place(rgb: ImageArray, quad: FloatArray, cover: Cover) -> None:
    fit_long_side(rgb, closest_side(max(rgb.shape[:2]), DETECTOR_INPUT))
    patch = cover_plate(ArrayPixels(rgb), quad, cover, CoverOptions()).patch
    x0, y0, x1, y1 = patch.box
    rgb[y0:y1, x0:x1][patch.changed] = patch.pixels[patch.changed]


SIDES: dict[str, Side] = {
    "platehide": whole_job,
    "simplejpeg": by_simplejpeg,
    "opencv": by_opencv,
}


def cached_jpeg(photo: Path, size: str, cache: Path) -> bytes:
    """``photo`` scaled to ``size`` as a baseline 4:2:0 JPEG, kept in ``cache``.

    Raises:
        ImageError: the photo cannot be read.
    """
    original = photo.read_bytes()
    name = f"{hashlib.sha256(original).hexdigest()[:24]}-{size}-q{QUALITY}.jpg"
    path = cache / name
    if path.is_file():
        return path.read_bytes()
    frame = open_photo(original).frames[0]
    width, height = frame.size_wh
    rgb = frame.region((0, 0, width, height))
    scaled = cv2.resize(np.ascontiguousarray(rgb), SIZES[size], interpolation=cv2.INTER_CUBIC)
    data = bytes(simplejpeg.encode_jpeg(scaled, quality=QUALITY, colorsubsampling="420"))
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(data)
    partial.replace(path)
    return data


def measure(photo: str, size: str, data: bytes, cover: Cover, repeats: int = 5) -> IoRow:
    """Run every side ``repeats`` times in turn and compare what came out."""
    quad = plate_quad(SIZES[size])
    best = dict.fromkeys(SIDES, np.inf)
    finished: dict[str, bytes] = {}
    for _ in range(repeats):
        for name, side in SIDES.items():
            start = time.process_time()
            finished[name] = side(data, quad, cover)
            best[name] = min(best[name], (time.process_time() - start) * 1e3)
    opened = open_photo(data)
    patch = cover_plate(opened.frames[0], quad, cover, CoverOptions()).patch
    edit = opened.write([patch], WriteOptions()).edit
    before, scans = simplejpeg.decode_jpeg(data), scan_bytes(data)
    return IoRow(
        photo,
        size,
        edit,
        {name: float(value) for name, value in best.items()},
        {name: outside_psnr(before, out, patch) for name, out in finished.items()},
        {name: scan_bytes(out) / scans - 1 for name, out in finished.items()},
    )


def outside_psnr(before: ImageArray, jpeg: bytes, patch: Patch) -> float:
    """PSNR in dB of the pixels that are not near ``patch``; infinite where none differs."""
    difference = np.square(simplejpeg.decode_jpeg(jpeg).astype(np.float32) - before)
    outside = np.ones(before.shape[:2], np.bool_)
    x0, y0, x1, y1 = patch.box
    top, left = max(0, y0 - _FRINGE_PX), max(0, x0 - _FRINGE_PX)
    outside[top : y1 + _FRINGE_PX, left : x1 + _FRINGE_PX] = False
    error = float(difference[outside].mean(dtype=np.float64))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))


def scan_bytes(jpeg: bytes) -> int:
    """Bytes of entropy-coded data."""
    layout = walk_jpeg(jpeg, max_pixels=1 << 62)
    return sum(scan.end - scan.sos.end for scan in layout.scans)


def run(paths: Sequence[Path], out: Path, *, repeats: int = 5) -> dict[str, Any]:
    """Measure all photos at all sizes on one thread.

    Args:
        paths: photos of any readable format.
        out: folder for the JPEGs that are measured (a cache; keep it out of version control).

    Returns:
        ``rows`` (one :class:`IoRow` as a dict each), ``summary`` by size, ``skipped`` with the
        reason for each photo that could not be read.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cover = load_cover(None)
    rows: list[IoRow] = []
    skipped: dict[str, str] = {}
    try:
        for path in paths:
            try:
                for size in SIZES:
                    data = cached_jpeg(path, size, out)
                    rows.append(measure(str(path), size, data, cover, repeats))
            except (ImageError, OSError) as error:
                skipped[str(path)] = str(error)
    finally:
        cv2.setNumThreads(threads)
    summary = {size: summarise([r for r in rows if r.size == size]) for size in SIZES}
    return {"rows": [asdict(row) for row in rows], "summary": summary, "skipped": skipped}


def summarise(rows: Sequence[IoRow]) -> dict[str, Any]:
    """Medians over photos: CPU time, its ratio to each other side, change of the picture data.

    ``outside_psnr_db`` is the lowest and highest over the photos.
    """
    if not rows:
        return {"photos": 0}
    others = [name for name in SIDES if name != "platehide"]
    return {
        "photos": len(rows),
        "lossless": sum(row.edit == "lossless" for row in rows),
        "cpu_ms": {n: float(np.median([r.cpu_ms[n] for r in rows])) for n in SIDES},
        "cpu_ratio_to": {
            n: float(np.median([r.cpu_ms["platehide"] / r.cpu_ms[n] for r in rows])) for n in others
        },
        "outside_psnr_db": {
            n: [
                min(r.outside_psnr_db[n] for r in rows),
                max(r.outside_psnr_db[n] for r in rows),
            ]
            for n in SIDES
        },
        "scan_change": {n: float(np.median([r.scan_change[n] for r in rows])) for n in SIDES},
    }


def table(report: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        f"{'size':<10}{'side':<12}{'CPU ms':>9}{'ratio':>8}{'outside PSNR dB':>20}{'scan data':>12}"
    ]
    for size, summary in report["summary"].items():
        if not summary["photos"]:
            lines.append(f"{size:<10}no photo")
            continue
        for name in SIDES:
            ratio = summary["cpu_ratio_to"].get(name)
            low, high = summary["outside_psnr_db"][name]
            span = "infinite" if low == float("inf") else f"{low:.1f} … {high:.1f}"
            lines.append(
                f"{size:<10}{name:<12}{summary['cpu_ms'][name]:>9.2f}"
                f"{'' if ratio is None else f'{ratio:.2f}':>8}{span:>20}"
                f"{summary['scan_change'][name]:>+12.2%}"
            )
        lines.append(f"{size:<10}{summary['lossless']} of {summary['photos']} photos lossless")
    lines.append("ratio: platehide's CPU time / that side's, median over photos")
    lines += [f"skipped {path}: {reason}" for path, reason in report["skipped"].items()]
    return "\n".join(lines)
