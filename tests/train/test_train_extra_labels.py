"""Pseudo-quads for boxes and decoys: written, read, and used as labels that move along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import cv2
import torch

from platehide.demo.scenes import SCENES, render
from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.geometry import box_iou, hull_box, polygon_iou
from platehide.train.augment import upright_stretch
from platehide.train.extra_labels import load_decoys, with_pseudo_quads
from platehide.train.losses import refiner_loss
from platehide.train.pseudo import agree, label, snap, starts
from platehide.train.refiner_data import (
    PSEUDO_WEIGHT,
    RefinerCrops,
    collate_refiner,
    hide_part,
)
from platehide.train.samples import DenseCrops

TILTED = np.array([[100.0, 60], [220, 80], [218, 116], [98, 94]])


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered scenes in ``train``, of which only the boxes are told; the quads lie beside."""
    root = tmp_path_factory.mktemp("boxes") / "rendered"
    (root / "images").mkdir(parents=True)
    lines, known = [], {}
    for spec in (s for s in SCENES if s.orientation == 1):
        sample = render(spec)
        name = f"images/{spec.name}.jpg"
        (root / name).write_bytes(sample.jpeg)
        plates = [{"quad": None, "box": hull_box(q).tolist()} for q in sample.quads]
        row = {"image": name, "width": spec.size_wh[0], "height": spec.size_wh[1]}
        lines.append(json.dumps(row | {"split": "train", "plates": plates, "licence": "own"}))
        known[f"{root.name}/{name}"] = [q.tolist() for q in sample.quads]
    (root / "annotations.jsonl").write_text("\n".join(lines) + "\n")
    (root / "known.json").write_text(json.dumps(known))
    return root


def one_record(boxes: Path) -> PhotoRecord:
    return next(r for r in load_records(boxes, "train") if r.plates)


def test_snap_makes_the_hull_the_box_and_keeps_the_tilt() -> None:
    box = np.array([90.0, 50, 230, 120])
    moved = snap(TILTED, box)
    assert np.allclose(hull_box(moved), box)
    rise = (moved[1] - moved[0])[1] / (moved[1] - moved[0])[0]
    assert rise == pytest.approx(20 / 120 * (70 / 56) / (140 / 122), rel=1e-6)


def test_starts_lie_in_the_box_and_lean_both_ways() -> None:
    box = hull_box(TILTED)
    quads = starts(box)
    rises = [q[1, 1] - q[0, 1] for q in quads]
    assert rises[0] == 0
    assert rises[1] < 0 < rises[2]
    for quad in quads:
        assert np.allclose(hull_box(quad), box)


def test_only_answers_that_agree_count() -> None:
    assert agree([TILTED]) is None
    assert agree([TILTED, TILTED + [0.0, 20.0]]) is None
    middle = agree([TILTED, TILTED + 0.5, TILTED - 0.5])
    assert middle is not None
    assert np.allclose(middle, TILTED)


def test_pseudo_quads_of_rendered_plates_are_near_the_truth(boxes: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.jsonl"
    written, looked = label("quad-lite0", [boxes], out)
    known = json.loads((boxes / "known.json").read_text())
    assert looked == sum(len(v) for v in known.values())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == written >= 1
    overlaps = [
        polygon_iou(np.array(r["quad"]), np.array(known[r["image"]][r["plate"]])) for r in rows
    ]
    assert np.median(overlaps) > 0.9


def box_quad(quad: list[list[float]]) -> np.ndarray:
    x0, y0, x1, y1 = hull_box(np.array(quad))
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def test_labels_are_filled_in_but_never_replaced(boxes: Path, tmp_path: Path) -> None:
    record = one_record(boxes)
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"image": record.name, "plate": 0, "quad": TILTED.tolist()}))
    once = with_pseudo_quads([record], str(file))
    assert np.allclose(once[0].plates[0].polygon, TILTED)
    file.write_text(json.dumps({"image": record.name, "plate": 0, "quad": (TILTED + 9).tolist()}))
    assert np.allclose(with_pseudo_quads(once, str(file))[0].plates[0].polygon, TILTED)
    assert with_pseudo_quads([record], "") == [record]


@pytest.mark.parametrize("text", ["no json", '{"image": "a"}', '{"image": "a", "quad": "b"}'])
def test_a_broken_label_file_is_named(text: str, tmp_path: Path, boxes: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"broken\.jsonl"):
        load_decoys(str(file))
    with pytest.raises(UsageError, match=r"broken\.jsonl"):
        with_pseudo_quads([one_record(boxes)], str(file))
    with pytest.raises(UsageError, match="missing"):
        load_decoys(str(tmp_path / "missing.jsonl"))


def test_an_upright_stretch_keeps_boxes_boxes() -> None:
    rng = np.random.default_rng(3)
    box = box_quad(TILTED.tolist())
    for _ in range(5):
        moved = cv2.perspectiveTransform(box[None], upright_stretch(rng, np.array([50.0, 50.0])))[0]
        assert np.allclose(box_quad(moved.tolist()), moved)


