"""Prints what pyproject.toml requires, with the extras named: one line a requirement.

``python requirements.py pyproject.toml serve heif``. The image installs the dependencies before
it copies the code, so that a change of code does not install them again.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Requirements of the base install and of ``extras``; a ``KeyError`` names a missing one."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2:])))
