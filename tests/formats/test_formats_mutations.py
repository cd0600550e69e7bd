"""Several thousand seeded mutants; PLATEHIDE_FUZZ_SECONDS makes it longer."""

from __future__ import annotations

import os

from formats_fuzz import fuzz, mutate, peak_megabytes, push
from formats_torture import plain_jpeg

SECONDS = float(os.environ.get("PLATEHIDE_FUZZ_SECONDS", "12"))


def test_mutants_neither_crash_nor_leak_nor_hang() -> None:
    fuzz(1.0, seed=1)  # imports and caches
    before = peak_megabytes()
    tally = fuzz(SECONDS, seed=20, most=None if "PLATEHIDE_FUZZ_SECONDS" in os.environ else 6000)
    assert [reason for _, reason in tally.crashes] == []
    assert tally.leaks == []
    assert tally.slowest_seconds < 5.0
    assert peak_megabytes() - before < 150
    assert tally.runs > 10 * min(SECONDS, 60)
    assert len(tally.outcomes) >= 6, tally.outcomes  # refusals and successes of several kinds


def test_the_fuzzer_can_fail() -> None:
    """A file with the secret in its picture data would be reported."""
    from formats_fuzz import Tally

    tally = Tally()
    push(b"\xff\xd8" + plain_jpeg()[2:], None, cover=False, tally=tally)  # type: ignore[arg-type]
    assert len(tally.crashes) == 1
    import numpy as np

    rng = np.random.default_rng(0)
    assert mutate(plain_jpeg(), rng) != plain_jpeg()
