"""What a run folder of ``platehide train`` has to be measured by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord

ExportRun = Callable[[Path, Sequence[PhotoRecord], Path], Path]
"""(run folder, real photos, folder to write into) → folder of weights; needs torch."""


def weights_inside(path: Path) -> Path | None:
    """The weights that ``train --from`` left in its run folder; ``None`` where there are none.

    Raises:
        UsageError: there are several: which one is meant must be said.
    """
    found = sorted(p.parent for p in path.glob("weights/*/*/spec.json"))
    if len(found) > 1:
        raise UsageError(f"{path}: several weights, name one: {', '.join(map(str, found))}")
    return found[0] if found else None


def is_run(path: Path) -> bool:
    """Whether it is the run folder of one training, with a checkpoint."""
    return (path / "config.yaml").is_file() and any(
        (path / name).is_file() for name in ("best.pt", "last.pt")
    )


@contextmanager
def measurable(
    model: str | None, records: Sequence[PhotoRecord], export_run: ExportRun
) -> Iterator[str | None]:
    """The name or folder of weights that ``model`` stands for: itself, or what is in a run folder,
    exported for as long as the context lasts where it has no weights yet."""
    path = Path(model or "")
    if model is None or not path.is_dir() or (path / "spec.json").is_file():
        yield model
    elif (inside := weights_inside(path)) is not None:
        yield str(inside)
    elif is_run(path):
        with TemporaryDirectory(prefix="platehide-run-") as scratch:
            yield str(export_run(path, records, Path(scratch)))
    else:
        yield model
