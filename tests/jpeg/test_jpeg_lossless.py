"""The promise: outside the blocks with a changed pixel, not one coefficient differs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from jpeg_samples import (
    FACTORS,
    SAMPLINGS,
    block_sides,
    by_pillow,
    changed_map,
    coefficients,
    decoded,
    reader_program,
    scene,
    sequential,
    some_patches,
)

from platehide.jpeg import AVAILABLE, JpegEditor
from platehide.jpeg import store as store_module
from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.pixels import Patch

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part (gcc)")

SIZES = [(200, 136), (201, 133), (17, 9), (8, 8), (1, 1), (333, 64)]
PILLOW_KINDS: list[dict[str, object]] = [
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 7},
    {"restart_marker_rows": 1},
    {"progressive": True, "restart_marker_blocks": 5},
    {"quality": 100, "optimize": True},
    {"quality": 20, "progressive": True},
]


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reader_program(tmp_path_factory.mktemp("reader"))


def check_lossless(jpeg: bytes, patches: list[Patch], reader: Path, folder: Path) -> bytes:
    editor = JpegEditor(jpeg)
    edit = editor.edit(patches)
    changed = changed_map(editor.size_wh, patches)
    before = coefficients(reader, folder, jpeg)
    after = coefficients(reader, folder, edit.data)
    assert len(before) == len(after)
    for old, new, (w, h) in zip(before, after, block_sides(jpeg), strict=True):
        assert old.shape == new.shape
        for y, x in np.argwhere((old != new).any(axis=2)):
            assert changed[y * h : (y + 1) * h, x * w : (x + 1) * w].any(), (
                f"block {x}, {y} was touched without need"
            )
    outside = np.ones_like(changed)
    for x0, y0, x1, y1 in edit.boxes:
        outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
    assert not changed[outside].any()
    assert np.array_equal(decoded(jpeg)[outside], decoded(edit.data)[outside])
    return edit.data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_and_size(
    size: tuple[int, int], sampling: str, reader: Path, tmp_path: Path
) -> None:
    for quality in (35, 90, 100):
        jpeg = sequential(scene(*size), sampling, quality)
        for count in (1, 3):
            patches = some_patches(size, count, seed=quality + count)
            check_lossless(jpeg, patches, reader, tmp_path)


@pytest.mark.parametrize("options", PILLOW_KINDS, ids=str)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_progressive_restarts_and_optimal_tables(
    options: dict[str, object], subsampling: int, reader: Path, tmp_path: Path
) -> None:
    for size in ((201, 133), (40, 90)):
        jpeg = by_pillow(scene(*size), subsampling=subsampling, **({"quality": 85} | options))
        out = check_lossless(jpeg, some_patches(size, 2, seed=subsampling), reader, tmp_path)
        before, after = walk_jpeg(jpeg, max_pixels=10**6), walk_jpeg(out, max_pixels=10**6)
        assert after.frame == before.frame
        assert [out[s.sos.start : s.sos.end] for s in after.scans] == [
            jpeg[s.sos.start : s.sos.end] for s in before.scans
        ]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}], ids=str)
def test_grey(options: dict[str, object], reader: Path, tmp_path: Path) -> None:
    jpeg = by_pillow(scene(75, 50), "L", **options)
    check_lossless(jpeg, some_patches((75, 50), 2), reader, tmp_path)


SCRIPTS = {
    "components apart": "0;\n1;\n2;\n",
    "colours together": "0;\n1 2;\n",
    "progressive by bits": (
        "0 1 2: 0-0, 0, 2;\n0 1 2: 0-0, 2, 1;\n0 1 2: 0-0, 1, 0;\n"
        "0: 1-63, 0, 1;\n1: 1-63, 0, 1;\n2: 1-63, 0, 1;\n"
        "0: 1-63, 1, 0;\n1: 1-63, 1, 0;\n2: 1-63, 1, 0;\n"
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("restart", [0, 3])
def test_several_scans(name: str, restart: int, reader: Path, tmp_path: Path) -> None:
    if shutil.which("jpegtran") is None:
        pytest.skip("needs jpegtran")
    source, script = tmp_path / "in.jpg", tmp_path / "script"
    source.write_bytes(sequential(scene(101, 77), "420"))
    script.write_text(SCRIPTS[name])
    command = ["jpegtran", "-scans", str(script), "-restart", f"{restart}B", str(source)]
    jpeg = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(walk_jpeg(jpeg, max_pixels=10**6).scans) == SCRIPTS[name].count(";")
    check_lossless(jpeg, some_patches((101, 77), 2), reader, tmp_path)


def test_a_full_huffman_table_is_made_anew(
    reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    write = store_module.ScanStore.write

    def spy(self: store_module.ScanStore, edits: list[store_module.AreaEdit]) -> bytes | None:
        answers.append(write(self, edits))
        return answers[-1]

    monkeypatch.setattr(store_module.ScanStore, "write", spy)
    size = (320, 240)
    jpeg = by_pillow(scene(*size), quality=97, optimize=True, subsampling=0)
    check_lossless(jpeg, some_patches(size, 2), reader, tmp_path)
    assert answers == [None], "the sample must be one whose table has no room"


def test_a_missing_symbol_gets_a_code_of_its_own(reader: Path, tmp_path: Path) -> None:
    size = (320, 240)
    flat = np.full((size[1], size[0], 3), 90, np.uint8)
    jpeg = by_pillow(flat, quality=90, optimize=True, subsampling=2)
    patch = Patch(50, 60, np.full((30, 80, 3), 200, np.uint8), np.ones((30, 80), np.bool_))
    out = check_lossless(jpeg, [patch], reader, tmp_path)
    tables = [s for s in walk_jpeg(out, max_pixels=10**6).segments if s.marker == 0xC4]
    before = [s for s in walk_jpeg(jpeg, max_pixels=10**6).segments if s.marker == 0xC4]
    assert len(tables) == len(before) + 1


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("quality", [75, 95])
def test_inside_is_the_patch_as_a_whole_encoder_would_write_it(sampling: str, quality: int) -> None:
    size = (160, 96)
    rgb = scene(*size)
    jpeg = sequential(rgb, sampling, quality)
    new = scene(64, 32, seed=5) if sampling != "gray" else np.repeat(scene(64, 32)[..., :1], 3, 2)
    patch = Patch(48, 32, new, np.ones((32, 64), np.bool_))
    out = decoded(JpegEditor(jpeg).edit([patch]).data)
    whole = decoded(jpeg).copy()
    whole[32:64, 48:112] = new
    reference = decoded(sequential(whole, sampling, quality))
    ours = np.abs(out[32:64, 48:112].astype(int) - new).mean()
    theirs = np.abs(reference[32:64, 48:112].astype(int) - new).mean()
    assert ours <= theirs + 0.15


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_hidden_pixels_beyond_the_edge_are_covered(
    sampling: str, reader: Path, tmp_path: Path
) -> None:
    """Two photos that differ in the plate only, at the lower right corner, in blocks that hang
    over the edge; both edited photos must hold the same coefficients there."""
    width, height = 85, 59
    h, v = FACTORS.get(sampling, (1, 1))
    x, y = 85 // (8 * h) * 8 * h, 59 // (8 * v) * 8 * v
    x, y = (x - 8 * h if x == 85 else x), (y - 8 * v if y == 59 else y)
    cover = Patch(
        x, y, np.full((height - y, width - x, 3), 77, np.uint8),
        np.ones((height - y, width - x), np.bool_),
    )  # fmt: skip
    results = []
    for seed in (1, 2):
        rgb = scene(width, height)
        rgb[y:, x:] = np.random.default_rng(seed).integers(0, 256, rgb[y:, x:].shape)
        jpeg = sequential(rgb, sampling)
        out = JpegEditor(jpeg).edit([cover]).data
        results.append((block_sides(out), coefficients(reader, tmp_path, out)))
    for (w, t), one, two in zip(results[0][0], results[0][1], results[1][1], strict=True):
        assert np.array_equal(one[y // t :, x // w :], two[y // t :, x // w :])


def test_patches_apply_in_order_and_the_editor_can_be_used_again() -> None:
    for jpeg in (sequential(scene(96, 96), "420"), by_pillow(scene(96, 96), progressive=True)):
        editor = JpegEditor(jpeg)
        red = Patch(20, 20, np.full((40, 40, 3), (255, 0, 0), np.uint8), np.ones((40, 40), bool))
        blue = Patch(30, 30, np.full((40, 40, 3), (0, 0, 255), np.uint8), np.ones((40, 40), bool))
        first = editor.edit([red, blue]).data
        overlap = decoded(first)[40:50, 40:50].mean(axis=(0, 1))
        assert overlap[2] > 200
        assert overlap[0] < 60
        assert editor.edit([blue]).data != first
        assert editor.edit([red, blue]).data == first


def test_a_patch_without_change_gives_the_file_itself() -> None:
    jpeg = sequential(scene(64, 64), "420")
    nothing = Patch(3, 3, np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.bool_))
    edit = JpegEditor(jpeg + b"trailer").edit([nothing])
    assert edit.data == jpeg
    assert edit.boxes == ()


def test_a_patch_outside_is_refused() -> None:
    editor = JpegEditor(sequential(scene(64, 64), "420"))
    patch = Patch(60, 3, np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), np.bool_))
    with pytest.raises(ValueError, match="does not lie inside 64×64"):
        editor.edit([patch])
