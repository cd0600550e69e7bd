"""Every error that platehide raises on purpose, each with a stable machine-readable ``code``.

A ``code`` is part of the contract: it appears in report rows, in the service's
problem documents and in the batch manifest, so it never changes once released.
"""

from __future__ import annotations


class PlateHideError(Exception):
    """Base of all intentional errors.

    Attributes:
        code: stable identifier of the kind of error, e.g. ``"not_an_image"``.
    """

    code: str = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class UsageError(PlateHideError):
    """The caller asked for something that cannot be done as asked (exit code 2)."""

    code = "usage"


class ImageError(PlateHideError):
    """The bytes are not a photo that can be processed.

    Codes: ``empty``, ``not_an_image``, ``truncated``, ``corrupt``, ``unsupported``, ``too_large``.
    """

    code = "corrupt"


class WeightsError(PlateHideError):
    """Weights are missing, damaged, an LFS pointer, or do not fit their spec."""

    code = "weights"


class UnsureError(PlateHideError):
    """A plate could not be shown to be hidden; no photo may leave."""

    code = "unsure"
