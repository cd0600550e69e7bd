"""The simulated world and crowd of a seed, and how labels compare with the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from platehide.crowd.judgements import Judgement
from platehide.crowd.labels import Label
from platehide.crowd.matching import aligned, reference_height, ring
from platehide.crowd.sim_workers import Human, SimPhoto, Worker, make_bots, make_photo
from platehide.types import FloatArray

PUBLISHED_COST = 28.0
PUBLISHED_PHOTOS = 4000
PUBLISHED_ANSWERS = 3


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
        median_width: of the plates in px (lognormal).
        no_plate: share of photos without a plate.
        several: share of the others (and of the control photos) with two or three plates.
        control_no_plate: share of control photos without a plate.
        seconds: median time of an answer.
        price: paid for one judgement, control tasks included.
        seed: of everything random.
    """

    photos: int = 1200
    controls: int = 400
    workers: int = 100
    bots: float = 0.3
    sloppy: float = 0.2
    honest_sigma: float = 0.06
    sloppy_sigma: float = 0.22
    median_width: float = 170.0
    no_plate: float = 0.08
    several: float = 0.0
    control_no_plate: float = 0.15
    seconds: float = 10.0
    price: float = PUBLISHED_COST / (PUBLISHED_PHOTOS * PUBLISHED_ANSWERS)
    seed: int = 0


@dataclass(frozen=True)
class SimWorld:
    """Photos to annotate and control photos, by name; the kind of every worker."""

    photos: Mapping[str, SimPhoto]
    controls: Mapping[str, SimPhoto]
    kinds: Mapping[str, str]


@dataclass(frozen=True)
class SimResult:
    """What came of one run.

    Attributes:
        settings: of the run.
        corner_errors_px: of every corner of every agreed plate that is there, px.
        wrong: agreed labels with a wrong yes/no or a corner off by more than half the plate's
            height.
        agreed: labels by status; ``open`` were left when the crowd ran out.
        escalated: see ``agreed``.
        open: see ``agreed``.
        judgements: all that were given (and paid), control tasks and dropped answers included.
        control_judgements: of them on control tasks.
        honest: honest workers who answered at least once.
        honest_banned: of them banned.
        bad: bots and sloppy workers who answered at least once, by kind.
        bad_banned: of them banned, by kind.
    """

    settings: SimSettings
    corner_errors_px: FloatArray
    wrong: int
    agreed: int
    escalated: int
    open: int
    judgements: int
    control_judgements: int
    honest: int
    honest_banned: int
    bad: Mapping[str, int]
    bad_banned: Mapping[str, int]


def make_world(settings: SimSettings) -> tuple[SimWorld, dict[str, Worker]]:
    """The photos and the crowd of a seed."""
    rng = np.random.default_rng([settings.seed, 1])
    photos = [
        make_photo(
            f"photo-{k:05d}.jpg",
            rng,
            median_width=settings.median_width,
            no_plate=settings.no_plate,
            several=settings.several,
        )
        for k in range(settings.photos)
    ]
    controls = [
        make_photo(
            f"photo-{settings.photos + k:05d}.jpg",
            rng,
            median_width=settings.median_width,
            no_plate=settings.control_no_plate,
            several=settings.several,
            tilted=True,
        )
        for k in range(settings.controls)
    ]
    n_bots = round(settings.bots * settings.workers)
    n_sloppy = round(settings.sloppy * settings.workers)
    size = SimPhoto("", photos[0].width, photos[0].height, ()) if photos else SimPhoto("", 1, 1, ())
    crowd = make_bots(n_bots, rng, size)
    for k in range(settings.workers - n_bots):
        own = np.random.default_rng(rng.integers(2**63))
        if k < n_sloppy:
            crowd.append(("sloppy", Human(own, settings.sloppy_sigma)))
        else:
            crowd.append(("honest", Human(own, settings.honest_sigma)))
    order = rng.permutation(len(crowd))
    names = [f"worker-{k:04d}" for k in range(len(crowd))]
    kinds = {name: crowd[int(k)][0] for name, k in zip(names, order, strict=True)}
    workers = {name: crowd[int(k)][1] for name, k in zip(names, order, strict=True)}
    world = SimWorld({p.name: p for p in photos}, {p.name: p for p in controls}, kinds)
    return world, workers


def corner_errors(found: FloatArray, true: FloatArray) -> FloatArray:
    """``(4,)`` px, after the best cyclic alignment."""
    reference = ring(true)
    d = aligned(ring(found), reference) - reference
    return np.asarray(np.hypot(d[:, 0], d[:, 1]))


def score_label(label: Label, photo: SimPhoto) -> tuple[bool, list[FloatArray]]:
    """(wrong, corner errors of each true plate that is labelled).

    Wrong: another number of plates, or a corner off by more than half the plate's height.
    """
    rest = [p.quad for p in label.plates]
    wrong = len(rest) != len(photo.plates)
    errors = []
    for true in photo.plates:
        if not rest:
            break
        distances = [corner_errors(q, true) for q in rest]
        best = int(np.argmin([d.max() for d in distances]))
        errors.append(distances[best])
        wrong = wrong or bool(distances[best].max() > 0.5 * reference_height(true))
        rest.pop(best)
    return wrong, errors


def score(
    labels: Iterable[Label],
    judgements: Sequence[Judgement],
    banned: Mapping[str, str],
    world: SimWorld,
    settings: SimSettings,
) -> SimResult:
    """Compare labels with the truth and bans with the kinds of the workers."""
    by_name = {label.task: label for label in labels}
    errors: list[FloatArray] = []
    wrong = agreed = escalated = left = 0
    for name, photo in world.photos.items():
        label = by_name.get(name)
        if label is None or label.status == "open":
            left += 1
        elif label.status == "escalated":
            escalated += 1
        else:
            agreed += 1
            is_wrong, found = score_label(label, photo)
            wrong += is_wrong
            errors.extend(found)
    seen = {j.worker for j in judgements}
    bad: dict[str, int] = {}
    bad_banned: dict[str, int] = {}
    for name in seen:
        kind = world.kinds[name]
        if kind != "honest":
            bad[kind] = bad.get(kind, 0) + 1
            bad_banned[kind] = bad_banned.get(kind, 0) + (name in banned)
    honest = [name for name in seen if world.kinds[name] == "honest"]
    return SimResult(
        settings=settings,
        corner_errors_px=np.concatenate([*errors, np.empty(0)]),
        wrong=wrong,
        agreed=agreed,
        escalated=escalated,
        open=left,
        judgements=len(judgements),
        control_judgements=sum(j.task in world.controls for j in judgements),
        honest=len(honest),
        honest_banned=sum(name in banned for name in honest),
        bad=bad,
        bad_banned=bad_banned,
    )
