"""EXIF orientation: between pixels as stored and pixels as displayed.

EXIF 2.32, tag 0x0112. The number says where the stored row 0 and column 0 are displayed:
1 top/left, 2 top/right, 3 bottom/right, 4 bottom/left, 5 left/top, 6 right/top, 7 right/bottom,
8 left/bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from platehide.pixels import Box, Patch

# orientation -> (transpose first, then flip rows, then flip columns): stored -> displayed
_STEPS: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def is_transposed(orientation: int) -> bool:
    """True where width and height swap between stored and displayed."""
    return _STEPS[orientation][0]


def displayed_size(stored_wh: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height as displayed (the same function maps back)."""
    w, h = stored_wh
    return (h, w) if is_transposed(orientation) else (w, h)


def to_displayed(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A C-contiguous ``(H, W, …)`` array as displayed; the array itself for orientation 1."""
    if orientation == 1:
        return stored
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    out = stored.swapaxes(0, 1) if transpose else stored
    if flip_rows:
        out = out[::-1]
    if flip_columns:
        out = out[:, ::-1]
    return np.ascontiguousarray(out)


def to_stored(displayed: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The inverse of :func:`to_displayed`."""
    if orientation == 1:
        return displayed
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    out = displayed
    if flip_rows:
        out = out[::-1]
    if flip_columns:
        out = out[:, ::-1]
    if transpose:
        out = out.swapaxes(0, 1)
    return np.ascontiguousarray(out)


def box_to_stored(box: Box, displayed_wh: tuple[int, int], orientation: int) -> Box:
    """A box of displayed pixels as a box of stored pixels."""
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    x0, y0, x1, y1 = box
    w, h = displayed_wh
    if flip_columns:
        x0, x1 = w - x1, w - x0
    if flip_rows:
        y0, y1 = h - y1, h - y0
    return (y0, x0, y1, x1) if transpose else (x0, y0, x1, y1)


def patch_to_stored(patch: Patch, displayed_wh: tuple[int, int], orientation: int) -> Patch:
    """A patch in displayed pixels as a patch in stored pixels."""
    if orientation == 1:
        return patch
    x0, y0, _, _ = box_to_stored(patch.box, displayed_wh, orientation)
    return Patch(
        x=x0,
        y=y0,
        pixels=to_stored(patch.pixels, orientation),
        changed=to_stored(patch.changed, orientation),
        frame=patch.frame,
    )


def patches_to_stored(
    patches: Sequence[Patch], displayed_wh: tuple[int, int], orientation: int
) -> tuple[Patch, ...]:
    """:func:`patch_to_stored` for each patch, in order."""
    return tuple(patch_to_stored(p, displayed_wh, orientation) for p in patches)
