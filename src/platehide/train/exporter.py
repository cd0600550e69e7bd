"""From a checkpoint to versioned weights: ONNX with float16 storage, spec, model card.

Weights are stored as float16 and computed in float32: every large initializer becomes a float16
constant behind a Cast, which ONNX Runtime folds once when a session is made. That halves the
files in git and costs nothing per photo.

Every initializer keeps its parameter's name and BatchNorm stays unfolded, so that the released
file is also what training goes on from (docs/adr/0110-the-model-file-is-the-checkpoint.md).
"""

from __future__ import annotations

import hashlib
import io
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from platehide.errors import UsageError, WeightsError
from platehide.evaluate.gate import GRAPH_LIMIT, STORAGE_LIMIT
from platehide.files import write_whole
from platehide.model_spec import ModelSpec, RefinerSpec, Thresholds
from platehide.train.checkpoints import read_checkpoint
from platehide.train.config import TrainConfig, from_dict
from platehide.train.models.refiner import REFINER_SIZE_WH
from platehide.train.tasks import build_task

OPSET = 17
MIN_FP16_ELEMENTS = 20_000
MAX_FILE_BYTES = 25_000_000
OUTPUT_NAMES = {
    "dense": ["logits", "quads"],
    "two_head": ["corners", "presence"],
    "refiner": ["corners", "logit"],
}


