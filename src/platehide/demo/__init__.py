"""Sample photos that the package renders itself, and the run over them: ``python -m
platehide.demo OUT_DIR``."""

from __future__ import annotations
