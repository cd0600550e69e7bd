"""Bad, damaged or half-measured weights cannot pass: the committed folders are held to it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from platehide.demo.scenes import SCENES, render
from platehide.detector import OnnxDetector, load_detector
from platehide.errors import WeightsError
from platehide.evaluate import gate
from platehide.evaluate.dataset import load_records
from platehide.evaluate.page import page
from platehide.evaluate.reproduce import consistent
from platehide.evaluate.runner import detector_predictor, run_records
from platehide.formats import open_photo
from platehide.geometry import plate_width, polygon_iou
from platehide.model_spec import read_spec
from platehide.pixels import ArrayPixels
from platehide.weights import Weights, load_weights, resolve, weights_root

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(p.parent for p in (ROOT / "weights").glob("*/*/spec.json"))


def test_there_are_weights_and_current_is_one_of_them() -> None:
    assert resolve(None) in FOLDERS
    assert {f.parent.name for f in FOLDERS} >= {"quad-lite0", "two-head-resnet18"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.parent.name)
def test_every_folder_is_whole(folder: Path) -> None:
    assert gate.check_files(folder) == []
    for file in folder.iterdir():
        assert file.stat().st_size <= 25_000_000
    spec = read_spec(folder / "spec.json")
    assert (spec.name, spec.version) == (folder.parent.name, folder.name)
    assert len(spec.data_hash) == 64
    card = (folder / "MODEL_CARD.md").read_text()
    for set_name in ("algeria-ouedkniss", "openimages-unknowncz", "neg-imagenet"):
        assert f"| {set_name} |" in card
    figures = json.loads((folder / "evaluation.json").read_text())
    for split in ("val", "test"):
        assert consistent(figures[split], spec.model) == []
        assert figures[split]["all"]["photos"] > 400


def test_the_default_model_is_above_its_floors() -> None:
    folder = resolve(None)
    floors = gate.read_floors(weights_root() / "floors.json")
    metrics = json.loads((folder / "evaluation.json").read_text())["val"]["all"]
    assert gate.judge_floors(metrics, floors) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(resolve(None), folder)
    return folder


def test_floors_have_only_ever_risen() -> None:
    """Against every version of floors.json that this checkout's history knows."""
    floors = gate.read_floors(weights_root() / "floors.json")
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git history here")

    def show(*arguments: str) -> str:
        done = subprocess.run(
            [git, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )
        return done.stdout if done.returncode == 0 else ""

    for commit in show("log", "--format=%H", "--", "weights/floors.json").split():
        then = gate.parse_floors(show("show", f"{commit}:weights/floors.json"))
        assert gate.loosened(then, floors) == [], commit


def test_one_flipped_bit_is_refused(copy: Path) -> None:
    spec = read_spec(copy / "spec.json")
    for file in spec.sha256:
        good = (copy / file).read_bytes()
        data = bytearray(good)
        data[len(data) // 2] ^= 1
        (copy / file).write_bytes(bytes(data))
        assert any("sha256" in r for r in gate.check_files(copy)), file
        if file == spec.graph:
            with pytest.raises(WeightsError, match="sha256"):
                OnnxDetector(Weights(copy, spec))
        (copy / file).write_bytes(good)


@pytest.mark.parametrize("file", ["evaluation.json", "MODEL_CARD.md", "refiner.onnx"])
def test_a_missing_file_is_refused(copy: Path, file: str) -> None:
    (copy / file).unlink()
    assert any(file in r for r in gate.check_files(copy))


def test_weights_whose_parity_was_never_measured_are_refused(copy: Path) -> None:
    raw = json.loads((copy / "spec.json").read_text())
    raw["notes"]["parity"] = {}
    (copy / "spec.json").write_text(json.dumps(raw))
    assert any("not recorded" in r for r in gate.check_files(copy))
    raw["notes"]["parity"] = {f: {"graph": math.nan, "storage": 0.0} for f in raw["sha256"]}
    (copy / "spec.json").write_text(json.dumps(raw))
    assert any("differs from torch" in r for r in gate.check_files(copy))


def test_not_a_model_at_all(copy: Path) -> None:
    import hashlib

    raw = json.loads((copy / "spec.json").read_text())
    (copy / raw["graph"]).write_bytes(b"not a model")
    raw["sha256"][raw["graph"]] = hashlib.sha256(b"not a model").hexdigest()
    (copy / "spec.json").write_text(json.dumps(raw))
    with pytest.raises(WeightsError, match="ONNX Runtime refuses"):
        OnnxDetector(Weights(copy, read_spec(copy / "spec.json")))


def test_rendered_plates_are_found_with_their_corners() -> None:
    detector = load_detector()
    for spec in SCENES:
        sample = render(spec)
        found = detector.detect(open_photo(sample.jpeg).frames[0]).plates
        assert len(found) == len(sample.quads), spec.name
        for quad in sample.quads:
            assert max(polygon_iou(p.quad, quad) for p in found) > 0.6, spec.name


def test_what_cannot_be_read_is_no_plate() -> None:
    spec = next(s for s in SCENES if len(render(s).quads) == 1)
    sample = render(spec)
    source = open_photo(sample.jpeg).frames[0]
    weights = load_weights(None)
    long_side = plate_width(sample.quads[0])

    def seen(least_px: float) -> int:
        limited = replace(weights.spec, least_px=least_px)
        return len(OnnxDetector(Weights(weights.folder, limited)).detect(source).plates)

    assert seen(0.8 * long_side) == 1
    assert seen(1.25 * long_side) == 0


def test_a_far_car_on_a_large_photo_is_found() -> None:
    """One picture of 512 px would show these plates with 5 to 12 px."""
    wide = np.full((3000, 4000, 3), 120, np.uint8)
    wide[1500:] = 90
    wanted = []
    for i, spec in enumerate([s for s in SCENES if render(s).quads][:4]):
        sample = render(spec)
        picture = open_photo(sample.jpeg).frames[0].overview(10_000)
        share = 0.5
        small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        x, y = 300 + 900 * i, 700 + 400 * (i % 2)
        wide[y : y + small.shape[0], x : x + small.shape[1]] = small
        wanted += [quad * share + (x, y) for quad in sample.quads]
    found = load_detector().detect(ArrayPixels(wide)).plates
    hit = [max(polygon_iou(p.quad, quad) for p in found) > 0.5 for quad in wanted]
    assert len(wanted) >= 4 and all(hit)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (31, 33), (4000, 60)])
def test_odd_sizes_do_not_break_the_detector(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for plate in load_detector().detect(ArrayPixels(image)).plates:
        assert np.isfinite(plate.quad).all()


def test_the_page_of_figures_is_the_weights_own() -> None:
    written = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert written == page(ROOT / "weights")


@pytest.mark.photos
def test_committed_figures_are_reproduced_on_real_photos(photos_root: Path) -> None:
    """The whole of one set, against what evaluation.json says of it."""
    saved = json.loads((resolve(None) / "evaluation.json").read_text())["val"]["sets"]
    for name in ("ealpr-egypt", "neg-imagenet"):
        records = load_records(photos_root, "val", [name])
        outcomes = run_records(records, detector_predictor(load_detector()), quiet=True)
        matched = sum(o.matched for o in outcomes)
        assert abs(matched - saved[name]["recall50"]["count"]) <= 1
        leaks = sum(p.leaked and p.width_px >= 32 for o in outcomes for p in o.plates)
        assert abs(leaks - saved[name]["leak_ge32"]["count"]) <= 1
        false = sum(o.painted > 0 for o in outcomes if not o.plates)
        assert abs(false - saved[name]["false_covers"]["count"]) <= 1
