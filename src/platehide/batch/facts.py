"""What planning and the summary need of a manifest row: a tenth of its size in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import dist
from typing import Any, NamedTuple

Quad = Sequence[Sequence[float]]


class RowFacts(NamedTuple):
    """The gist of a row (a tuple, since there are millions).

    Attributes:
        quads: of the plates, ``(4, 2)`` each, px of the displayed photo.
        confidences: of the same plates.
        cpu_ms, read_ms, write_ms, total_ms: time spent on the photo.
    """

    key: str
    image: str
    status: str
    code: str | None
    model: str
    output: str | None
    second_look: bool
    quads: tuple[Quad, ...]
    confidences: tuple[float, ...]
    cpu_ms: float
    read_ms: float
    write_ms: float
    total_ms: float

    def widths(self) -> list[float]:
        """Plate widths in px: the mean of top and bottom side (without NumPy, which is slow on
        four points and millions of rows).
        """
        return [(dist(q[0], q[1]) + dist(q[3], q[2])) / 2 for q in self.quads]

    @staticmethod
    def of(row: Mapping[str, Any]) -> RowFacts:
        """The gist of a manifest row."""
        ms = row.get("ms") or {}
        plates = row.get("plates") or ()
        return RowFacts(
            key=row["key"],
            image=row["image"],
            status=row["status"],
            code=row.get("code"),
            model=row.get("model") or "",
            output=row.get("output"),
            second_look=bool(row.get("second_look")),
            quads=tuple(p["quad"] for p in plates),
            confidences=tuple(float(p["confidence"]) for p in plates),
            cpu_ms=float(ms.get("cpu", 0.0)),
            read_ms=float(ms.get("read", 0.0)),
            write_ms=float(ms.get("write", 0.0)),
            total_ms=float(ms.get("total", 0.0)),
        )
