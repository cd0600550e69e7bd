"""Find installed weights and refuse what is not exactly what its spec says."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from platehide.errors import UsageError, WeightsError
from platehide.model_spec import ModelSpec, read_spec

LFS_MARK = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Weights:
    """A verified folder of weights: ``read(file)`` gives bytes whose digest was checked."""

    folder: Path
    spec: ModelSpec

    def read(self, file: str) -> bytes:
        """Bytes of a file of the folder.

        Raises:
            WeightsError: missing, a Git LFS pointer, or another sha256 than the spec's.
        """
        path = self.folder / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error
        if data.startswith(LFS_MARK):
            raise WeightsError(f"{path}: a Git LFS pointer, not weights")
        wanted = self.spec.sha256.get(file)
        found = hashlib.sha256(data).hexdigest()
        if found != wanted:
            raise WeightsError(f"{path}: sha256 {found[:12]}… differs from the spec's {wanted}")
        return data


def weights_root() -> Path:
    """The folder that holds ``<model>/<version>/`` and ``CURRENT``.

    ``PLATEHIDE_WEIGHTS`` where set; the installed package's data; the source checkout.

    Raises:
        WeightsError: there is none.
    """
    override = os.environ.get("PLATEHIDE_WEIGHTS")
    package = Path(__file__).resolve().parent
    candidates = (
        [Path(override)] if override else [package / "_weights", package.parents[1] / "weights"]
    )
    for root in candidates:
        if (root / "CURRENT").is_file():
            return root
    raise WeightsError(
        f"no weights found (looked for CURRENT in {', '.join(map(str, candidates))})"
    )


def list_models(root: Path | None = None) -> list[str]:
    """All installed ``name@version``, sorted."""
    base = root or weights_root()
    return sorted(f"{p.parent.parent.name}@{p.parent.name}" for p in base.glob("*/*/spec.json"))


def _version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, int(p)) if p.isdigit() else (1, p) for p in version.split("."))


def resolve(model: str | None) -> Path:
    """Folder of a model: ``None`` or ``CURRENT`` = the default, ``name`` = its newest version,
    ``name@version``, or a path to a folder with a spec.json.

    Raises:
        UsageError: no such model (the message lists what there is).
        WeightsError: CURRENT names weights that are not there.
    """
    if model is not None and (
        "/" in model or os.sep in model or (Path(model) / "spec.json").is_file()
    ):
        folder = Path(model)
        if not (folder / "spec.json").is_file():
            raise UsageError(f"{model}: no spec.json there")
        return folder
    root = weights_root()
    if model is None or model == "CURRENT":
        name = (root / "CURRENT").read_text(encoding="utf-8").strip()
        folder = root / name.replace("@", "/")
        if not (folder / "spec.json").is_file():
            raise WeightsError(f"{root / 'CURRENT'} names {name!r}, which is not there")
        return folder
    name, _, version = model.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UsageError(f"no model {model!r}; there are {', '.join(list_models(root)) or 'none'}")
    versions = sorted((p.parent.name for p in root.glob(f"{name}/*/spec.json")), key=_version_key)
    if not versions or (version and version not in versions):
        raise UsageError(f"no model {model!r}; there are {', '.join(list_models(root)) or 'none'}")
    return root / name / (version or versions[-1])


def load_weights(model: str | None) -> Weights:
    """Resolve a model and read its spec (files are verified when they are read)."""
    folder = resolve(model)
    spec = read_spec(folder / "spec.json")
    return Weights(folder, spec)
