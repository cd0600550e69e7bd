"""The part of an AVIF that its decoder leaves to the caller: the crop of the primary picture.

Boxes by ISO/IEC 14496-12; ``pitm``, ``ipco``, ``ipma`` by ISO/IEC 23008-12. The decoder has
accepted the file already, so what does not add up here is read as absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from platehide.errors import ImageError
from platehide.pixels import Box

_FULL_BOX = 4
"""Bytes of version and flags in front of a full box's content."""
_OTHER_PICTURES = (b"thmb", b"tmap")


def describe_avif(data: bytes, size_wh: tuple[int, int]) -> tuple[Box | None, bool]:
    """The crop of the primary picture, and whether the file holds further pictures of it.

    Args:
        size_wh: size of the decoded picture before rotation and mirroring.

    Returns:
        The box (x0, y0, x1, y1) that the clean aperture (``clap``) leaves, ``None`` without one;
        true where there is a thumbnail or a gain map.

    Raises:
        ImageError: ``unsupported``: a crop that does not lie on whole pixels of the picture.
    """
    meta = _content(data, b"meta")[_FULL_BOX:]
    properties = _content(meta, b"iprp")
    boxes = list(_boxes(_content(properties, b"ipco")))
    crop: Box | None = None
    for index in _properties_of(properties, _primary(meta)):
        if 1 <= index <= len(boxes) and boxes[index - 1][0] == b"clap":
            crop = _crop(boxes[index - 1][1], size_wh)
    references = _content(meta, b"iref") + _content(meta, b"iinf")
    return crop, any(kind in references for kind in _OTHER_PICTURES)


def ends_early(data: bytes) -> bool:
    """True where the last box of the file says that it goes on."""
    at = 0
    while at + 8 <= len(data):
        _, start, end = _box_at(data, at)
        if end < start:
            return False
        at = end
    return at != len(data)


def _box_at(data: bytes, at: int) -> tuple[bytes, int, int]:
    """Type of a box, and where its content begins and ends by what it says."""
    size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
    if size == 1:
        size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
    elif size == 0:
        size = len(data) - at
    return kind, at + head, at + size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box, as far as they are whole."""
    at = 0
    while at + 8 <= len(data):
        kind, start, end = _box_at(data, at)
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def _content(data: bytes, wanted: bytes) -> bytes:
    """Content of the first box of a type; empty where there is none."""
    return next((content for kind, content in _boxes(data) if kind == wanted), b"")


def _primary(meta: bytes) -> int:
    box = _content(meta, b"pitm")
    return int.from_bytes(box[_FULL_BOX : _FULL_BOX + (4 if box[:1] > b"\0" else 2)], "big")


def _properties_of(properties: bytes, item: int) -> Iterator[int]:
    """Numbers (from 1) of the properties of an item, in the order in which they apply."""
    for kind, box in _boxes(properties):
        if kind != b"ipma" or len(box) < _FULL_BOX + 4:
            continue
        id_bytes = 4 if box[0] else 2
        index_bytes = 2 if box[3] & 1 else 1
        at = _FULL_BOX + 4
        for _ in range(int.from_bytes(box[_FULL_BOX:at], "big")):
            if at + id_bytes >= len(box):
                break
            found = int.from_bytes(box[at : at + id_bytes], "big")
            count = box[at + id_bytes]
            at += id_bytes + 1
            for _ in range(count if found == item else 0):
                # The highest bit says that a reader must know the property.
                number = int.from_bytes(box[at : at + index_bytes], "big")
                yield number & (0x7FFF if index_bytes == 2 else 0x7F)
                at += index_bytes
            at += index_bytes * count if found != item else 0


def _crop(clap: bytes, size_wh: tuple[int, int]) -> Box:
    """ISO/IEC 14496-12, 12.1.4: size and, from the picture's centre, centre of the crop."""
    numbers = [int.from_bytes(clap[i : i + 4], "big") for i in range(0, 32, 4)]
    if len(clap) < 32 or 0 in numbers[1::2]:
        raise ImageError("AVIF with a damaged crop", code="unsupported")
    signed = [n - (1 << 32) if i in (4, 6) and n >> 31 else n for i, n in enumerate(numbers)]
    wide, high, right, down = (Fraction(*signed[i : i + 2]) for i in range(0, 8, 2))
    x0, y0 = (size_wh[0] - wide) / 2 + right, (size_wh[1] - high) / 2 + down
    x1, y1 = x0 + wide, y0 + high
    inside = 0 <= x0 < x1 <= size_wh[0] and 0 <= y0 < y1 <= size_wh[1]
    if not inside or any(edge.denominator != 1 for edge in (x0, y0, x1, y1)):
        raise ImageError("AVIF with a crop between or beyond its pixels", code="unsupported")
    return int(x0), int(y0), int(x1), int(y1)
