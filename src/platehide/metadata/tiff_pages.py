"""Find the pages of a TIFF 6.0 file and what must be known before one is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from platehide.errors import ImageError
from platehide.image_io import KeepMetadata
from platehide.metadata.exif import Exif, TiffReader, read_exif
from platehide.metadata.icc import well_formed_profile

_MAX_PAGES = 1000
_MAX_STRIPS = 1 << 20
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, X_RESOLUTION, Y_RESOLUTION = 274, 277, 282, 283
PLANAR, RESOLUTION_UNIT, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC = 284, 296, 338, 339, 34675
_SUBFILE_TYPE, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 254, 273, 279, 324, 325
# none, CCITT (3), LZW, JPEG, deflate (2), PackBits
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32946, 32773})
_SEPARATE = 2
_GREY_WHITE, _GREY, _RGB, _PALETTE, INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_PHOTOMETRICS = frozenset({_GREY_WHITE, _GREY, _RGB, _PALETTE, INKS, _YCBCR})
_INK_SET, _JPEG = 332, 7
_DNG_VERSION = 50706
# Tags that say how the samples lie in the file; the rest describes, and is dropped and named.
_DRAWING = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292,
     293, 296, 297, 317, 320, 322, 323, 324, 325, 332, 338, 339, 340, 341, 347, 529, 530, 531, 532,
     34675}
)  # fmt: skip
# XMP lies in tag 700 of every page
_PAGE_METADATA = {700: "xmp", 33723: "iptc", 34377: "photoshop", 270: "comment"}


@dataclass(frozen=True)
class TiffPage:
    """One page.

    Attributes:
        index: position in the file's chain, thumbnails counted.
        depth: bits of a sample; 16 or at most 8.
        compressed: whether its samples are compressed in any way.
        separate: each colour lies in a plane of its own.
        inks: its samples are cyan, magenta, yellow and black, 0 for none.
        resolution: numerator and denominator across and down, and the unit; empty where absent.
    """

    index: int
    width: int
    height: int
    depth: int
    compressed: bool
    has_alpha: bool
    orientation: int
    resolution: tuple[int, ...]
    icc: bytes | None
    separate: bool = False
    inks: bool = False


@dataclass(frozen=True)
class TiffLayout:
    """The pages that are shown; reduced copies are dropped and named."""

    pages: tuple[TiffPage, ...]
    exif: Exif
    dropped: frozenset[str]

    def removed(self, keep: KeepMetadata) -> tuple[str, ...]:
        """Sorted names of what the finished photo no longer holds."""
        return tuple(sorted(self.dropped | self.exif.removed(keep)))


def walk_tiff(data: bytes, *, max_pixels: int) -> TiffLayout:
    """Find the pages.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too_large`` (declared pixels of all pages),
            ``unsupported`` (camera raw, float, odd depths, inks and compressions).
    """
    reader = TiffReader(data)
    offset = reader.number(4, "I") or 0
    seen: set[int] = set()
    pages: list[TiffPage] = []
    dropped: set[str] = set()
    pixels = 0
    index = 0
    while offset:
        if offset in seen or len(seen) >= _MAX_PAGES:
            raise ImageError("TIFF pages run in a circle or are too many")
        seen.add(offset)
        count = reader.number(offset, "H")
        if count is None or offset + 2 + 12 * count > len(data):
            raise ImageError("TIFF ends inside a directory", code="truncated")
        entries, following = reader.entries(offset)
        tags = {tag: (kind, n, at) for tag, kind, n, at in entries}
        if _DNG_VERSION in tags:
            raise ImageError("camera raw (DNG) is not supported", code="unsupported")
        if _first(reader, tags, _SUBFILE_TYPE, 0) & 1:
            if not pages:
                raise ImageError("camera raw is not supported", code="unsupported")
            dropped.add("tiff.thumbnail")
        else:
            page = _page(reader, tags, index)
            pixels += page.width * page.height
            if pixels > max_pixels:
                raise ImageError(
                    f"{page.width}×{page.height} on {len(pages) + 1} page(s) is more than the "
                    f"allowed {max_pixels} pixels",
                    code="too_large",
                )
            _check_strips(reader, tags, len(data))
            pages.append(page)
            if ICC in tags and page.icc is None:
                dropped.add("icc.damaged")
            dropped |= {name for tag, name in _PAGE_METADATA.items() if tag in tags}
        offset = following
        index += 1
    if not pages:
        raise ImageError("TIFF without a picture", code="truncated")
    exif = read_exif(data, drawing=_DRAWING)
    return TiffLayout(tuple(pages), exif, frozenset(dropped))


_Tags = Mapping[int, tuple[int, int, int]]


def _first(reader: TiffReader, tags: _Tags, tag: int, default: int) -> int:
    values = reader.numbers(*tags[tag], most=1024) if tag in tags else ()
    return values[0] if values else default


def _page(reader: TiffReader, tags: _Tags, index: int) -> TiffPage:
    width, height = _first(reader, tags, WIDTH, 0), _first(reader, tags, HEIGHT, 0)
    if not width or not height:
        raise ImageError("TIFF declares no pixels")
    depths = set(reader.numbers(*tags[BITS], most=16)) if BITS in tags else {1}
    if len(depths) != 1 or not depths <= {1, 2, 4, 8, 16}:
        raise ImageError("TIFF with this depth of samples is not supported", code="unsupported")
    depth = depths.pop()
    if _first(reader, tags, SAMPLE_FORMAT, 1) not in (1, 4):
        raise ImageError("TIFF with signed or float samples is not supported", code="unsupported")
    compression = _first(reader, tags, COMPRESSION, 1)
    photometric = _first(reader, tags, PHOTOMETRIC, _GREY)
    if compression not in _COMPRESSIONS or photometric not in _PHOTOMETRICS:
        raise ImageError(
            f"TIFF with compression {compression}, colours {photometric} is not supported",
            code="unsupported",
        )
    samples = _first(reader, tags, SAMPLES, 1)
    separate = samples > 1 and _first(reader, tags, PLANAR, 1) == _SEPARATE
    if depth == 16 and (photometric not in (_GREY, _RGB) or samples not in (1, 3, 4) or separate):
        raise ImageError(
            "TIFF with 16-bit samples in these colours or in planes is not supported",
            code="unsupported",
        )
    inks = photometric == INKS
    cmyk = (samples, depth, _first(reader, tags, _INK_SET, 1)) == (4, 8, 1)
    # Inside JPEG data nobody agrees on whether 0 or 255 is no ink.
    if inks and (not cmyk or compression == _JPEG):
        raise ImageError("TIFF with these inks is not supported", code="unsupported")
    orientation = _first(reader, tags, ORIENTATION, 1)
    orientation = orientation if 1 <= orientation <= 8 else 1
    return TiffPage(
        index, width, height, depth, compression != 1, EXTRA_SAMPLES in tags, orientation,
        _resolution(reader, tags), _profile(reader, tags), separate, inks,
    )  # fmt: skip


def _resolution(reader: TiffReader, tags: _Tags) -> tuple[int, ...]:
    values: list[int] = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        found = reader.entry(tag, *tags[tag]) if tag in tags else None
        if found is None or not isinstance(found.values, tuple) or len(found.values) != 2:
            return ()
        values += found.values
    return (*values, _first(reader, tags, RESOLUTION_UNIT, 2))


def _profile(reader: TiffReader, tags: _Tags) -> bytes | None:
    if ICC not in tags:
        return None
    _, count, at = tags[ICC]
    profile = reader.block[at : at + count] if 8 <= at <= len(reader.block) - count else b""
    return profile if well_formed_profile(profile) else None


def _check_strips(reader: TiffReader, tags: _Tags, size: int) -> None:
    places, lengths = (_STRIPS, _STRIP_BYTES) if _STRIPS in tags else (_TILES, _TILE_BYTES)
    if places not in tags or lengths not in tags:
        raise ImageError("TIFF does not say where its picture lies")
    starts = reader.numbers(*tags[places], most=_MAX_STRIPS)
    counts = reader.numbers(*tags[lengths], most=_MAX_STRIPS)
    if not starts or len(starts) != len(counts):
        raise ImageError("TIFF does not say where its picture lies", code="truncated")
    if any(start + count > size for start, count in zip(starts, counts, strict=True)):
        raise ImageError("TIFF ends inside its picture data", code="truncated")
    if sum(counts) > size:
        raise ImageError("TIFF uses picture data twice")
