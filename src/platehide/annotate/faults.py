"""Errors that the annotation system answers with; each knows its HTTP status."""

from __future__ import annotations

from platehide.errors import PlateHideError


class AnnotateError(PlateHideError):
    """Base: something that the caller did cannot be done. ``status`` is the HTTP status."""

    code = "annotate"
    status = 400

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message, code=code)
        if status is not None:
            self.status = status


class Denied(AnnotateError):  # noqa: N818
    """The caller may not do this."""

    code = "denied"
    status = 403


class NotFound(AnnotateError):  # noqa: N818
    """There is no such thing, or none that the caller may know of."""

    code = "not_found"
    status = 404


class Conflict(AnnotateError):  # noqa: N818
    """It clashes with what is already there (slot answered, lease lost, name taken)."""

    code = "conflict"
    status = 409


class BadAnswer(AnnotateError):  # noqa: N818
    """An answer that is not one: wrong shape, corners off the photo, not convex."""

    code = "bad_answer"
    status = 422
