"""What weights expect of the code that runs them; lies beside them as ``spec.json``."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from platehide.errors import WeightsError

Kind = Literal["dense", "two_head"]
SPEC_FORMAT = 1


@dataclass(frozen=True)
class Thresholds:
    """Decisions on calibrated confidence.

    Attributes:
        hide: from here a plate is covered.
        unsure: from here (below ``hide``) the photo is ``unsure``; 1.0 switches it off.
        candidate: raw probability from which a cell becomes a candidate.
    """

    hide: float
    unsure: float = 1.0
    candidate: float = 0.05


@dataclass(frozen=True)
class RefinerSpec:
    """The second stage: file, crop and how often it is applied.

    ``from_edges``: its corners were learned from labels told from pixel edges (the first pixel
    spans 0…1), as photos are labelled; older refiners took them for pixel centres.
    ``mirrored``: the last pass looks at each crop and its mirror image and takes the mean.
    """

    file: str
    size_wh: tuple[int, int]
    margin: float
    passes: int
    from_edges: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model.

    Attributes:
        name, version: ``name@version`` is what reports show.
        kind: how the outputs are read (``dense`` or ``two_head``).
        input_size: long side in px (dense) or side of the square (two_head).
        coarse_size: long side in px of a second, cheap look for plates that nearly fill the frame
            (dense; 0 = none). The network was trained on crops and has not seen larger plates.
        trained_width: widest plate in network px that the training crops showed (dense).
        least_px: long side in photo px from which something is taken for a plate: what is smaller
            cannot be read, and is as often none.
        graph: the file that is run: ``model.onnx``, or the same network in 8 bits.
        sha256: digest of each file of the folder that the model needs.
        thresholds: see ``Thresholds``.
        iou_threshold: of the non-maximum suppression.
        calibration: weights of the logistic map from (detector logit, refiner logit, 1) to the
            confidence; empty = the raw probability.
        refiner: second stage or ``None``.
        data_hash, git_commit, created: where the weights come from.
    """

    name: str
    version: str
    kind: Kind
    input_size: int
    sha256: dict[str, str]
    thresholds: Thresholds
    iou_threshold: float = 0.3
    coarse_size: int = 0
    trained_width: float = 220.0
    least_px: float = 0.0
    calibration: tuple[float, ...] = ()
    refiner: RefinerSpec | None = None
    graph: str = "model.onnx"
    data_hash: str = ""
    git_commit: str = ""
    created: str = ""
    format: int = SPEC_FORMAT
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> str:
        """The text of ``spec.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_spec(path: Path) -> ModelSpec:
    """Read and check a ``spec.json``.

    Raises:
        WeightsError: missing, not JSON, an unknown format, or fields that do not fit.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise WeightsError(f"{path}: expected an object")
    if raw.get("format") != SPEC_FORMAT:
        raise WeightsError(
            f"{path}: format {raw.get('format')!r}, this version reads {SPEC_FORMAT}"
        )
    known = {f.name for f in dataclasses.fields(ModelSpec)}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise WeightsError(f"{path}: unknown field {', '.join(unknown)}")
    try:
        refiner = raw.get("refiner")
        spec = ModelSpec(
            **{
                **raw,
                "thresholds": Thresholds(**raw["thresholds"]),
                "calibration": tuple(float(v) for v in raw.get("calibration", ())),
                "refiner": None
                if refiner is None
                else RefinerSpec(**{**refiner, "size_wh": tuple(refiner["size_wh"])}),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {type(error).__name__}: {error}") from error
    if spec.kind not in ("dense", "two_head"):
        raise WeightsError(f"{path}: unknown kind {spec.kind!r}")
    t = spec.thresholds
    if not (0.0 <= t.candidate <= 1.0 and 0.0 < t.hide <= 1.0 and 0.0 < t.unsure <= 1.0):
        raise WeightsError(f"{path}: thresholds lie in 0…1")
    for file in ("model.onnx", spec.graph, *([] if spec.refiner is None else [spec.refiner.file])):
        if file not in spec.sha256:
            raise WeightsError(f"{path}: sha256 lacks {file}")
    return spec
