"""Around every call into a decoder: whatever hostile bytes provoke comes out as an ImageError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from platehide.errors import ImageError

_TRUNCATED_HINTS = ("truncated", "premature end", "unexpected end", "not enough data")


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn any exception of a third-party decoder into an :class:`ImageError`.

    Decoders raise whatever they like for damaged files (OSError, SyntaxError, struct.error,
    IndexError, cv2.error …), so everything but running out of time or being stopped is caught.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{what} needs more memory than there is", code="too_large") from error
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        code = "truncated" if any(h in reason.lower() for h in _TRUNCATED_HINTS) else "corrupt"
        raise ImageError(f"{what} cannot be decoded: {reason}", code=code) from error


def check_pixels(width: int, height: int, max_pixels: int, *, frames: int = 1) -> None:
    """Refuse what declares more pixels than allowed, before anything is decoded.

    Raises:
        ImageError: ``too_large``, or ``corrupt`` where there is no pixel at all.
    """
    if width <= 0 or height <= 0 or frames <= 0:
        raise ImageError("the picture declares no pixels")
    if width * height * frames > max_pixels:
        times = f" × {frames} frames" if frames > 1 else ""
        raise ImageError(
            f"{width}×{height}{times} is more than the allowed {max_pixels} pixels",
            code="too_large",
        )
