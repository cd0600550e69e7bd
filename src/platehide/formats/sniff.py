"""What a file is, by its first bytes."""

from __future__ import annotations

from platehide.errors import ImageError

_SIGNATURES = (
    (b"\xff\xd8", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"BM", "bmp"),
)
_UNSUPPORTED = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"qoif", "QOI"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"hevc", b"hevx", b"msf1"}
_LONGEST = 12


def sniff(data: bytes) -> str:
    """``jpeg``, ``png``, ``webp``, ``gif``, ``tiff``, ``bmp``, ``avif`` or ``heic``.

    Raises:
        ImageError: ``empty``, ``not_an_image``, ``truncated`` (shorter than its own signature) or
            ``unsupported`` (an image of a kind that is not handled).
    """
    head = bytes(data[:64])
    if not head:
        raise ImageError("the file is empty", code="empty")
    if head[:4] in (b"II*\0", b"MM\0*") and head[8:10] == b"CR":
        raise ImageError("camera raw (CR2) is not supported", code="unsupported")
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and len(head) >= _LONGEST:
        return _sniff_brands(head)
    for signature, name in _UNSUPPORTED:
        if head.startswith(signature):
            raise ImageError(f"{name} is not supported", code="unsupported")
    known = [signature for signature, _ in _SIGNATURES] + [b"RIFF"]
    if len(head) < _LONGEST and any(s.startswith(head) or head == b"RIFF" for s in known):
        raise ImageError("the file ends inside its signature", code="truncated")
    raise ImageError("the file is not an image of a known kind", code="not_an_image")


def _sniff_brands(head: bytes) -> str:
    """ISO base media files say what they are in a list of four-letter brands."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    major = head[8:12]
    brands = {major} | {head[i : i + 4] for i in range(16, size - 3, 4)}
    if major in (b"avis", b"msf1", b"hevc", b"hevx"):
        raise ImageError("a sequence of pictures is not supported", code="unsupported")
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIC_BRANDS:
        return "heic"
    if major == b"crx ":
        raise ImageError("camera raw (CR3) is not supported", code="unsupported")
    raise ImageError("the file is a video or unknown media file", code="not_an_image")
