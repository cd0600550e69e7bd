"""Checkpoints on disk: written whole or not at all, read with a clear error."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from platehide.errors import UsageError


def save_atomic(payload: dict[str, Any], path: Path) -> None:
    """Write a checkpoint to a temporary name, then rename it."""
    temporary = path.with_suffix(".tmp")
    torch.save(payload, temporary)
    temporary.replace(path)


def read_checkpoint(path: Path, *needed: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's entries; only tensors and plain values are unpickled.

    Raises:
        UsageError: missing, damaged, or without one of the ``needed`` entries.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a checkpoint, or a damaged one: {first}") from error
    lacking = [key for key in needed if not isinstance(saved, dict) or key not in saved]
    if lacking:
        raise UsageError(f"{path}: not a checkpoint of ours, it has no {', '.join(lacking)}")
    return dict(saved)
