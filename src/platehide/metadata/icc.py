"""Colour profiles are kept byte for byte, unless something else hides in them."""

from __future__ import annotations

from platehide.metadata.embedded import holds_picture

MAX_PROFILE = 8 << 20


def usable_profile(profile: bytes) -> bool:
    """False for an empty or absurdly large profile and for one that holds a picture file.

    A profile is not judged otherwise: its bytes are the colour of every pixel.
    """
    return 0 < len(profile) <= MAX_PROFILE and not holds_picture(profile)


def well_formed_profile(profile: bytes) -> bool:
    """True where the bytes are exactly one ICC profile by its own header (ICC.1, 7.2).

    Asked where a file says by an offset where its profile lies, so that any bytes could be meant.
    """
    return (
        usable_profile(profile)
        and profile[36:40] == b"acsp"
        and int.from_bytes(profile[:4], "big") == len(profile)
    )