@dataclass(frozen=True)
class Checkpoint:
    """Averaged weights with the config they were trained by."""

    config: TrainConfig
    model: nn.Module
    step: int


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.pt`` or ``best.pt`` of a run (a run folder means its best, else its last).

    Raises:
        UsageError: there is none, or it does not fit its own config.
    """
    file = path
    if path.is_dir():
        file = path / "best.pt" if (path / "best.pt").is_file() else path / "last.pt"
    if not file.is_file():
        raise UsageError(f"{path}: no checkpoint there")
    saved = read_checkpoint(file, "model", "config", "step")
    values = dict(saved["config"]) | {"pretrained": "none"}
    config = from_dict(values, str(file))
    model = build_task(config).model
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        raise UsageError(f"{file}: the weights do not fit the config: {error}") from error
    return Checkpoint(config, model.eval(), int(saved["step"]))


def example_input(config: TrainConfig) -> Tensor:
    """A picture of the size the exported graph is traced with."""
    if config.task == "refiner":
        width, height = REFINER_SIZE_WH
        return torch.zeros(2, height, width, 3, dtype=torch.uint8)
    size = config.input_size
    return torch.zeros(1, size, size, 3, dtype=torch.uint8)


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """Trace to ONNX; input ``image`` uint8 NHWC RGB, dynamic where the task allows it."""
    config = checkpoint.config
    names = OUTPUT_NAMES[config.task]
    axes: dict[str, dict[int, str]] = {}
    if config.task == "dense":
        axes = {"image": {1: "height", 2: "width"}} | {n: {1: "cells"} for n in names}
    elif config.task == "refiner":
        axes = {"image": {0: "batch"}} | {n: {0: "batch"} for n in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecation notes
        torch.onnx.export(
            checkpoint.model,
            (example_input(config),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=names,
            dynamic_axes=axes,
            # Names and BatchNorm are kept; ONNX Runtime folds both when it makes a session.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return buffer.getvalue()


HALF_SUFFIX = ".f16"


def half_storage(model_bytes: bytes) -> bytes:
    """Store large float32 initializers as float16 behind a Cast."""
    model = onnx.load_model_from_string(model_bytes)
    graph = model.graph
    casts = []
    for index, initializer in enumerate(graph.initializer):
        array = numpy_helper.to_array(initializer)
        if array.dtype != np.float32 or array.size < MIN_FP16_ELEMENTS:
            continue
        name = initializer.name
        half = np.clip(array, -65504.0, 65504.0).astype(np.float16)
        graph.initializer[index].CopyFrom(numpy_helper.from_array(half, f"{name}{HALF_SUFFIX}"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}{HALF_SUFFIX}"], [name], name=f"{name}.cast", to=TensorProto.FLOAT
            )
        )
    for position, node in enumerate(casts):
        graph.node.insert(position, node)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def state_of(model_bytes: bytes) -> dict[str, Tensor]:
    """The torch state that an exported file carries: float32 tensors by parameter name.

    Raises:
        WeightsError: not an ONNX file.
    """
    try:
        graph = onnx.load_model_from_string(model_bytes).graph
    except Exception as error:  # protobuf's own classes
        raise WeightsError(f"not an ONNX file: {error}") from error
    arrays = {i.name.removesuffix(HALF_SUFFIX): numpy_helper.to_array(i) for i in graph.initializer}
    state = {
        name: torch.from_numpy(array.astype(np.float32).copy())
        for name, array in arrays.items()
        if array.dtype in (np.float16, np.float32)
    }
    # Equal tensors are stored once; the others are Identity nodes under their own names.
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in state:
            state.setdefault(node.output[0], state[node.input[0]].clone())
    return state


def state_digest(model_bytes: bytes) -> str:
    """SHA-256 over names and float32 values of the state that a file carries."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_of(model_bytes).items()):
        digest.update(name.encode() + b"\0" + tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def load_state(model: nn.Module, model_bytes: bytes, where: str) -> None:
    """Fill a model with the state that an exported file carries.

    Raises:
        WeightsError: a tensor is missing or has another shape (weights that were exported before
            names were kept carry none).
    """
    found = state_of(model_bytes)
    wanted = {k: v for k, v in model.state_dict().items() if v.dtype.is_floating_point}
    learned = {name for name, _ in model.named_parameters()}
    # Other buffers are constants that the model's own code sets (and a graph may not need).
    learned |= {k for k in wanted if k.endswith(("running_mean", "running_var"))}
    wrong = [k for k in sorted(learned) if k not in found or found[k].shape != wanted[k].shape]
    if wrong:
        raise WeightsError(
            f"{where}: carries no state to train on: {len(wrong)} of {len(learned)} tensors are"
            f" missing or have another shape, e.g. {wrong[0]}"
        )
    model.load_state_dict({k: found[k] for k in learned}, strict=False)


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch, relative to each output's largest value over all
    pictures. (Over each alone, a logit near zero would make any rounding look like a fault.)

    ``worst`` is over every number of every output, ``mean`` the largest mean over an output.
    """

    worst: float
    mean: float


def parity(checkpoint: Checkpoint, onnx_bytes: bytes, pictures: np.ndarray) -> Parity:
    """Compare over pictures, uint8 ``(n, H, W, 3)``; real photos make the check meaningful."""
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    ours: list[list[np.ndarray]] = []
    theirs: list[list[np.ndarray]] = []
    with torch.no_grad():
        for picture in pictures:
            batch = picture[None]
            ours.append([np.asarray(a) for a in session.run(None, {"image": batch})])
            theirs.append([b.numpy() for b in checkpoint.model(torch.from_numpy(batch))])
    worst = mean = 0.0
    for found, wanted in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        reference = np.stack(wanted)
        scale = float(np.abs(reference).max()) + 1e-6
        difference = np.abs(np.stack(found) - reference) / scale
        worst = max(worst, float(difference.max()))
        mean = max(mean, float(difference.mean()))
    return Parity(worst, mean)


def export(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    name: str,
    version: str,
    pictures: np.ndarray,
    thresholds: Thresholds,
    refiner: tuple[Checkpoint, np.ndarray, RefinerSpec] | None = None,
    calibration: tuple[float, ...] = (),
    data_hash: str = "",
    git_commit: str = "",
    notes: dict[str, Any] | None = None,
) -> ModelSpec:
    """Write ``model.onnx`` (``refiner.onnx``) and ``spec.json`` into ``folder``.

    Raises:
        WeightsError: ONNX and torch disagree on the pictures, or a file is over 25 MB.
    """
    if checkpoint.config.task not in ("dense", "two_head"):
        raise UsageError(f"a model is dense or two_head, not {checkpoint.config.task}")
    folder.mkdir(parents=True, exist_ok=True)
    digests: dict[str, str] = {}
    states: dict[str, str] = {}
    measured: dict[str, dict[str, float]] = {}

    def put(file: str, part: Checkpoint, samples: np.ndarray) -> None:
        full = to_onnx(part)
        graph = parity(part, full, samples)
        if graph.worst > GRAPH_LIMIT:
            raise WeightsError(f"{file}: ONNX differs from torch by {graph.worst:.2g}")
        data = half_storage(full)
        if len(data) > MAX_FILE_BYTES:
            raise WeightsError(f"{file}: {len(data) / 1e6:.1f} MB is over 25 MB")
        stored = parity(part, data, samples)
        if stored.mean > STORAGE_LIMIT:
            raise WeightsError(f"{file}: float16 storage changes outputs by {stored.mean:.2g}")
        load_state(build_task(part.config).model, data, file)  # training can go on from it
        measured[file] = {"graph": graph.worst, "storage": stored.mean}
        states[file] = state_digest(data)
        write_whole(folder / file, data)
        digests[file] = hashlib.sha256(data).hexdigest()

    put("model.onnx", checkpoint, pictures)
    refiner_spec = None
    if refiner is not None:
        part, crops, refiner_spec = refiner
        put(refiner_spec.file, part, crops)
    spec = ModelSpec(
        name=name,
        version=version,
        kind="dense" if checkpoint.config.task == "dense" else "two_head",
        input_size=int((notes or {}).get("input_size", checkpoint.config.input_size)),
        sha256=digests,
        thresholds=thresholds,
        calibration=calibration,
        refiner=refiner_spec,
        data_hash=data_hash,
        git_commit=git_commit,
        created=time.strftime("%Y-%m-%d"),
        notes={k: v for k, v in (notes or {}).items() if k != "input_size"}
        | ({} if refiner is None else {"refiner_config": refiner[0].config.to_dict()})
        | {"parity": measured, "state_sha256": states},
    )
    write_whole(folder / "spec.json", spec.to_json().encode())
    return spec
