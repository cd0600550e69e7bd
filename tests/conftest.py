"""Shared by all tests: where the real photos are, and what a missing one means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def photos_root() -> Path:
    """Folder of the real annotated photos; the test is skipped, visibly, where it is absent."""
    root = Path(os.environ.get("PLATEHIDE_PHOTOS", ROOT.parent / "shared" / "photos"))
    if not any(root.glob("*/annotations.jsonl")):
        pytest.skip("needs the real photos (PLATEHIDE_PHOTOS)")
    return root
