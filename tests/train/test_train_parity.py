"""Training and serving see the same tensors, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import torch
from PIL import Image
from torch import nn

from platehide.demo.scenes import SCENES, render
from platehide.errors import ImageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.formats import open_photo
from platehide.preprocess import fit_long_side, stretch
from platehide.train.config import TrainConfig
from platehide.train.exporter import Checkpoint, parity
from platehide.train.samples import read_rgb


def record_of(path: Path, size_wh: tuple[int, int] = (400, 300)) -> PhotoRecord:
    return PhotoRecord("s", path, *size_wh, "train", (), "g", "l", True)


def test_a_turned_photo_is_learned_as_it_is_judged(tmp_path: Path) -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:100, :100] = 255  # stored top left
    exif = Image.Exif()
    exif[274] = 6  # shown turned clockwise: top right
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    trained = read_rgb(record_of(tmp_path / "a.jpg", (300, 400)))
    judged = open_photo((tmp_path / "a.jpg").read_bytes()).frames[0].region((0, 0, 300, 400))
    assert trained[50, 250].min() > 200
    assert trained[50, 50].max() < 50
    assert np.abs(trained.astype(int) - judged).max() <= 3
    with pytest.raises(ImageError, match=r"a\.jpg: is 300x400, but was labelled as 400x300"):
        read_rgb(record_of(tmp_path / "a.jpg"))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_the_same_photo_gives_the_same_network_input(tmp_path: Path, suffix: str) -> None:
    pixels = cv2.imdecode(np.frombuffer(render(SCENES[0]).jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    small = cv2.resize(pixels, (400, 300), interpolation=cv2.INTER_AREA)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), small, [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])
    trained = read_rgb(record_of(path))
    served = open_photo(path.read_bytes()).frames[0]
    ours = stretch(trained, (224, 224)).pixels
    theirs = stretch(served.overview(224), (224, 224)).pixels
    if suffix == ".jpg":  # the reader reduces in the DCT domain; figures are measured through it
        assert np.abs(ours.astype(int) - theirs).mean() < 2.5
    else:
        assert np.array_equal(ours, theirs)
    a = fit_long_side(trained, 512)
    b = fit_long_side(served.overview(512), 512)
    assert np.array_equal(a.pixels, b.pixels)
    assert a.scale_xy.tolist() == b.scale_xy.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_output_near_zero_is_no_fault() -> None:
    """What counts is the difference beside the output's largest value over all pictures."""

    class Tiny(nn.Module):
        def __init__(self, weight: float) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([weight]))

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
            return (image.float().mean((1, 2, 3)) * self.weight - 100.0,)

    def exported(weight: float) -> bytes:
        buffer = io.BytesIO()
        example = (torch.zeros(1, 4, 4, 3, dtype=torch.uint8),)
        torch.onnx.export(
            Tiny(weight), example, buffer, dynamo=False, input_names=["image"]  # type: ignore[arg-type]
        )  # fmt: skip
        return buffer.getvalue()

    config = TrainConfig(name="t", task="dense", pretrained="none")
    checkpoint = Checkpoint(config, Tiny(1.0).eval(), 1)
    pictures = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (100, 200)])
    assert parity(checkpoint, exported(1.0), pictures).worst < 1e-5
    near = parity(checkpoint, exported(1.001), pictures)
    assert near.worst == pytest.approx(0.002, rel=0.05)
    assert near.mean == pytest.approx(0.0015, rel=0.05)
    assert parity(checkpoint, exported(1.1), pictures).worst > 0.1
