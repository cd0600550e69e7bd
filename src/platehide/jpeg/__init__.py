"""Edit a JPEG without touching what was not asked for: see docs/jpeg.md.

The work is done by a small compiled module; where it was not built, ``AVAILABLE`` is false and
every photo raises ``NotEditableError``, so callers decode and encode as a whole.
"""

from __future__ import annotations

from platehide.jpeg.editor import Edit, JpegEditor
from platehide.jpeg.native import AVAILABLE
from platehide.jpeg.source import DamagedScanError, NotEditableError

__all__ = ["AVAILABLE", "DamagedScanError", "Edit", "JpegEditor", "NotEditableError"]
