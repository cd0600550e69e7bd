"""Training and serving see the same tensors, byte for byte."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

from platehide.demo.scenes import SCENES, render
from platehide.evaluate.dataset import PhotoRecord
from platehide.formats import open_photo
from platehide.preprocess import fit_long_side, stretch
from platehide.train.samples import read_rgb


def record_of(path: Path) -> PhotoRecord:
    return PhotoRecord("s", path, 0, 0, "train", (), "g", "l", True)


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
