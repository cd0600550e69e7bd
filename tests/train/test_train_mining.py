"""Hard negatives: what is surely no plate, on whole photos and on plate-free parts of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

import cv2

from platehide.detector import Candidate, OnnxDetector
from platehide.errors import UsageError
from platehide.evaluate.dataset import PlateLabel, load_records
from platehide.geometry import box_to_quad, hull_box
from platehide.pixels import PixelSource
from platehide.train.extra_labels import with_looked_through
from platehide.train.mining import is_decoy, photos_of, seen_on

SIGN, PLATE = (60.0, 40.0, 120.0, 60.0), (400.0, 380.0, 500.0, 405.0)


class BrightBlobs:
    """Takes every bright blob for a plate, with a logit of its width: no network, but a detector
    that really looks at the pixels it is given."""

    def candidates(self, source: PixelSource) -> list[Candidate]:
        width, height = source.size_wh
        pixels = source.region((0, 0, width, height))
        mask = (pixels[..., 0] > 127).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:]]
        return [Candidate(box_to_quad(np.array(b, float)), b[2] - b[0], 0.0) for b in boxes]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.zeros((600, 800, 3), np.uint8)
    for x0, y0, x1, y1 in (SIGN, PLATE):
        image[int(y0) : int(y1), int(x0) : int(x1)] = 255
    cv2.imwrite(str(tmp_path / "x.png"), image)
    row = {"image": "x.png", "width": 800, "height": 600, "split": "train"}
    row |= {"plates": [{"quad": None, "box": list(PLATE)}]}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(row))
    return tmp_path


@pytest.mark.parametrize("crops", [0, 12])
def test_each_place_is_seen_once_in_photo_pixels(
    photo: Path, crops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = replace(load_records(photo, "train")[0], complete=True)
    found = seen_on(cast(OnnxDetector, cast(Any, BrightBlobs())), record, crops)
    hulls = [tuple(hull_box(c.quad).tolist()) for c in found]
    whole = {PLATE, SIGN}
    assert whole <= set(hulls)
    # A crop may cut the sign: such a part counts as the same place only where most of it is seen.
    assert all(h == PLATE or (h[0] >= SIGN[0] and h[2] <= SIGN[2]) for h in hulls)
    assert [c.logit for c in found] == sorted((c.logit for c in found), reverse=True)
    if not crops:
        assert len(hulls) == 2


def test_only_what_is_surely_no_plate_is_a_decoy() -> None:
    plate = PlateLabel(np.array(PLATE), None)

    def decoy(box: tuple[float, ...], *plates: PlateLabel) -> bool:
        return is_decoy(box_to_quad(np.array(box)), plates)

    assert decoy(SIGN, plate)
    assert not decoy(PLATE, plate)
    assert not decoy((430.0, 385.0, 450.0, 395.0), plate)  # a sticker on the plate
    assert not decoy((0.0, 0.0, 13.0, 6.0), plate)  # too small to tell
    assert decoy((0.0, 0.0, 13.0, 6.0))  # on a photo without plates it is none


def test_photos_looked_through_count_as_completely_labelled(photo: Path) -> None:
    (record,) = load_records(photo, "train")
    assert not record.complete
    names = photo / "names.txt"
    names.write_text(f"# looked through\n{record.name}\n")
    (done,) = with_looked_through([record], str(names))
    assert done.complete and done.plates == record.plates
    assert with_looked_through([record], "") == [record]
    # What was looked through is mined for decoys, the rest for a person to look at.
    for unlabelled in (False, True):
        assert len(photos_of(photo, "", str(names), unlabelled)) == (not unlabelled)
        left = photos_of(photo, "", "", unlabelled)
        assert len(left) == unlabelled and all(r.complete for r in left)
    names.write_text("x.png\n")
    with pytest.raises(UsageError, match=r"'x\.png' names no photo"):
        with_looked_through([record], str(names))
    with pytest.raises(UsageError, match="missing"):
        with_looked_through([record], str(photo / "missing"))
