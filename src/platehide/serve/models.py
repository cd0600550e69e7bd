"""The loaded models and what one request asks of them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from PIL import Image

from platehide import geometry
from platehide.cover import Cover, CoverOptions, cover_plate
from platehide.detection import Detector, Findings
from platehide.drawn import CoveredPlate
from platehide.errors import ImageError, UnsureError, UsageError
from platehide.formats import open_photo
from platehide.image_io import KeepMetadata, WriteOptions
from platehide.pipeline import PlateHider
from platehide.pixels import PixelSource
from platehide.serve.covers import Covers, load_covers
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings
from platehide.types import Detection, FloatArray, HideResult, as_quad
from platehide.verify import VerifyMode
from platehide.verify import verify as prove

MANUAL_MODEL = "manual@1"
MAX_QUADS = 50
_WARM_UP_PLATE = ((490, 600), (790, 600), (790, 670), (490, 670))


class ModelSource(Protocol):
    """Where models come from; the tests put their own detector in here."""

    def name(self, model: str | None) -> str:
        """``name@version`` of what ``load`` would return, without loading it."""

    def load(self, model: str | None) -> Detector:
        """Load the weights."""


class InstalledWeights:
    """The released weights."""

    def name(self, model: str | None) -> str:
        """``name@version`` of the weights that ``model`` means."""
        from platehide.weights import load_weights

        return load_weights(model).spec.model

    def load(self, model: str | None) -> Detector:
        """Verify and load the weights, one thread a session."""
        from platehide.detector import load_detector

        return load_detector(model)


@dataclass(frozen=True)
class PhotoOptions:
    """What a request asks for one photo; ``None`` means the service's own setting."""

    conf: float | None = None
    verify: VerifyMode | None = None
    keep_metadata: KeepMetadata | None = None
    cover_id: str | None = None
    cover: Cover | None = None
    style: str | None = None
    text: str | None = None
    variant: str | None = None


