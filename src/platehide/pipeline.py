"""The only place where the steps meet: photo bytes in, finished photo bytes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from platehide.audit import audit_record
from platehide.cover import Cover, Covered, CoverOptions, cover_plate, load_cover
from platehide.cover.views import prepare
from platehide.detection import Detector, Findings
from platehide.drawn import CoveredPlate
from platehide.errors import ImageError, UnsureError
from platehide.formats import open_photo
from platehide.image_io import DEFAULT_MAX_PIXELS, WriteOptions
from platehide.recognise import held, likenesses
from platehide.types import Detection, FloatArray, HideResult
from platehide.verify import VerifyMode, explained, mended
from platehide.verify import verify as prove

if TYPE_CHECKING:
    from platehide.image_io import FinishedPhoto, Photo

Draw = Callable[[int, FloatArray], Covered]
Worn = tuple[int, FloatArray]
MOST_ATTEMPTS = 3
"""How often a photo is painted before it is given up as ``unsure``."""
WORN_SHARE = 0.25
"""A plate that is found on a cover which is there already may reach beyond it by this share: the
first run has seen that nothing of the plate is left there."""


def _wears(quad: FloatArray, worn: list[FloatArray]) -> bool:
    """Whether what was found at ``quad`` is one of the covers that are there already."""
    return any(explained(quad, [old], WORN_SHARE) and held(quad, old) for old in worn)


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
        verify: proof on the finished bytes, see ``platehide.verify``: ``full``, ``fast`` or
            ``off``.

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
        verify: VerifyMode = "fast",
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
        self.verify: VerifyMode = verify
        prepare(self.cover, self.cover_options)

    def hide(
        self,
        data: bytes,
        *,
        conf: float | None = None,
        cover: Cover | None = None,
        cover_options: CoverOptions | None = None,
        write_options: WriteOptions | None = None,
        verify: VerifyMode | None = None,
        audit: bool = False,
    ) -> HideResult:
        """Hide the plates on one photo; keyword arguments override the instance's.

        Never raises for a bad photo: the result then has status ``error`` or ``unsure``,
        ``data`` is ``None`` and ``error`` says why. Plates that wear the cover already are left
        as they are and counted in ``extra["already_covered"]``.

        Args:
            audit: put an audit record (see ``platehide.audit``) into ``extra["audit"]``.
        """
        mode = verify or self.verify
        result = self._hide(
            data,
            self.conf if conf is None else conf,
            cover or self.cover,
            cover_options or self.cover_options,
            write_options or self.write_options,
            mode,
        )
        if not audit:
            return result
        return replace(result, extra={**result.extra, "audit": audit_record(data, result, mode)})

    def _hide(
        self,
        data: bytes,
        conf: float | None,
        cover: Cover,
        look: CoverOptions,
        write_options: WriteOptions,
        mode: VerifyMode,
    ) -> HideResult:
        watch = _Stopwatch()
        try:
            with watch.stage("decode"):
                photo = open_photo(data, max_pixels=self.max_pixels)
            found = self._find(photo, watch, conf)
            draw = self._draw(photo, cover, look)
            with watch.stage("cover"):
                worn = self._worn(photo, found, cover, look)
                covers, doubtful = self._to_cover(found, worn, draw)
            if doubtful:
                top = max(d.confidence for d in doubtful)
                raise UnsureError(f"{len(doubtful)} doubtful plate(s), confidence up to {top:.2f}")
            finished, covers = self._prove(
                photo, covers, worn, draw, write_options, mode, conf, watch
            )
        except UnsureError as error:
            return self._failed("unsure", error.code, str(error), watch)
        except ImageError as error:
            return self._failed("error", error.code, str(error), watch)
        return HideResult(
            status="hidden" if covers else "none",
            data=finished.data,
            plates=tuple(item.plate for item in covers),
            painted=tuple(item.covered.painted for item in covers),
            model=self.detector.model,
            ms=watch.report(),
            edit=finished.edit,
            media_type=finished.media_type,
            removed=finished.removed,
            suffix=finished.suffix,
            extra={"already_covered": len(worn)} if worn else {},
        )

    @staticmethod
    def _draw(photo: Photo, cover: Cover, options: CoverOptions) -> Draw:
        def draw(frame: int, quad: FloatArray) -> Covered:
            return cover_plate(photo.frames[frame], quad, cover, options, frame=frame)

        return draw

    @staticmethod
    def _worn(photo: Photo, seen: list[Findings], cover: Cover, look: CoverOptions) -> list[Worn]:
        """Frame and outline of the covers that the photo wears already."""
        worn: list[Worn] = []
        for index, (frame, findings) in enumerate(zip(photo.frames, seen, strict=True)):
            old: list[FloatArray] = []
            for plate in (*findings.plates, *findings.doubtful):
                if _wears(plate.quad, old):
                    continue
                for found in likenesses(frame, plate.quad, cover, look):
                    if found.covered and _wears(plate.quad, [found.quad]):
                        old.append(found.quad)
                        break
            worn += [(index, outline) for outline in old]
        return worn

    @staticmethod
    def _to_cover(
        found: list[Findings], worn: list[Worn], draw: Draw
    ) -> tuple[list[CoveredPlate], list[Detection]]:
        """The plates with their covers, and the doubtful ones; without what lies on worn covers."""
        covers: list[CoveredPlate] = []
        doubtful: list[Detection] = []
        for index, findings in enumerate(found):
            old = [quad for at, quad in worn if at == index]
            bare = [p for p in findings.plates if not _wears(p.quad, old)]
            covers += [CoveredPlate(index, p, draw(index, p.quad)) for p in bare]
            doubtful += [p for p in findings.doubtful if not _wears(p.quad, old)]
        return covers, doubtful

    def _prove(
        self,
        photo: Photo,
        covers: list[CoveredPlate],
        worn: list[Worn],
        draw: Draw,
        options: WriteOptions,
        mode: VerifyMode,
        conf: float | None,
        watch: _Stopwatch,
    ) -> tuple[FinishedPhoto, list[CoveredPlate]]:
        """Write the photo and prove it, with larger covers where that is what it takes.

        Raises:
            UnsureError: it cannot be proven.
        """
        sizes = [frame.size_wh for frame in photo.frames]
        for attempt in range(MOST_ATTEMPTS):
            with watch.stage("encode"):
                finished = photo.write([item.covered.patch for item in covers], options)
            if mode == "off":
                return finished, covers
            with watch.stage("verify"):
                verdict = prove(
                    finished.data,
                    covers,
                    sizes,
                    self.detector,
                    mode,
                    worn=worn,
                    conf=conf,
                    max_pixels=self.max_pixels,
                )
            if verdict.proven:
                return finished, covers
            if verdict.failures:
                raise UnsureError(verdict.failures[0])
            if attempt + 1 < MOST_ATTEMPTS:
                with watch.stage("cover"):
                    covers = mended(covers, verdict, draw)
        raise UnsureError("a plate can still be seen on the finished photo")

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
