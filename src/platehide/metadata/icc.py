"""Colour profiles are kept byte for byte, unless something else hides in them."""

from __future__ import annotations

import re

_PICTURE = re.compile(
    rb"\xff\xd8\xff[\xc0-\xcf\xdb\xe0-\xef\xfe]|\x89PNG\r\n\x1a\n|RIFF....WEBP|ftyp(?:heic|avif|mp42)",
    re.DOTALL,
)
MAX_PROFILE = 8 << 20


def usable_profile(profile: bytes) -> bool:
    """False for an empty or absurdly large profile and for one that holds a picture file.

    A profile is not judged otherwise: its bytes are the colour of every pixel.
    """
    return 0 < len(profile) <= MAX_PROFILE and not _PICTURE.search(profile)