class Models:
    """Current model and candidate, the covers, and the calls that run on worker threads."""

    def __init__(self, settings: Settings, source: ModelSource) -> None:
        self._settings = settings
        self._source = source
        self.covers: Covers = load_covers(
            None if settings.covers_dir is None else Path(settings.covers_dir)
        )
        self._default_cover = self.covers.by_id.get(settings.cover)
        if self._default_cover is None:
            known = ", ".join(self.covers.by_id)
            raise UsageError(f"--cover {settings.cover}: no such cover id; there are {known}")
        self._default_options = _cover_options(settings.style, None, None)
        self.current_name = source.name(settings.model)
        two = settings.candidate_mode != "off"
        self.candidate_name = source.name(settings.candidate) if two else None
        if self.candidate_name == self.current_name:
            raise UsageError(f"--candidate {settings.candidate}: that is the current model")
        self._hiders: dict[str, PlateHider] = {}

    def load(self) -> None:
        """Load the weights (blocking; on a worker thread) and answer a real photo with each.

        Raises:
            UsageError, WeightsError: the weights cannot be used.
            RuntimeError: a model could not answer the photo.

        """
        wanted = [(self.current_name, self._settings.model)]
        if self.candidate_name is not None:
            wanted.append((self.candidate_name, self._settings.candidate))
        picture = warm_up_picture()
        for name, model in wanted:
            hider = PlateHider(
                detector=self._source.load(model),
                conf=self._settings.conf,
                cover=self._default_cover,
                cover_options=self._default_options,
                max_pixels=self._settings.max_pixels,
                write_options=WriteOptions(keep_metadata=self._settings.keep_metadata),
                verify=self._settings.verify,
            )
            result = hider.hide(picture)
            if result.status == "error":
                raise RuntimeError(f"{name} could not answer the warm-up photo: {result.error}")
            self._hiders[name] = hider
        plate = as_quad(_WARM_UP_PLATE)
        for cover in self.covers.by_id.values():  # lays the design out once, reads the fonts
            cover_quads(
                picture, [plate], cover, self._default_options,
                write=WriteOptions(), max_pixels=self._settings.max_pixels,
            )  # fmt: skip

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models that answer."""
        return tuple(self._hiders)

    def find(self, model: str | None) -> str:
        """Return the full name of the loaded model that a request names (default: current).

        Raises:
            Problem: ``unknown_model``.

        """
        if model is None:
            return self.current_name
        for name in filter(None, (self.current_name, self.candidate_name)):
            if model in (name, name.split("@")[0]):
                return name
        known = ", ".join(filter(None, (self.current_name, self.candidate_name)))
        raise Problem("unknown_model", f"this service has loaded {known}")

    def cover_for(self, options: PhotoOptions) -> tuple[Cover, CoverOptions]:
        """Return cover and options of a request.

        Raises:
            Problem: ``unknown_cover`` or ``invalid_parameter``.

        """
        cover = options.cover or self.covers.get(options.cover_id or self._settings.cover)
        style = options.style or self._settings.style
        return cover, _problem_options(style, options.text, options.variant)

    def hide_call(self, model: str, data: bytes, options: PhotoOptions) -> Callable[[], HideResult]:
        """Return the work of hiding the plates on ``data``; options are checked here."""
        cover, cover_options = self.cover_for(options)
        write = WriteOptions(options.keep_metadata or self._settings.keep_metadata)
        hider = self._hiders[model]

        def call() -> HideResult:
            return hider.hide(
                data,
                conf=options.conf,
                cover=cover,
                cover_options=cover_options,
                write_options=write,
                verify=options.verify,
            )

        return call

    def detect_call(self, model: str, data: bytes, conf: float | None) -> Callable[[], HideResult]:
        """Return the work of finding the plates on ``data``."""
        hider = self._hiders[model]
        return lambda: hider.detect(data, conf=conf)

    def cover_call(
        self, data: bytes, quads: Sequence[FloatArray], options: PhotoOptions
    ) -> Callable[[], HideResult]:
        """Return the work of covering exactly ``quads``, which a person has marked."""
        cover, cover_options = self.cover_for(options)
        write = WriteOptions(options.keep_metadata or self._settings.keep_metadata)
        limit = self._settings.max_pixels
        return lambda: cover_quads(data, quads, cover, cover_options, write=write, max_pixels=limit)


def _cover_options(style: str, text: str | None, variant: str | None) -> CoverOptions:
    options = CoverOptions(style=cast(Any, style), text=text)
    return options if variant is None else replace(options, variant=cast(Any, variant))


def _problem_options(style: str, text: str | None, variant: str | None) -> CoverOptions:
    try:
        return _cover_options(style, text, variant)
    except UsageError as error:
        raise Problem("invalid_parameter", str(error)) from None


def parse_quads(value: object) -> list[FloatArray]:
    """Return the quads ``(4, 2)`` px of a JSON value ``[[[x, y] x 4], ...]``.

    Raises:
        Problem: ``bad_quads``.

    """
    if not isinstance(value, list) or len(value) > MAX_QUADS:
        raise Problem("bad_quads", f"quads is a list of at most {MAX_QUADS} quads")
    quads = []
    for number, points in enumerate(value):
        try:
            quad = as_quad(points)
        except (ValueError, TypeError, OverflowError) as error:
            raise Problem("bad_quads", f"quad {number}: {error}") from None
        if np.abs(quad).max() > 1e6:
            raise Problem("bad_quads", f"quad {number} lies outside every photo")
        if not geometry.is_convex(quad) or geometry.area(quad) < 4:
            raise Problem("bad_quads", f"quad {number} is crossed, dented or empty")
        quads.append(quad)
    return quads


class _Blind:
    """A detector that finds nothing: for the part of the proof that looks at pixels only."""

    model = MANUAL_MODEL

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        del source, conf
        return Findings(())


def cover_quads(
    data: bytes,
    quads: Sequence[FloatArray],
    cover: Cover,
    options: CoverOptions,
    *,
    write: WriteOptions,
    max_pixels: int,
) -> HideResult:
    """Cover ``quads`` on every frame of a photo; no detector looks.

    That every drawn pixel arrived in the finished bytes is proven all the same. Never raises for
    a bad photo. A quad that lies wholly outside the photo is ``unsure``.
    """
    start = time.perf_counter()
    ms: dict[str, float] = {}

    def lap(name: str, since: float) -> float:
        now = time.perf_counter()
        ms[name] = (now - since) * 1e3
        return now

    try:
        photo = open_photo(data, max_pixels=max_pixels)
        at = lap("decode", start)
        ms["detect"] = 0.0
        covered = [
            CoveredPlate(
                index, Detection(quad, 1.0), cover_plate(frame, quad, cover, options, frame=index)
            )
            for index, frame in enumerate(photo.frames)
            for quad in quads
        ]
        at = lap("cover", at)
        finished = photo.write([c.covered.patch for c in covered], write)
        at = lap("encode", at)
        sizes = [frame.size_wh for frame in photo.frames]
        verdict = prove(finished.data, covered, sizes, _Blind(), "fast", max_pixels=max_pixels)
        if not verdict.proven:
            raise UnsureError(verdict.failures[0] if verdict.failures else "not proven")
        lap("verify", at)
    except (UnsureError, ImageError) as error:
        lap("total", start)
        status: Literal["unsure", "error"] = "unsure" if isinstance(error, UnsureError) else "error"
        return HideResult(status, None, (), (), MANUAL_MODEL, ms, error=str(error), code=error.code)
    lap("total", start)
    return HideResult(
        status="hidden" if quads else "none",
        data=finished.data,
        plates=tuple(c.plate for c in covered),
        painted=tuple(c.covered.painted for c in covered),
        model=MANUAL_MODEL,
        ms=ms,
        edit=finished.edit,
        media_type=finished.media_type,
        suffix=finished.suffix,
        removed=finished.removed,
    )


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a photo's header; ``None`` where Pillow cannot tell."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # whatever a hostile header makes Pillow raise: the size is only a metric
        return None


def warm_up_picture() -> bytes:
    """Return a 1280x960 JPEG of a road, a dark car and its plate, drawn here."""
    width, height = 1280, 960
    rng = np.random.default_rng(7)
    sky = np.linspace(200, 90, height)[:, None, None]
    rgb = np.repeat(np.repeat(sky, width, axis=1), 3, axis=2)
    rgb[320:820, 240:1040] = (40, 46, 60)
    rgb[600:670, 490:790] = (235, 235, 228)
    for x in range(515, 770, 40):
        rgb[612:658, x : x + 22] = (25, 25, 30)
    rgb += rng.normal(0, 4, rgb.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=88)
    return out.getvalue()
