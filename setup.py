"""Packages come from src/; the released weights are installed beside them as data."""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).parent
WEIGHT_FILES = [
    str(p.relative_to(ROOT / "weights")) for p in (ROOT / "weights").rglob("*") if p.is_file()
]

NATIVE = Path("src/platehide/jpeg/csrc")
# Optional: without a compiler the package still installs, and photos are encoded anew as a whole.
JPEG_EXTENSION = Extension(
    "platehide.jpeg._native",
    sources=sorted(str(path) for path in NATIVE.glob("*.c")),
    depends=sorted(str(path) for path in NATIVE.glob("*.h")),
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-O3", "-g0"] if os.name == "posix" else [],
    py_limited_api=True,
    optional=True,
)

setup(
    ext_modules=[JPEG_EXTENSION],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    packages=[*find_packages("src"), "platehide._weights"],
    package_data={
        "platehide": ["py.typed", "assets/*", "serve/static/*", "annotate/static/*"],
        "platehide._weights": WEIGHT_FILES,
    },
)
