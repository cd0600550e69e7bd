"""A large photo is seen whole: every plate of a look's widths lies uncut in a tile that owns it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from platehide.looks import OVERLAP_PX, TILE_PX, belongs, plan_looks, tiles

SIZES = [(512, 384), (832, 832), (864, 64), (1024, 768), (1536, 1152), (1536, 32), (640, 1536)]


@pytest.mark.parametrize("size", SIZES)
def test_every_small_plate_lies_whole_in_a_tile_that_owns_it(size: tuple[int, int]) -> None:
    cut = tiles(size)
    assert len({(x1 - x0, y1 - y0) for x0, y0, x1, y1 in cut}) == 1
    assert all(x0 >= 0 and y0 >= 0 and x1 <= size[0] and y1 <= size[1] for x0, y0, x1, y1 in cut)
    assert all(x1 - x0 <= TILE_PX and y1 - y0 <= TILE_PX for x0, y0, x1, y1 in cut)
    half = OVERLAP_PX / 2
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (500, 2)) * size
    owned = np.array([belongs(tile, size, centres) for tile in cut])
    assert owned.any(axis=0).all()
    for tile, mine in zip(cut, owned, strict=True):
        for axis in (0, 1):
            low, high = tile[axis], tile[axis + 2]
            at = centres[mine, axis]
            assert low == 0 or (at >= low + half).all()
            assert high == size[axis] or (at <= high - half).all()


@pytest.mark.parametrize("long_px", [1, 640, 1280, 1600, 1601, 2000, 2600, 4000, 12_000])
@pytest.mark.parametrize("coarse", [0, 128])
def test_every_width_has_a_look_that_sees_it_in_a_trained_size(long_px: int, coarse: int) -> None:
    looks = plan_looks(long_px, input_size=512, coarse_size=coarse, trained_width=220.0)
    assert looks[0].least == 0.0
    assert looks[-1].most == math.inf
    # What one look leaves off the next one takes up, with something to spare.
    assert all(b.least < a.most for a, b in pairwise(looks))
    assert [look.long_side for look in looks] == sorted(
        (look.long_side for look in looks), reverse=True
    )
    for look in looks[:-1]:
        assert look.most * look.long_side / long_px <= 220.0 + 1e-9


def test_small_photos_are_looked_at_as_before_and_large_ones_closely() -> None:
    def sides(long_px: int) -> list[int]:
        plan = plan_looks(long_px, input_size=512, coarse_size=128, trained_width=220.0)
        return [look.long_side for look in plan]

    assert sides(1280) == sides(1600) == [512, 128]
    assert sides(2000) == [800, 128]
    assert sides(300) == [384, 128]  # enlarged a little, not to 512
    assert sides(64) == [96, 96]
    assert sides(4000) == sides(12_000) == [1536, 512, 128]
