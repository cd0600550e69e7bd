"""The compiled part, where it could be built.

Without it ``native`` raises ``AttributeError`` on use; ``JpegEditor`` looks at ``AVAILABLE`` first.
"""

from __future__ import annotations

try:
    from platehide.jpeg import _native as native

    AVAILABLE = True
except ImportError:  # installed without a compiler
    native = None  # type: ignore[assignment]
    AVAILABLE = False

__all__ = ["AVAILABLE", "native"]
