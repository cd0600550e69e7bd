"""What workers do with one photo. ``hide``, ``detect`` and ``batch`` all come in here."""

# Paths stay strings as the caller wrote them (odd bytes, './' and all), and os.path is fast.
# ruff: noqa: PTH108

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from platehide.cover import CoverOptions, load_cover
from platehide.detection import Detector
from platehide.errors import ImageError, UsageError, WeightsError
from platehide.files import byte_limit, planned_name, read_photo, write_whole
from platehide.image_io import DEFAULT_MAX_PIXELS, WriteOptions
from platehide.types import HideResult
from platehide.verify import VerifyMode
from platehide.weights import resolve


@dataclass(frozen=True)
class HideSettings:
    """What makes a ``PlateHider``; travels to worker processes."""

    model: str | None = None
    conf: float | None = None
    cover: str | None = None
    cover_options: CoverOptions = field(default_factory=CoverOptions)
    write_options: WriteOptions = field(default_factory=WriteOptions)
    max_pixels: int = DEFAULT_MAX_PIXELS
    verify: VerifyMode = "fast"
    audit: bool = False


class Hider(Protocol):
    """The part of ``PlateHider`` that jobs use."""

    max_pixels: int
    detector: Detector

    def hide(self, data: bytes, *, audit: bool = False) -> HideResult:
        """Bytes of a photo in, result out; never raises for a bad photo."""

    def detect(self, data: bytes) -> HideResult:
        """The same without painting."""


HiderFactory = Callable[[HideSettings], Hider]


def make_hider(settings: HideSettings) -> Hider:
    """The product's own way to a hider.

    Raises:
        UsageError, WeightsError: the settings cannot be used.
    """
    from platehide.pipeline import PlateHider

    return PlateHider(
        model=settings.model,
        conf=settings.conf,
        cover=None if settings.cover is None else Path(settings.cover),
        cover_options=settings.cover_options,
        write_options=settings.write_options,
        max_pixels=settings.max_pixels,
        verify=settings.verify,
    )


def check_settings(settings: HideSettings) -> None:
    """Find out what is wrong with model or cover without loading the model.

    Raises:
        UsageError: the settings cannot be used.
    """
    try:
        resolve(settings.model)
    except WeightsError as error:
        raise UsageError(str(error)) from error
    load_cover(None if settings.cover is None else Path(settings.cover))


@dataclass(frozen=True)
class PhotoTask:
    """One photo of a run.

    Attributes:
        index: position in the run.
        path: file to read; also the name in the report.
        output: where it goes before a change of format; ``None`` to detect only.
        jpeg_name_taken: ``output`` + ".jpg" belongs to another input.
        old_output: what an earlier run wrote for it, which goes unless it is written again.
        attempt: how many workers have died over it.
    """

    index: int
    path: str
    output: str | None
    jpeg_name_taken: bool = False
    old_output: str | None = None
    attempt: int = 0


def failed_row(
    image: str, model: str, code: str, reason: str, status: str = "error"
) -> dict[str, Any]:
    """The row of a photo for which nothing was written."""
    return {
        "image": image,
        "output": None,
        "status": status,
        "plates": [],
        "painted": [],
        "model": model,
        "ms": dict.fromkeys(("decode", "detect", "cover", "encode", "total"), 0.0),
        "error": reason,
        "code": code,
    }


def hide_file(hider: Hider, task: PhotoTask, *, audit: bool = False) -> dict[str, Any]:
    """Read, hide, write; the report row.

    Whatever goes wrong, nothing half-done stays. What an earlier run wrote for a photo that now
    fails is removed: whoever lists the output folder must not take it for this run's result,
    least of all when this run found a plate that the earlier one had not.
    """
    assert task.output is not None
    row = _hide_file(hider, task, task.output, audit)
    stale = {task.output, planned_name(task.output)} if row["output"] is None else set()
    if task.old_output is not None and task.old_output != row["output"]:
        stale.add(task.old_output)  # as `a.jpg.jpg`, when `a.jpg` was a HEIC file until now
    for name in stale:
        with suppress(OSError):
            os.unlink(name)
    return row


def _hide_file(hider: Hider, task: PhotoTask, output: str, audit: bool) -> dict[str, Any]:
    try:
        data = read_photo(task.path, byte_limit(hider.max_pixels))
        result = hider.hide(data, audit=audit)
    except ImageError as error:
        return failed_row(task.path, hider.detector.model, error.code, str(error))
    except MemoryError:
        return failed_row(
            task.path, hider.detector.model, "out_of_memory", "not enough memory for it"
        )
    except Exception as error:  # one odd photo must not end a run over a million others
        return failed_row(
            task.path, hider.detector.model, "internal", f"{type(error).__name__}: {error}"
        )
    if result.data is None:
        return result.row(task.path, None)
    if result.suffix and result.suffix != ".jpg":
        return failed_row(
            task.path, hider.detector.model, "internal", f"unknown suffix {result.suffix!r}"
        )
    if result.suffix and task.jpeg_name_taken and planned_name(output) == output:
        return failed_row(
            task.path,
            hider.detector.model,
            "name_taken",
            f"it becomes a JPEG, and {output + result.suffix} belongs to another input",
        )
    target = output + result.suffix
    try:
        write_whole(target, result.data)
    except OSError as error:
        reason = f"cannot write {target}: {error.strerror or error}"
        return failed_row(task.path, hider.detector.model, "write_failed", reason)
    return result.row(task.path, target)


@dataclass
class HideWorker:
    """Handler of the pool for ``platehide hide``."""

    hider: Hider
    audit: bool = False

    @property
    def model(self) -> str:
        """``name@version``."""
        return self.hider.detector.model

    def work(self, task: PhotoTask, begin: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """One row."""
        begin(0)
        yield hide_file(self.hider, task, audit=self.audit)


@dataclass
class DetectWorker:
    """Handler of the pool for ``platehide detect``: (row, width and height or ``None``)."""

    hider: Hider
    with_size: bool

    @property
    def model(self) -> str:
        """``name@version``."""
        return self.hider.detector.model

    def work(
        self, task: PhotoTask, begin: Callable[[int], None]
    ) -> Iterator[tuple[dict[str, Any], tuple[int, int] | None]]:
        """One row."""
        begin(0)
        yield detect_file(self.hider, task.path, with_size=self.with_size)


def detect_file(
    hider: Hider, path: str, *, data: bytes | None = None, with_size: bool = False
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Report row without painting, and the size of the displayed photo in px where asked."""
    size = None
    try:
        if data is None:
            data = read_photo(path, byte_limit(hider.max_pixels))
        result = hider.detect(data)
        if with_size and result.status != "error":
            from platehide.formats import open_photo

            size = open_photo(data, max_pixels=hider.max_pixels).frames[0].size_wh
    except ImageError as error:
        return failed_row(path, hider.detector.model, error.code, str(error)), None
    except MemoryError:
        return failed_row(
            path, hider.detector.model, "out_of_memory", "not enough memory for it"
        ), None
    except Exception as error:  # see hide_file
        reason = f"{type(error).__name__}: {error}"
        return failed_row(path, hider.detector.model, "internal", reason), None
    return result.row(path, None), size
