"""Walk and scrub GIF (GIF89a specification) block by block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from platehide.errors import ImageError
from platehide.metadata.icc import usable_profile

_MAX_BLOCKS = 100_000
_LOOP_APPLICATIONS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_MAX_CODES = 4096
_FIRST_WINDOW = 300


@dataclass(frozen=True)
class GifImage:
    """One picture of the file.

    Attributes:
        control: packed flags of the graphic control (disposal, transparency), ``None`` without.
        delay: hundredths of a second.
        palette: its own RGB table, or empty where it uses the global one.
        data: LZW data, sub-blocks joined.
    """

    x: int
    y: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    code_size: int
    data: bytes
    control: int | None = None
    delay: int = 0
    transparent: int = 0


@dataclass(frozen=True)
class GifLayout:
    """Everything of a GIF that may be kept.

    Attributes:
        screen: the last three bytes of the logical screen descriptor: flags, background, aspect.
        loops: number of repetitions, 0 for ever; ``None`` where the file says nothing.
    """

    width: int
    height: int
    screen: bytes
    palette: bytes
    images: tuple[GifImage, ...]
    loops: int | None
    icc: bytes | None
    dropped: frozenset[str] = field(default_factory=frozenset)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ImageError("GIF ends early", code="truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def sub_blocks(self) -> list[bytes]:
        found = []
        while size := self.take(1)[0]:
            found.append(self.take(size))
        return found


def walk_gif(data: bytes, *, max_pixels: int) -> GifLayout:
    """Take a GIF apart.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``unsupported`` (a picture outside the screen),
            ``too_large`` (declared pixels, all frames).
    """
    cursor = _Cursor(data)
    cursor.take(6)
    head = cursor.take(7)
    width, height = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if not width or not height:
        raise ImageError("GIF declares no pixels")
    screen = head[4:7]
    palette = cursor.take(3 << (screen[0] & 7) + 1) if screen[0] & 0x80 else b""
    images: list[GifImage] = []
    loops: int | None = None
    icc: bytes | None = None
    dropped: set[str] = set()
    control: bytes | None = None
    for _ in range(_MAX_BLOCKS):
        label = cursor.take(1)[0]
        if label == 0x3B:
            break
        if label == 0x2C:
            images.append(_image(cursor, control, width, height, bool(palette)))
            control = None
            if width * height * len(images) > max_pixels:
                raise ImageError(
                    f"{len(images)} × {width}×{height} is more than the allowed {max_pixels} "
                    "pixels",
                    code="too_large",
                )
        elif label == 0x21:
            kind = cursor.take(1)[0]
            blocks = cursor.sub_blocks()
            if kind == 0xF9 and blocks and len(blocks[0]) == 4:
                control = blocks[0]
            elif kind == 0xFF and blocks and blocks[0] in _LOOP_APPLICATIONS:
                if len(blocks) > 1 and len(blocks[1]) == 3 and blocks[1][0] == 1:
                    loops = int.from_bytes(blocks[1][1:], "little")
            elif kind == 0xFF and blocks and blocks[0] == b"ICCRGBG1012":
                profile = b"".join(blocks[1:])
                icc = profile if usable_profile(profile) else None
                dropped |= set() if icc else {"icc.damaged"}
            else:
                dropped.add(_name(kind, blocks))
        else:
            raise ImageError(f"GIF block expected at byte {cursor.at - 1}")
    else:
        raise ImageError("GIF has too many blocks", code="unsupported")
    if not images:
        raise ImageError("GIF without a picture", code="truncated")
    if cursor.at < len(data):
        dropped.add("trailer")
    return GifLayout(width, height, screen, palette, tuple(images), loops, icc, frozenset(dropped))


def _name(kind: int, blocks: list[bytes]) -> str:
    if kind == 0xFE:
        return "comment"
    if kind == 0xFF and blocks:
        return {b"XMP DataXMP": "xmp", b"C2PA_GIF\x01\x00\x00": "c2pa"}.get(blocks[0], "gif.app")
    return "text" if kind == 0x01 else "gif.extension"


def _image(
    cursor: _Cursor, control: bytes | None, screen_w: int, screen_h: int, has_palette: bool
) -> GifImage:
    head = cursor.take(9)
    x, y, width, height = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2, 4, 6))
    if not width or not height:
        raise ImageError("GIF declares a picture without pixels")
    if x + width > screen_w or y + height > screen_h:
        raise ImageError("GIF picture reaches outside its screen", code="unsupported")
    palette = cursor.take(3 << (head[8] & 7) + 1) if head[8] & 0x80 else b""
    if not palette and not has_palette:
        raise ImageError("GIF picture without a palette")
    code_size = cursor.take(1)[0]
    if not 2 <= code_size <= 8:
        raise ImageError("GIF picture data is damaged")
    data = b"".join(cursor.sub_blocks())
    return GifImage(
        x, y, width, height, bool(head[8] & 0x40), palette, code_size, data,
        control[0] & 0x1D if control else None,
        int.from_bytes(control[1:3], "little") if control else 0,
        control[3] if control else 0,
    )  # fmt: skip


def lzw_state(image: GifImage) -> tuple[bool, bool]:
    """``(complete, clean)`` of the picture data, without building the picture.

    ``clean`` is false where bytes follow the last pixel: no decoder shows them.

    Between two clear codes the place and width of every code is known in advance, so codes are
    gathered by run, and only their lengths are followed one by one.

    Raises:
        ImageError: ``corrupt``: a code that the table does not hold.
    """
    clear = 1 << image.code_size
    places = np.arange(_MAX_CODES * 2)
    widths = np.ceil(np.log2(clear + 2 + places)).astype(np.int64)
    widths = np.clip(widths, image.code_size + 1, 12)
    starts = np.concatenate([[0], np.cumsum(widths)])
    octets = np.frombuffer(image.data + b"\0\0\0", np.uint8).astype(np.uint32)
    bits_total = 8 * len(image.data)
    needed, produced, at, runs = image.width * image.height, 0, 0, 0
    window = _FIRST_WINDOW
    while True:
        room = int(np.searchsorted(at + starts[1 : window + 1], bits_total, side="right"))
        offsets, run_widths = at + starts[:room], widths[:room]
        first = offsets >> 3
        words = octets[first] | octets[first + 1] << 8 | octets[first + 2] << 16
        codes = (words >> (offsets & 7)) & ((1 << run_widths) - 1)
        stops = np.flatnonzero((codes == clear) | (codes == clear + 1))
        if not stops.size and room == window < len(places):
            window = len(places)
            continue
        runs, window = runs + 1, _FIRST_WINDOW
        if runs > 1000 + produced // 16:  # hardly a pixel between two clear codes: no encoder
            raise ImageError("GIF picture data is damaged")
        stop = int(stops[0]) if stops.size else room
        produced += _run_length(codes[:stop].tolist(), clear, needed - produced)
        ended = not stops.size or int(codes[stop]) == clear + 1
        used = min(stop, room - 1) if room else 0
        at += int(starts[used + 1]) if room else 0
        if produced >= needed or (ended and room < len(places)):
            break
    # one byte of slack: some encoders pad
    clean = produced == needed and bool(stops.size) and -(-at // 8) + 1 >= len(image.data)
    return produced >= needed, clean


def _run_length(codes: Iterable[int], clear: int, needed: int) -> int:
    """How many pixels the codes between two clears stand for, at least up to ``needed``."""
    lengths = [1] * clear + [0, 0]
    total = previous = 0
    for code in codes:
        if previous and len(lengths) < _MAX_CODES:
            lengths.append(previous + 1)
        if code >= len(lengths):
            raise ImageError("GIF picture data is damaged")
        previous = lengths[code]
        total += previous
        if total > needed:
            break
    return total


def write_gif(layout: GifLayout, *, plain: bool = False) -> bytes:
    """A GIF of the layout's pictures with loops and colour profile, and nothing else."""
    size = layout.width.to_bytes(2, "little") + layout.height.to_bytes(2, "little")
    out = [b"GIF89a", size, layout.screen, layout.palette]
    if layout.loops is not None:
        loops = b"\x01" + layout.loops.to_bytes(2, "little")
        out.append(b"\x21\xff\x0bNETSCAPE2.0" + _sub_blocks(loops))
    if layout.icc is not None and not plain:
        out.append(b"\x21\xff\x0bICCRGBG1012" + _sub_blocks(layout.icc))
    for image in layout.images:
        if image.control is not None:
            delay = image.delay.to_bytes(2, "little")
            control = bytes((image.control,)) + delay + bytes((image.transparent,))
            out.append(b"\x21\xf9" + _sub_blocks(control))
        place = (image.x, image.y, image.width, image.height)
        flags = 0x40 if image.interlaced else 0
        if image.palette:
            flags |= 0x80 | (len(image.palette) // 3).bit_length() - 2
        out.append(b"\x2c" + b"".join(n.to_bytes(2, "little") for n in place) + bytes((flags,)))
        out.append(image.palette + bytes((image.code_size,)) + _sub_blocks(image.data))
    out.append(b"\x3b")
    return b"".join(out)


def _sub_blocks(data: bytes) -> bytes:
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"".join(bytes((len(p),)) + p for p in parts) + b"\0"
