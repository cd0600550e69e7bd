"""A record of what was done to one photo, for those who must account for it later."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from platehide import __version__
from platehide.types import HideResult

AUDIT_FORMAT = 1


def audit_record(original: bytes, result: HideResult, verify: str) -> dict[str, Any]:
    """What went in, what came out, and why it may leave.

    Args:
        original: the input's bytes.
        verify: how the finished photo was proven: ``full``, ``fast`` or ``off``.

    Returns:
        JSON-ready. Hashes are SHA-256 in hex; ``output_sha256`` is ``None`` where nothing left.
        Coordinates are pixels of the displayed photo.
    """
    return {
        "audit_format": AUDIT_FORMAT,
        "platehide": __version__,
        "input_sha256": hashlib.sha256(original).hexdigest(),
        "output_sha256": None if result.data is None else hashlib.sha256(result.data).hexdigest(),
        "status": result.status,
        "model": result.model,
        "verify": verify,
        "edit": result.edit,
        "plates": [
            {"quad": np.round(p.quad, 2).tolist(), "confidence": round(float(p.confidence), 4)}
            for p in result.plates
        ],
        "painted": [np.round(polygon, 2).tolist() for polygon in result.painted],
        "removed": list(result.removed),
        "error": result.error,
        "code": result.code,
    }
