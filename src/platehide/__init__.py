"""Find licence plates on photos of cars and hide each under a cover that fits it.

``from platehide import PlateHider`` is the whole public Python API; the import is lazy so that
``import platehide`` costs nothing until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from platehide.pipeline import PlateHider
    from platehide.types import Detection, HideResult

__all__ = ["Detection", "HideResult", "PlateHider", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "PlateHider":
        from platehide.pipeline import PlateHider

        return PlateHider
    if name in {"Detection", "HideResult"}:
        from platehide import types

        return getattr(types, name)
    raise AttributeError(f"module 'platehide' has no attribute {name!r}")
