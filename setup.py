"""Packages come from src/; the released weights are installed beside them as data."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
WEIGHT_FILES = [
    str(p.relative_to(ROOT / "weights")) for p in (ROOT / "weights").rglob("*") if p.is_file()
]

setup(
    packages=[*find_packages("src"), "platehide._weights"],
    package_data={
        "platehide": ["py.typed", "assets/*", "serve/static/*", "annotate/static/*"],
        "platehide._weights": WEIGHT_FILES,
    },
)
