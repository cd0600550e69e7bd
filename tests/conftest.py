"""Shared by all tests: where the real photos are, and what a missing tool means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples everywhere, and no verdict on the machine's speed.
settings.register_profile(
    "platehide",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("platehide")

ROOT = Path(__file__).resolve().parents[1]
_missing: list[str] = []


@pytest.fixture(scope="session")
def photos_root() -> Path:
    """Folder of the real annotated photos; the test is skipped, visibly, where it is absent."""
    root = Path(os.environ.get("PLATEHIDE_PHOTOS", ROOT.parent / "shared" / "photos"))
    if not any(root.glob("*/annotations.jsonl")):
        pytest.skip("needs the real photos (PLATEHIDE_PHOTOS)")
    return root


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember skips for want of a tool or the photos."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason.startswith("needs "):
            _missing.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI (PLATEHIDE_ALL_TOOLS=1) a test that was skipped for want of a tool is a failure."""
    if os.environ.get("PLATEHIDE_ALL_TOOLS") == "1" and _missing and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was missing."""
    if os.environ.get("PLATEHIDE_ALL_TOOLS") == "1" and _missing:
        terminalreporter.write_line("failed: skipped for want of a tool, which CI installs")
        for line in _missing:
            terminalreporter.write_line(f"  {line}")
