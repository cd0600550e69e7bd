"""The only place where the steps meet: photo bytes in, finished photo bytes out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platehide.cover import Cover, CoverOptions, cover_plate, load_cover
from platehide.detection import Detector, Findings
from platehide.errors import ImageError, UnsureError
from platehide.formats import open_photo
from platehide.image_io import DEFAULT_MAX_PIXELS, WriteOptions
from platehide.pixels import Patch
from platehide.types import Detection, FloatArray, HideResult

if TYPE_CHECKING:
    from platehide.image_io import Photo


class _Stopwatch:
    """Milliseconds by stage; ``total`` runs from construction."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - begin) * 1e3
            self._ms[name] = self._ms.get(name, 0.0) + spent

    def report(self) -> dict[str, float]:
        known = {k: self._ms.get(k, 0.0) for k in ("decode", "detect", "cover", "encode")}
        return known | self._ms | {"total": (time.perf_counter() - self._start) * 1e3}


class PlateHider:
    """Hides licence plates.

    >>> result = PlateHider().hide(jpeg_bytes)  # doctest: +SKIP
    >>> result.status, len(result.plates)  # doctest: +SKIP
    ('hidden', 1)

    An instance is thread-safe and is meant to be kept: it holds the model.

    Args:
        model: ``name`` or ``name@version`` of installed weights, or a folder with them; the
            default is what ``weights/CURRENT`` names.
        conf: confidence (0…1) from which a plate is covered; the weights' own where ``None``.
        cover: a PNG or SVG file or its bytes; the neutral design of the package where ``None``.
        cover_options: style, text and the like.
        max_pixels: a photo that declares more is refused before it is decoded.
        write_options: metadata policy.
        detector: anything that is a ``Detector``, instead of ``model``.

    Raises:
        UsageError: an option does not make sense.
        WeightsError: the weights cannot be used.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        conf: float | None = None,
        cover: Cover | Path | bytes | None = None,
        cover_options: CoverOptions | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        write_options: WriteOptions | None = None,
        detector: Detector | None = None,
    ) -> None:
        if detector is None:
            from platehide.detector import load_detector

            detector = load_detector(model)
        self.detector = detector
        self.conf = conf
        self.cover = cover if isinstance(cover, Cover) else load_cover(cover)
        self.cover_options = cover_options or CoverOptions()
        self.max_pixels = max_pixels
        self.write_options = write_options or WriteOptions()

    def hide(
        self,
        data: bytes,
        *,
        conf: float | None = None,
        cover: Cover | None = None,
        cover_options: CoverOptions | None = None,
        write_options: WriteOptions | None = None,
    ) -> HideResult:
        """Hide the plates on one photo; keyword arguments override the instance's.

        Never raises for a bad photo: the result then has status ``error`` or ``unsure``,
        ``data`` is ``None`` and ``error`` says why.
        """
        watch = _Stopwatch()
        try:
            with watch.stage("decode"):
                photo = open_photo(data, max_pixels=self.max_pixels)
            found = self._find(photo, watch, self.conf if conf is None else conf)
            doubtful = [d for findings in found for d in findings.doubtful]
            if doubtful:
                top = max(d.confidence for d in doubtful)
                raise UnsureError(f"{len(doubtful)} doubtful plate(s), confidence up to {top:.2f}")
            patches: list[Patch] = []
            painted: list[FloatArray] = []
            plates: list[Detection] = []
            with watch.stage("cover"):
                for index, (frame, findings) in enumerate(zip(photo.frames, found, strict=True)):
                    for plate in findings.plates:
                        covered = cover_plate(
                            frame,
                            plate.quad,
                            cover or self.cover,
                            cover_options or self.cover_options,
                            frame=index,
                        )
                        patches.append(covered.patch)
                        painted.append(covered.painted)
                        plates.append(plate)
            with watch.stage("encode"):
                finished = photo.write(patches, write_options or self.write_options)
        except UnsureError as error:
            return self._failed("unsure", error.code, str(error), watch)
        except ImageError as error:
            return self._failed("error", error.code, str(error), watch)
        return HideResult(
            status="hidden" if plates else "none",
            data=finished.data,
            plates=tuple(plates),
            painted=tuple(painted),
            model=self.detector.model,
            ms=watch.report(),
            edit=finished.edit,
            media_type=finished.media_type,
            removed=finished.removed,
            suffix=finished.suffix,
        )

    def detect(self, data: bytes, *, conf: float | None = None) -> HideResult:
        """Find plates without painting: ``painted`` is empty and ``data`` is ``None``.

        ``status`` is what ``hide`` would have answered before the proof on the output.
        """
        watch = _Stopwatch()
        try:
            with watch.stage("decode"):
                photo = open_photo(data, max_pixels=self.max_pixels)
            found = self._find(photo, watch, self.conf if conf is None else conf)
        except ImageError as error:
            return self._failed("error", error.code, str(error), watch)
        plates = tuple(p for findings in found for p in findings.plates)
        doubtful = any(findings.doubtful for findings in found)
        return HideResult(
            status="unsure" if doubtful else "hidden" if plates else "none",
            data=None,
            plates=plates,
            painted=(),
            model=self.detector.model,
            ms=watch.report(),
            error="doubtful plate(s)" if doubtful else None,
            code="unsure" if doubtful else None,
        )

    def _find(self, photo: Photo, watch: _Stopwatch, conf: float | None) -> list[Findings]:
        with watch.stage("detect"):
            return [self.detector.detect(frame, conf) for frame in photo.frames]

    def _failed(self, status: str, code: str, message: str, watch: _Stopwatch) -> HideResult:
        return HideResult(
            status="unsure" if status == "unsure" else "error",
            data=None,
            plates=(),
            painted=(),
            model=self.detector.model,
            ms=watch.report(),
            error=message,
            code=code,
        )
