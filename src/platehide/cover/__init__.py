"""Covers: a vector or bitmap design, put on a plate in its perspective and light."""

from __future__ import annotations

from platehide.cover.compose import Covered, cover_plate
from platehide.cover.template import Cover, CoverOptions, load_cover

__all__ = ["Cover", "CoverOptions", "Covered", "cover_plate", "load_cover"]
