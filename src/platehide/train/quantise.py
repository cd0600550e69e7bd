"""The dense network in 8 bits: half the time on processors with dot-product instructions.

Static quantisation after training (Jacob et al. 2018; ONNX Runtime's tool): weights per channel in
7 bits, so that processors without VNNI, which add pairs of products in 16 bits, cannot saturate
and every machine computes the same numbers; activations in 8 bits with ranges from ``train``
photos. The last convolutions, whose outputs are logits and corner offsets, stay in float.
``model.onnx`` remains what training goes on from (docs/adr/0114-eight-bits.md).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from platehide.errors import WeightsError
from platehide.evaluate.dataset import PhotoRecord
from platehide.postprocess import sigmoid
from platehide.preprocess import fit_long_side
from platehide.train.samples import read_rgb
from platehide.types import ImageArray

INT8_FILE = "model.int8.onnx"
CALIBRATION_PHOTOS = 120
_FLOAT_PARTS = ("logit", "offset")


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[ImageArray]) -> None:
        self._left = iter(pictures)

    def get_next(self) -> dict[str, ImageArray] | None:
        picture = next(self._left, None)
        return None if picture is None else {"image": picture[None]}


def calibration_pictures(
    records: Sequence[PhotoRecord], long_side: int, coarse: int
) -> list[ImageArray]:
    """Pictures uint8 ``(h, w, 3)`` as the network sees them when serving, of photos spread over
    ``records``; every sixth also at the coarse look's size."""
    rng = np.random.default_rng(7)
    pick = rng.permutation(len(records))[:CALIBRATION_PHOTOS]
    pictures = []
    for number, index in enumerate(pick):
        image = read_rgb(records[index])
        pictures.append(fit_long_side(image, long_side).pixels)
        if coarse and number % 6 == 0:
            pictures.append(fit_long_side(image, coarse).pixels)
    return pictures


def quantise(model_bytes: bytes, pictures: Sequence[ImageArray]) -> bytes:
    """The exported dense network in 8 bits.

    Args:
        model_bytes: as ``exporter.export`` writes it. pictures: real ones, for the ranges.

    Raises:
        WeightsError: there are no pictures, or the result is no model.
    """
    if not pictures:
        raise WeightsError("nothing to take the ranges of activations from")
    with tempfile.TemporaryDirectory() as folder:
        base, out = Path(folder) / "base.onnx", Path(folder) / "int8.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # BatchNorm folded, nothing that only this machine's kernels know.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(base)
        onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(str(base)).graph.node
        kept = [
            node.name
            for node in nodes
            if any(part in node.name for part in _FLOAT_PARTS) and node.op_type == "Conv"
        ]
        # Sums outside the backbone and the pyramid turn offsets into places.
        kept += [
            node.name
            for node in nodes
            if node.op_type == "Add" and "blocks" not in node.name and node.name not in _PYRAMID
        ]
        logging.disable(logging.WARNING)  # advice to preprocess, which was just done
        try:
            quantize_static(
                str(base),
                str(out),
                _Pictures(pictures),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv", "Add", "Clip", "Resize"],
                nodes_to_exclude=kept,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(str(out))
    _take_bytes(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


_PYRAMID = ("/Add", "/Add_1")


def _take_bytes(model: onnx.ModelProto) -> None:
    """Let the first convolution read the picture's bytes: where the normalisation is (x − m) / s
    with a whole m, it is the zero point and the scale of the quantised picture: it costs nothing.

    A network that normalises otherwise is left as it is.
    """
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {i.name: i for i in graph.initializer}

    def values(name: str) -> np.ndarray:
        return np.asarray(numpy_helper.to_array(constants[name]), dtype=np.float64)

    stem = next(n for n in graph.node if n.op_type == "Conv" and "stem" in n.name)
    first = made_by[stem.input[0]]
    chain, name = [], first.input[0]
    while name != "image":
        node = made_by[name]
        chain.append(node)
        name = node.input[0]
    parts = {node.op_type: node for node in chain}
    if set(parts) != {"QuantizeLinear", "Div", "Sub", "Transpose", "Cast"}:
        return
    mean, std = values(parts["Sub"].input[1]), values(parts["Div"].input[1])
    whole = float(np.round(mean.flat[0]))
    # A mean of 0.498 × 255 is 127 up to a rounding of float32; outputs stay the same to the bit.
    if np.ptp(mean) or np.ptp(std) or abs(float(mean.flat[0]) - whole) > 1e-3:
        return
    scale = 1.0 / float(std.flat[0])
    zero = np.array(whole, np.uint8)
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "image_scale"))
    graph.initializer.append(numpy_helper.from_array(zero, "image_zero"))
    graph.node.insert(
        0, helper.make_node("Transpose", ["image"], ["image_nchw"], "image_nchw", perm=[0, 3, 1, 2])
    )
    del first.input[:]
    first.input.extend(["image_nchw", "image_scale", "image_zero"])
    # A bias is stored in units of picture scale × weight scale.
    weight, bias = made_by[stem.input[1]], made_by[stem.input[2]]
    real = values(bias.input[0]) * values(bias.input[1])
    unit = values(weight.input[1]) * scale
    for target, array in (
        (bias.input[0], np.rint(real / unit).astype(np.int32)),
        (bias.input[1], unit.astype(np.float32)),
    ):
        constants[target].CopyFrom(numpy_helper.from_array(array, target))
    while True:
        used = {i for n in graph.node for i in n.input} | {o.name for o in graph.output}
        dead = [n for n in graph.node if not used & set(n.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for constant in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(constant)


@dataclass(frozen=True)
class Gap:
    """What 8 bits change where the float network sees a plate (probability of one half or more).

    ``probability`` is the mean absolute difference, ``corner`` the mean distance of corners in
    parts of √(width × height); ``cells`` says over how many.
    """

    probability: float
    corner: float
    cells: int


def gap(float_bytes: bytes, int8_bytes: bytes, pictures: Sequence[ImageArray]) -> Gap:
    """Compare the two over real pictures uint8 ``(h, w, 3)``."""
    first, second = (
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        for data in (float_bytes, int8_bytes)
    )
    probability: list[float] = []
    corner: list[float] = []
    for picture in pictures:
        logits, quads = first.run(None, {"image": picture[None]})
        others, moved = second.run(None, {"image": picture[None]})
        before = sigmoid(logits[0])
        seen = before >= 0.5
        probability += np.abs(before - sigmoid(others[0]))[seen].tolist()
        size = np.sqrt(np.ptp(quads[0][seen], axis=1).prod(axis=1).clip(min=1.0))
        distance = np.linalg.norm(quads[0][seen] - moved[0][seen], axis=2).mean(axis=1)
        corner += (distance / size).tolist()
    if not probability:
        return Gap(float("nan"), float("nan"), 0)
    return Gap(float(np.mean(probability)), float(np.mean(corner)), len(probability))
