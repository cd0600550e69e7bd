"""What cannot be edited is refused with a reason; what is damaged never passes."""

from __future__ import annotations

import numpy as np
import pytest
from jpeg_samples import by_pillow, scene, sequential, some_patches

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.image_io import WriteOptions
from platehide.jpeg import AVAILABLE, JpegEditor, NotEditableError, editor
from platehide.jpeg.store import MemoryStore

needs_native = pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part (gcc)")


def swap_marker(jpeg: bytes, old: int, new: int) -> bytes:
    return jpeg.replace(bytes([0xFF, old]), bytes([0xFF, new]), 1)


@needs_native
def test_unsupported_kinds_name_the_reason() -> None:
    rgb = scene(48, 40)
    with pytest.raises(NotEditableError, match="CMYK"):
        JpegEditor(by_pillow(rgb, "CMYK"))
    with pytest.raises(NotEditableError, match="RGB"):
        JpegEditor(by_pillow(rgb, keep_rgb=True))
    with pytest.raises(NotEditableError, match="arithmetic"):
        JpegEditor(swap_marker(sequential(rgb, "420"), 0xC0, 0xC9))
    with pytest.raises(ImageError, match="12-bit"):  # baseline has 8
        data = bytearray(sequential(rgb, "420"))
        data[data.index(b"\xff\xc0") + 4] = 12
        JpegEditor(bytes(data))
    with pytest.raises(NotEditableError, match="divide"):
        data = bytearray(sequential(rgb, "444"))
        at = data.index(b"\xff\xc0")
        data[at + 11], data[at + 14] = 0x31, 0x21
        JpegEditor(bytes(data))


@needs_native
def test_an_unfinished_progressive_file_is_refused() -> None:
    jpeg = by_pillow(scene(48, 40), progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    with pytest.raises(NotEditableError, match="unfinished"):
        JpegEditor(jpeg[:last] + b"\xff\xd9")


@needs_native
@pytest.mark.parametrize("progressive", [False, True])
def test_lost_picture_data_is_found(progressive: bool) -> None:
    jpeg = by_pillow(scene(160, 120), progressive=progressive)
    start = jpeg.index(b"\xff\xda") + 14
    for length in (3, 20, 200):
        damaged = jpeg[:start] + jpeg[start + length :]
        opened = JpegEditor(damaged)
        with pytest.raises(NotEditableError):
            opened.check()
    with pytest.raises(NotEditableError):
        JpegEditor(jpeg[: -len(jpeg) // 4] + b"\xff\xd9").check()


@needs_native
def test_extra_bytes_in_the_scan_are_found() -> None:
    jpeg = sequential(scene(160, 120), "420")
    with pytest.raises(NotEditableError, match="damaged"):
        JpegEditor(jpeg[:-2] + b"hidden data, sixteen or more bytes" + b"\xff\xd9").check()


@needs_native
def test_restart_markers_out_of_order_are_found() -> None:
    jpeg = by_pillow(scene(160, 120), restart_marker_blocks=7)
    with pytest.raises(NotEditableError):
        JpegEditor(swap_marker(jpeg, 0xD1, 0xD2)).check()


@needs_native
def test_a_header_cannot_claim_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(by_pillow(scene(64, 64), progressive=True))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = (9000).to_bytes(2, "big") * 2
    monkeypatch.setattr("platehide.jpeg.editor.walk_jpeg", lambda *a, **k: None)
    from platehide.jpeg import source
    from platehide.metadata import jpeg_walk

    monkeypatch.setattr(jpeg_walk, "_check_scans", lambda *a: None)
    layout = jpeg_walk.walk_jpeg(bytes(data), max_pixels=10**9)
    with pytest.raises(NotEditableError, match="too large"):
        MemoryStore(source.read_source(bytes(data), layout))


@needs_native
def test_mutated_files_raise_nothing_else() -> None:
    rng = np.random.default_rng(3)
    sources = [
        sequential(scene(61, 45), sampling, 80) for sampling in ("444", "420", "411", "gray")
    ] + [by_pillow(scene(61, 45), progressive=True, restart_marker_blocks=5)]
    refused = 0
    for _ in range(400):
        data = bytearray(sources[int(rng.integers(0, len(sources)))])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(2, len(data)))] = int(rng.integers(0, 256))
        try:
            opened = JpegEditor(bytes(data))
            if opened.size_wh[0] * opened.size_wh[1] > 10**6:
                continue
            opened.overview(8)
            opened.edit(some_patches(opened.size_wh, 1))
        except (NotEditableError, ImageError):
            refused += 1
    assert 100 < refused < 400


def test_without_the_compiled_part_photos_are_encoded_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(editor, "AVAILABLE", False)
    jpeg = sequential(scene(96, 64), "420")
    with pytest.raises(NotEditableError, match="compiled"):
        JpegEditor(jpeg)
    photo = open_photo(jpeg)
    assert photo.frames[0].overview(40).shape[1] >= 40
    assert photo.write(some_patches((96, 64), 1), WriteOptions()).edit == "reencoded"
    assert open_photo(jpeg).write([], WriteOptions()).edit == "untouched"


@needs_native
def test_photos_use_the_editor() -> None:
    for jpeg in (sequential(scene(96, 64), "420"), by_pillow(scene(96, 64), progressive=True)):
        finished = open_photo(jpeg).write(some_patches((96, 64), 2), WriteOptions())
        assert finished.edit == "lossless"
    cmyk = by_pillow(scene(96, 64), "CMYK")
    assert open_photo(cmyk).write(some_patches((96, 64), 1), WriteOptions()).edit == "reencoded"
