"""HEIC and AVIF: decoded by libheif (extra ``heif``) and libavif, answered as JPEG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from platehide.errors import ImageError
from platehide.formats.guard import check_pixels, decoding
from platehide.formats.jpeg_photo import finish
from platehide.formats.orientation import to_displayed
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.metadata.avif_boxes import describe_avif, ends_early
from platehide.metadata.exif import Exif, build_exif, read_exif
from platehide.metadata.icc import usable_profile
from platehide.metadata.jpeg_scrub import JpegMetadata, picture_bytes
from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.pixels import ArrayPixels, Patch, apply_patches
from platehide.types import ImageArray

JPEG_QUALITY = 92
AVIF_QUALITY = 85


class HeifPhoto:
    """An opened HEIC or AVIF: its primary picture, upright, over white where transparent.

    Other pictures of the file (thumbnails, depth, gain maps, bursts) are not copied.
    """

    def __init__(
        self, rgb: ImageArray, media_type: str, icc: bytes | None, exif: Exif, dropped: set[str]
    ) -> None:
        self.media_type = media_type
        self._pixels = ArrayPixels(rgb)
        self._icc = icc
        self._exif = replace(exif, orientation=1)  # the pixels are upright already
        self._dropped = frozenset(dropped)

    @property
    def frames(self) -> Sequence[ArrayPixels]:
        """The primary picture."""
        return (self._pixels,)

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """A JPEG, or an AVIF where asked; see ``Photo``.

        Raises:
            ImageError: ``unsupported``: HEIC was asked for.
        """
        rgb = apply_patches(self._pixels.rgb, tuple(patches))
        metadata = JpegMetadata(icc=self._icc, exif=self._exif, dropped=self._dropped)
        if options.keep_format:
            return self._as_avif(rgb, metadata, options)
        whole = simplejpeg.encode_jpeg(
            np.ascontiguousarray(rgb), quality=JPEG_QUALITY, colorsubsampling="420"
        )
        layout = walk_jpeg(whole, max_pixels=1 << 62)
        finished = finish(
            picture_bytes(whole, layout), layout.frame, metadata, "reencoded", options
        )
        return replace(finished, suffix=".jpg")

    def _as_avif(
        self, rgb: ImageArray, metadata: JpegMetadata, options: WriteOptions
    ) -> FinishedPhoto:
        if self.media_type != "image/avif":
            raise ImageError("HEIC cannot be written; JPEG can", code="unsupported")
        out = io.BytesIO()
        Image.fromarray(rgb).save(
            out,
            "AVIF",
            quality=AVIF_QUALITY,
            icc_profile=self._icc or b"",
            exif=build_exif(self._exif.reduced(options.keep_metadata)),
        )
        removed = metadata.removed(options.keep_metadata)
        return FinishedPhoto(out.getvalue(), self.media_type, "reencoded", removed)


def open_avif(data: bytes, *, max_pixels: int) -> HeifPhoto:
    """Open an AVIF.

    Raises:
        ImageError: ``too_large``, ``unsupported`` (a sequence, a crop between pixels),
            ``truncated``, ``corrupt``.
    """
    try:
        with decoding("AVIF"), AvifImageFile(io.BytesIO(data)) as image:
            check_pixels(image.width, image.height, max_pixels)
            if image.n_frames > 1:
                raise ImageError("animated AVIF is not supported", code="unsupported")
            info = dict(image.info)
            rgb = _flat(image)
    except ImageError as error:
        if error.code == "corrupt" and ends_early(data):
            raise ImageError("AVIF ends inside a box", code="truncated") from error
        raise
    exif = read_exif(info.get("exif", b"").removeprefix(b"Exif\0\0"))
    crop, others = describe_avif(data, (rgb.shape[1], rgb.shape[0]))
    if crop is not None:  # before the picture is turned (MIAF, 7.3.6.7)
        x0, y0, x1, y1 = crop
        rgb = np.ascontiguousarray(rgb[y0:y1, x0:x1])
    photo_info = _describe(info, exif)
    if others:
        photo_info[2].add("heif.pictures")
    return HeifPhoto(to_displayed(rgb, exif.orientation), "image/avif", *photo_info)


def open_heic(data: bytes, *, max_pixels: int) -> HeifPhoto:
    """Open a HEIC.

    Raises:
        ImageError: as :func:`open_avif`; ``unsupported`` where the extra ``heif`` is missing.
    """
    try:
        import pi_heif
    except ImportError as error:
        raise ImageError(
            "HEIC needs the extra: pip install 'platehide[heif]'", code="unsupported"
        ) from error
    with decoding("HEIC"):
        file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        primary = file[file.primary_index]
        width, height = primary.size
        check_pixels(width, height, max_pixels)
        info = dict(primary.info)
        rgb = _flat(primary.to_pillow())
        others = len(file) > 1 or any(info.get(k) for k in ("thumbnails", "depth_images", "aux"))
    exif = read_exif((info.get("exif") or b"").removeprefix(b"Exif\0\0"))
    photo_info = _describe(info, exif)
    if others:
        photo_info[2].add("heif.pictures")
    return HeifPhoto(rgb, "image/heic", *photo_info)


def _flat(image: Image.Image) -> ImageArray:
    """8-bit RGB over white."""
    if image.mode in ("RGBA", "LA", "RGBa"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _describe(info: Mapping[Any, Any], exif: Exif) -> tuple[bytes | None, Exif, set[str]]:
    """Colour profile, EXIF and names of what is dropped whatever the policy."""
    dropped = {"xmp"} if info.get("xmp") else set()
    profile = info.get("icc_profile")
    icc = profile if isinstance(profile, bytes) and usable_profile(profile) else None
    return icc, exif, dropped
