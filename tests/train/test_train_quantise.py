"""The dense network in 8 bits stays the network: same input, nearly the same plates; what is not it
is told from it.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch", reason="needs torch (extra train)")

from platehide.demo.scenes import SCENES, render
from platehide.detector import make_session
from platehide.errors import WeightsError
from platehide.evaluate.gate import close_enough
from platehide.formats import open_photo
from platehide.preprocess import fit_long_side
from platehide.train.quantise import gap, quantise
from platehide.types import ImageArray
from platehide.weights import load_weights


@pytest.fixture(scope="module")
def original() -> bytes:
    return load_weights(None).read("model.onnx")


@pytest.fixture(scope="module")
def pictures() -> list[ImageArray]:
    frames = [open_photo(render(spec).jpeg).frames[0] for spec in SCENES[:4]]
    return [fit_long_side(frame.overview(512), 512).pixels for frame in frames]


@pytest.fixture(scope="module")
def small(original: bytes, pictures: list[ImageArray]) -> bytes:
    return quantise(original, pictures)


def test_it_takes_the_same_picture_and_finds_nearly_the_same(
    original: bytes, small: bytes, pictures: list[ImageArray]
) -> None:
    assert [i.type for i in make_session(small, "8 bits").get_inputs()] == ["tensor(uint8)"]
    assert len(small) < 0.6 * len(original)
    found = gap(original, small, pictures)
    assert found.cells > 5
    assert close_enough({"probability": found.probability, "corner": found.corner})


def test_weights_leave_a_bit_for_processors_without_dot_products(small: bytes) -> None:
    graph = onnx.load_model_from_string(small).graph
    weights = [numpy_helper.to_array(i) for i in graph.initializer if i.name.endswith("_quantized")]
    kernels = [w for w in weights if w.dtype == np.int8 and w.ndim == 4]
    assert len(kernels) > 20
    assert max(int(np.abs(w.astype(int)).max()) for w in kernels) <= 64


def test_what_is_not_the_network_is_told(
    original: bytes, small: bytes, pictures: list[ImageArray]
) -> None:
    model = onnx.load_model_from_string(small)
    for initializer in model.graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.dtype == np.int8 and array.ndim == 4:
            turned = np.ascontiguousarray(array[::-1])
            initializer.CopyFrom(numpy_helper.from_array(turned, initializer.name))
            break
    found = gap(original, model.SerializeToString(), pictures)
    assert not close_enough({"probability": found.probability, "corner": found.corner})


def test_nothing_seen_is_not_close(original: bytes, small: bytes) -> None:
    found = gap(original, small, [np.full((64, 64, 3), 90, np.uint8)])
    assert found.cells == 0
    assert not close_enough({"probability": found.probability, "corner": found.corner})
    with pytest.raises(WeightsError, match="ranges"):
        quantise(original, [])


def test_the_picture_goes_in_as_bytes(small: bytes) -> None:
    """Its normalisation is a zero point and a scale: no arithmetic on every pixel."""
    kinds = {node.op_type for node in onnx.load_model_from_string(small).graph.node}
    assert not kinds & {"Sub", "Div"}
