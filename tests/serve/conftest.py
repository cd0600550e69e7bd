from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serve_client import Running


@pytest.fixture(scope="package")
def service() -> Iterator[Running]:
    """One plain service for all tests that only ask."""
    with Running(
        [
            "--max-body", "300k", "--in-flight", "8",
            "--webhook-secret", "s3cret",
            "--fetch-networks", "127.0.0.0/8", "--fetch-schemes", "http", "--max-batch", "4",
        ]
    ) as running:  # fmt: skip
        yield running
