"""Counts over a whole archive in constant memory: outcomes, plates, doubt, cost."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from platehide.batch.facts import RowFacts
from platehide.report_file import FINISHED

WIDTHS = ("<32", "32–64", "64–128", ">128")
DOUBTFUL_PHOTOS = 24
DEFAULT_PRICE = 0.04
"""Money a core-hour that cost is stated at, unless another is given."""

_SET_ASIDE_SHOWN = 1000


def width_class(width_px: float) -> str:
    """Class of a plate's width, as in the metrics."""
    return WIDTHS[(width_px >= 32) + (width_px >= 64) + (width_px > 128)]


def confidence_class(confidence: float) -> str:
    """Class of a confidence, in tenths."""
    tenth = min(9, int(confidence * 10 + 1e-9))
    return f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}"


def doubt(facts: RowFacts) -> float:
    """How doubtful a photo is: unsure above all, then the least certain plate."""
    if facts.status == "unsure":
        return 2.0
    if facts.status != "hidden":
        return 0.0
    return 1.0 - min(facts.confidences, default=1.0)


@dataclass
class Summary:
    """Figures over rows, each added once."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    widths: Counter[str] = field(default_factory=Counter)
    confidences: Counter[str] = field(default_factory=Counter)
    second_looks: int = 0
    second_finds: int = 0
    plates: int = 0
    cpu_ms: float = 0.0
    read_ms: float = 0.0
    write_ms: float = 0.0
    total_ms: float = 0.0
    set_aside: list[tuple[str, str, str]] = field(default_factory=list)
    _doubtful: list[tuple[float, int, RowFacts]] = field(default_factory=list)
    _order: int = 0

    def add(self, facts: RowFacts) -> None:
        """Count a row."""
        self.statuses[facts.status] += 1
        self.models[facts.model] += 1
        self.plates += len(facts.quads)
        self.widths.update(map(width_class, facts.widths()))
        self.confidences.update(map(confidence_class, facts.confidences))
        self.second_looks += facts.second_look
        self.second_finds += facts.second_look and facts.status == "hidden"
        self.cpu_ms += facts.cpu_ms
        self.read_ms += facts.read_ms
        self.write_ms += facts.write_ms
        self.total_ms += facts.total_ms
        if facts.status not in FINISHED:
            self.codes[facts.code or facts.status] += 1
            if len(self.set_aside) < _SET_ASIDE_SHOWN:
                self.set_aside.append((facts.image, facts.status, facts.code or ""))
        score = doubt(facts)
        if score > 0.0:
            self._order += 1
            heapq.heappush(self._doubtful, (score, -self._order, facts))
            if len(self._doubtful) > DOUBTFUL_PHOTOS:
                heapq.heappop(self._doubtful)

    def replace_none(self) -> None:
        """Take back a row with status ``none`` that a second look has replaced."""
        self.statuses["none"] -= 1

    @property
    def photos(self) -> int:
        """Number of photos."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Photos that were not written."""
        return self.statuses["unsure"] + self.statuses["error"]

    def doubtful(self) -> list[RowFacts]:
        """The most doubtful photos, the most doubtful first."""
        return [facts for *_, facts in sorted(self._doubtful, key=lambda d: d[:2], reverse=True)]

    def cpu_seconds(self) -> float:
        """CPU time spent on the photos, over all runs."""
        return self.cpu_ms / 1e3

    def cost_a_million(self, price: float) -> float:
        """Money for a million photos at ``price`` a core-hour."""
        return self.cpu_seconds() / max(1, self.photos) * 1e6 / 3600 * price

    def lines(self, price: float) -> Iterator[str]:
        """The summary in words."""
        total = max(1, self.photos)
        shares = ", ".join(
            f"{self.statuses[s]} {s} ({100 * self.statuses[s] / total:.1f} %)"
            for s in ("hidden", "none", "unsure", "error")
        )
        yield f"{self.photos} photos: {shares}"
        if self.codes:
            yield "set aside: " + ", ".join(f"{n} {c}" for c, n in self.codes.most_common())
        yield f"{self.plates} plates by width in px: " + ", ".join(
            f"{name}: {self.widths[name]}" for name in WIDTHS
        )
        yield "by confidence: " + (
            ", ".join(f"{name}: {self.confidences[name]}" for name in sorted(self.confidences))
            or "none"
        )
        if self.second_looks:
            yield f"second look: {self.second_looks} photos, plates on {self.second_finds}"
        yield (
            f"cost: {self.cpu_seconds():.1f} CPU-seconds, "
            f"{1e3 * self.cpu_seconds() / total:.1f} ms a photo; at {price:g} a core-hour "
            f"{self.cost_a_million(price):.2f} per million photos"
        )