def test_decoys_are_shown_to_the_dense_network(boxes: Path, tmp_path: Path) -> None:
    """A picture with one bright square on black: a crop drawn round the decoy shows it."""
    cv2.imwrite(str(tmp_path / "x.png"), cv2.rectangle(np.zeros((900, 900, 3), np.uint8),
                (800, 850), (840, 870), (255, 255, 255), -1))  # fmt: skip
    row = {"image": "x.png", "width": 900, "height": 900, "split": "train", "plates": []}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(row))
    records = load_records(tmp_path, "train")
    quad = [[800, 850], [840, 850], [840, 870], [800, 870]]
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": records[0].name, "quad": quad}))

    def bright(decoys: str) -> float:
        crops = DenseCrops(records, 30, 64, 0, hard_negatives=decoys, decoy_share=0.5)
        shown = [crops[i] for i in range(30)]
        assert all(len(c.quads) == 0 for c in shown)
        return float(np.mean([(c.pixels > 200).mean() for c in shown]))

    assert bright(str(tmp_path / "d.jsonl")) > 2 * bright("") + 0.005


def test_refiner_samples_carry_the_truth(boxes: Path, tmp_path: Path) -> None:
    known = json.loads((boxes / "known.json").read_text())
    file = tmp_path / "p.jsonl"
    file.write_text(
        "".join(
            json.dumps({"image": name, "plate": i, "quad": quad}) + "\n"
            for name, quads in known.items()
            for i, quad in enumerate(quads)
        )
    )
    crops = RefinerCrops(load_records(boxes, "train"), 12, 8, 0, pseudo_quads=str(file))
    samples = [s for i in range(12) for s in crops[i]]
    plates = [s for s in samples if s.kind == 1]
    assert len(plates) > 20
    assert {s.weight for s in plates} == {PSEUDO_WEIGHT}  # pseudo, not exact
    inside = 0
    for s in plates:
        back = cv2.perspectiveTransform(s.target[None].astype(np.float64), s.to_photo)[0] + 0.5
        boxes_known = [hull_box(np.array(q)) for quads in known.values() for q in quads]
        inside += any(box_iou(hull_box(back), b) > 0.99 for b in boxes_known)
    # mirrored crops (half of them) have no place in the photo, smaller photos another scale
    assert 0.15 * len(plates) < inside < 0.75 * len(plates)
    images, targets = collate_refiner([samples])
    assert images.shape[1:] == (80, 224, 3)
    inner = torch.tensor([124.0, 44.0])
    exact = targets["kind"] == 1
    logit = torch.where(targets["kind"] > 0, 20.0, -20.0)
    right = refiner_loss(targets["target"], logit, targets, inner, 1.35)
    only = {k: v[exact] for k, v in targets.items()}
    assert float(refiner_loss(only["target"], logit[exact], only, inner, 1.35)["total"]) < 1e-6
    shifted = refiner_loss(targets["target"] + 4.0, logit, targets, inner, 1.35)
    assert float(shifted["corner"]) > float(right["corner"])
    # Corners short of the plate cost more than corners as far beyond it.
    outward = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    beyond = refiner_loss(only["target"] + 3 * outward, logit[exact], only, inner, 1.35)
    short = refiner_loss(only["target"] - 3 * outward, logit[exact], only, inner, 1.35)
    assert float(short["corner"]) == pytest.approx(1.35 * float(beyond["corner"]), rel=1e-3)


def test_mirrored_and_plain_crops_have_their_corners_at_the_same_edges(tmp_path: Path) -> None:
    """Pixels 100…219 of a photo are bright, its label says 100…220: in every crop the corners lie
    where brightness is half, mirrored or not (half a photo pixel is 0.5 crop px here)."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:160, 100:220] = 255
    cv2.imwrite(str(tmp_path / "x.png"), image)
    quad = [[100, 120], [220, 120], [220, 160], [100, 160]]
    row = {"image": "x.png", "width": 400, "height": 300, "split": "train"}
    row |= {"plates": [{"quad": quad, "box": [100, 120, 220, 160]}]}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(row))
    crops = RefinerCrops(load_records(tmp_path, "train"), 40, 4, 0)
    off = []
    for sample in (s for i in range(40) for s in crops[i] if s.kind == 1):
        inside = np.zeros(sample.crop.shape[:2], np.float64)
        grey = sample.crop.astype(np.float64).mean(axis=2)
        centre = sample.target.mean(axis=0)
        x0, y0, x1, y1 = hull_box(sample.target)
        if x0 < 4 or y0 < 4 or x1 > 219 or y1 > 75:
            continue
        inside[:] = grey > (grey.min() + grey.max()) / 2
        ys, xs = np.nonzero(inside)
        off.append([xs.mean() - centre[0], ys.mean() - centre[1]])
    assert len(off) > 30
    assert np.abs(np.median(off, axis=0)).max() < 0.15


def test_a_hidden_part_changes_one_rectangle() -> None:
    crop = np.full((80, 224, 3), 7, np.uint8)
    out = hide_part(crop, np.random.default_rng(0))
    changed = np.argwhere((out != crop).any(axis=2))
    h, w = np.ptp(changed, axis=0) + 1
    assert len(changed) == h * w
    assert 0.005 < len(changed) / (80 * 224) < 0.16
    assert (crop == 7).all()
