"""Open photos of every supported format and write them back. Interface; see docs/formats.md.

``open_photo`` decodes nothing more than it must; ``Photo.write`` gives the finished bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from platehide.errors import UsageError
from platehide.pixels import Patch, PixelSource
from platehide.types import EditMode

KeepMetadata = Literal["none", "safe", "location"]
DEFAULT_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class WriteOptions:
    """How a photo is written.

    Attributes:
        keep_metadata: ``none`` (ICC profile, density and orientation only), ``safe`` (also date
            and camera), ``location`` (also GPS). Never an embedded picture.
        thumbnail: rebuild the EXIF thumbnail from the covered photo (JPEG only).
        keep_format: write AVIF as AVIF instead of JPEG (lossy and slow); HEIC, which nothing in
            the product can write, is then refused.
    """

    keep_metadata: KeepMetadata = "none"
    thumbnail: bool = False
    keep_format: bool = False

    def __post_init__(self) -> None:
        if self.keep_metadata not in get_args(KeepMetadata):
            allowed = ", ".join(get_args(KeepMetadata))
            raise UsageError(f"keep_metadata is one of {allowed}, not {self.keep_metadata!r}")


@dataclass(frozen=True)
class FinishedPhoto:
    """The bytes that leave.

    Attributes:
        media_type: e.g. ``image/jpeg``.
        edit: ``untouched`` where no pixel changed, ``lossless`` where only patched pixels
            changed, ``reencoded`` where the others may have changed a little too.
        suffix: what is appended to the input's name where the format changed (``.jpg``), or "".
        removed: names of what was dropped, e.g. ``exif.thumbnail``, ``gps``, ``mpf``.
    """

    data: bytes
    media_type: str
    edit: EditMode
    removed: tuple[str, ...] = ()
    suffix: str = ""


class Photo(Protocol):
    """An opened photo: its frames as pixel sources, and the way back to bytes."""

    @property
    def media_type(self) -> str:
        """Media type of the input."""

    @property
    def frames(self) -> Sequence[PixelSource]:
        """At least one; several for animated or multi-page files."""

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes with the patches applied and the metadata scrubbed."""
