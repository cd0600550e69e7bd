"""Time the stages on one thread against a fixed reference in the same run.

The reference is the published network: the two-head ResNet18 at 224 px in ONNX Runtime on one
thread, input ready. Absolute times on shared machines mean little; ratios to it carry.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from platehide.detector import make_session
from platehide.errors import ImageError, WeightsError
from platehide.pipeline import PlateHider
from platehide.weights import load_weights

REFERENCE_MODEL = "two-head-resnet18"
STAGES = ("decode", "detect", "cover", "encode", "verify", "total")
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one stage over photos."""

    values: tuple[float, ...]

    def to_json(self) -> dict[str, float]:
        """p50, p95, p99."""
        return {f"p{q}": float(np.percentile(self.values, q)) for q in PERCENTILES}


class Reference:
    """One run of the reference network on random pixels (its time does not depend on them)."""

    def __init__(self) -> None:
        weights = load_weights(REFERENCE_MODEL)
        if weights.spec.kind != "two_head":
            raise WeightsError(f"{weights.spec.model}: the reference is a two-head network")
        self._session = make_session(weights.read("model.onnx"), weights.spec.model)
        size = weights.spec.input_size
        self._image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        for _ in range(3):
            self()

    def __call__(self) -> float:
        """Milliseconds of one inference."""
        begin = time.perf_counter()
        self._session.run(None, {"image": self._image})
        return (time.perf_counter() - begin) * 1e3


def benchmark(
    photos: Sequence[tuple[str, bytes]], hider: PlateHider, *, repeats: int = 3
) -> dict[str, Any]:
    """Run the whole job over ``(name, bytes)`` photos, the reference between every two photos.

    Returns:
        ``stages`` (ms p50/p95/p99), ``reference`` (ms), ``ratio`` (each stage's percentiles over
        the reference's median), ``statuses`` and ``photos``.
    """
    cv2.setNumThreads(1)
    reference = Reference()
    for _, data in photos[:2]:
        hider.hide(data)
    spent: dict[str, list[float]] = {}
    baseline: list[float] = []
    statuses: dict[str, int] = {}
    for round_number in range(repeats):
        for _, data in photos:
            baseline.append(reference())
            result = hider.hide(data)
            for stage, ms in result.ms.items():
                spent.setdefault(stage, []).append(float(ms))
            if round_number == 0:
                statuses[result.status] = statuses.get(result.status, 0) + 1
    unit = float(np.median(baseline))
    stages = {s: Timing(tuple(spent[s])).to_json() for s in STAGES if s in spent}
    return {
        "model": hider.detector.model,
        "photos": len(photos),
        "repeats": repeats,
        "statuses": statuses,
        "reference": Timing(tuple(baseline)).to_json(),
        "stages": stages,
        "ratio": {s: {k: v / unit for k, v in t.items()} for s, t in stages.items()},
    }


def as_jpeg(data: bytes, size_wh: tuple[int, int] | None = None, quality: int = 90) -> bytes:
    """Any photo as a 4:2:0 JPEG, scaled to cover ``size_wh`` and cut to it where given."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ImageError("OpenCV could not decode the photo", code="not_an_image")
    image = np.asarray(decoded)
    if size_wh is not None:
        width, height = size_wh
        scale = max(width / image.shape[1], height / image.shape[0])
        wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, wh, interpolation=how))
        x, y = (wh[0] - width) // 2, (wh[1] - height) // 2
        image = image[max(0, y) :, max(0, x) :][:height, :width]
    ok, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError("OpenCV could not encode the photo")
    return bytes(code.tobytes())


def read_photos(paths: Sequence[Path], size_wh: tuple[int, int] | None) -> list[tuple[str, bytes]]:
    """Photos as JPEG bytes (converted in memory where they are not, or a size is asked for)."""
    found = []
    for path in paths:
        data = path.read_bytes()
        jpeg = data.startswith(b"\xff\xd8") and size_wh is None
        found.append((path.name, data if jpeg else as_jpeg(data, size_wh)))
    return found


def text_report(result: dict[str, Any]) -> str:
    """Figures for a terminal."""
    lines = [
        f"{result['model']}: {result['photos']} photos × {result['repeats']}, one thread; "
        + ", ".join(f"{v} {k}" for k, v in sorted(result["statuses"].items())),
        f"{'stage':10s} {'p50 ms':>8s} {'p95 ms':>8s} {'p99 ms':>8s}   ratio to the reference",
    ]
    for stage, ms in [*result["stages"].items(), ("reference", result["reference"])]:
        base = result["reference"]["p50"]
        numbers = " ".join(f"{ms[f'p{q}']:8.1f}" for q in PERCENTILES)
        ratios = " ".join(f"{ms[f'p{q}'] / base:6.2f}" for q in PERCENTILES)
        lines.append(f"{stage:10s} {numbers}   {ratios}")
    return "\n".join(lines)
