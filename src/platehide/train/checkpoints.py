"""Checkpoints on disk: written whole or not at all, read with a clear error."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from platehide.errors import UsageError

DAMAGED = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)
"""What torch.load raises on files that are none of its own."""


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
    except DAMAGED as error:  # torch's own text recommends unpickling it all the same
        raise UsageError(f"{path}: not a checkpoint, or a damaged one") from error
    lacking = [key for key in needed if not isinstance(saved, dict) or key not in saved]
    if lacking:
        raise UsageError(f"{path}: not a checkpoint of ours, it has no {', '.join(lacking)}")
    return dict(saved)


def run_info(path: Path) -> dict[str, Any]:
    """What ``run.json`` says of a run folder, or of the folder of a checkpoint; empty without."""
    file = (path if path.is_dir() else path.parent) / "run.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
