"""Recognise a picture file inside bytes that must be copied as they are."""

from __future__ import annotations

import re

_JPEG = re.compile(rb"\xff\xd8\xff[\xc0-\xcf\xdb\xe0-\xef\xfe]")
_OTHERS = re.compile(
    rb"\x89PNG\r\n\x1a\n|RIFF.{4}WEBPVP8[ LX]|\0\0\0.ftyp(?:heic|heix|mif1|avif|mp42|isom)",
    re.DOTALL,
)
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def holds_picture(data: bytes) -> bool:
    """True where ``data`` contains a JPEG (up to its frame header), PNG, WebP, HEIC, AVIF or MP4.

    Four bytes of a JPEG's signature turn up by chance once in some 300 MB of random data, so its
    segments are followed to a frame header that makes sense.
    """
    if _OTHERS.search(data):
        return True
    return any(_reaches_frame(data, found.start() + 2) for found in _JPEG.finditer(data))


def _reaches_frame(data: bytes, at: int) -> bool:
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SOF:
            frame = data[at + 4 : at + 10]
            # Any four bytes turn up once in some thousand photos; a whole header does not.
            return (
                len(frame) == 6
                and frame[0] in (8, 12, 16)
                and 1 <= frame[5] <= 4
                and length == 8 + 3 * frame[5]
            )
        if marker < 0xC0 or length < 2:
            return False
        at += 2 + length
    return False
