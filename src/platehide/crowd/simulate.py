"""A simulated crowd against any server that speaks ``SimServer`` (skeleton)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from platehide.crowd.aggregate import Label
from platehide.crowd.judgements import Judgement
from platehide.types import FloatArray


@dataclass(frozen=True)
class SimPhoto:
    """A photo of the simulated world: its name, size and true plates."""

    name: str
    width: int
    height: int
    plates: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Offer:
    """What a worker gets to see. ``lease`` is whatever the server needs to take the answer."""

    photo: str
    lease: str


@dataclass(frozen=True)
class Answer:
    """What a worker sends: plates ``(4, 2)`` px in any order, or a skip."""

    plates: tuple[FloatArray, ...] = ()
    skip: bool = False


class SimServer(Protocol):
    """What the simulation needs of a server. Time is simulated: Unix seconds come in."""

    def enrol(self, worker: str, now: float) -> None:
        """Admit a worker."""

    def next_task(self, worker: str, now: float) -> Offer | None:
        """The worker's next task, ``None`` where there is none now (or the worker is banned)."""

    def submit(self, worker: str, offer: Offer, answer: Answer, now: float) -> None:
        """Take an answer; ``now`` is when it arrives."""

    def banned(self) -> Mapping[str, str]:
        """Banned workers and reasons."""

    def judgements(self) -> Sequence[Judgement]:
        """The raw log: every answer ever taken, dropped ones and control tasks included."""

    def labels(self) -> Sequence[Label]:
        """The labels as they stand (of the photos; control tasks may be among them)."""


@dataclass(frozen=True)
class SimSettings:
    """One simulated project.

    Attributes:
        photos: to annotate.
        controls: control photos in rotation.
        workers: in the crowd.
        bots: share of the workers that are bots, split over the five kinds.
        sloppy: share of the workers that are sloppy.
        honest_sigma: scatter of a coordinate, as a share of the plate's height.
        sloppy_sigma: the same of a sloppy worker.
        price: paid for one judgement.
        seed: of everything random.
    """

    photos: int = 1200
    controls: int = 400
    workers: int = 100
    bots: float = 0.3
    sloppy: float = 0.2
    honest_sigma: float = 0.06
    sloppy_sigma: float = 0.22
    price: float = 28.0 / 12000.0
    seed: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SimWorld:
    """Photos to annotate and control photos, by name."""

    photos: Mapping[str, SimPhoto]
    controls: Mapping[str, SimPhoto]


@dataclass(frozen=True)
class SimResult:
    """What came of one run."""

    settings: SimSettings
    corner_errors_px: FloatArray
    wrong: int
    agreed: int
    escalated: int
    open: int
    judgements: int
    honest: int
    honest_banned: int
    bad_banned: int
    bad: int


MakeServer = Callable[[SimWorld, SimSettings], SimServer]


def run(settings: SimSettings, make_server: MakeServer | None = None) -> SimResult:
    """One simulated project; the in-memory engine where ``make_server`` is ``None``."""
    raise NotImplementedError


def table(results: Sequence[SimResult]) -> str:
    """A printed table, runs of equal settings but the seed pooled, with the goals and the cost
    of 4,000 photos beside the published $28."""
    raise NotImplementedError
