"""Read a cover design from SVG. The source may come from outside: it is judged before it is
rendered, so that it opens no other file and costs a bounded amount of time and memory.
"""

from __future__ import annotations

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from platehide.errors import UsageError

RgbaArray = NDArray[np.uint8]
"""uint8 ``(h, w, 4)`` R, G, B, A, straight (not premultiplied) alpha."""

MAX_ASPECT = 20.0
MAX_ELEMENTS = 20_000
MAX_DEPTH = 40
MAX_LAYERS = 400
"""Elements that need a picture of their own while rendering: filters, masks, opacity, …"""

MAX_PICTURE_PIXELS = 16_000_000

_LONG_SIDE = 1560
_SLOW = {"feTurbulence", "feMorphology", "feConvolveMatrix"}
_LAYER = re.compile(r"(?<![\w-])(filter|mask|clip-path|opacity|mix-blend-mode|isolation)(?![\w-])")
_ELSEWHERE = re.compile(r"@import|url\(\s*['\"]?\s*(?!['\"\s#]|data:)[^)]*", re.IGNORECASE)
_REFERENCE = re.compile(r"#([^\s'\")]+)")
_LENGTH = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-z%]*)\s*$")
_UNIT_PX = {
    "": 1.0,
    "px": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "in": 96.0,
}


def bad_cover(name: str, reason: str) -> UsageError:
    """The error for a cover that cannot be used: its name and the reason."""
    return UsageError(f"cover {name}: {reason}")


def check_shape(width: float, height: float, name: str) -> None:
    """Refuse a design beyond 20 : 1 or 1 : 20."""
    if not 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
        raise bad_cover(name, f"has an absurd shape ({width:g}×{height:g})")


def looks_like_svg(data: bytes) -> bool:
    """True for XML whose first 64 KiB hold an svg element."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"<") and b"<svg" in data[:65536]


def read_svg(data: bytes, name: str) -> RgbaArray:
    """Render an SVG file at 1560 px on its longer side.

    Raises:
        UsageError: it is damaged, refers to other files, could take for ever to render, or has
            text that no installed font can draw.
    """
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise bad_cover(name, f"is a damaged SVG ({error})") from error
    if _local(root.tag) != "svg":
        raise bad_cover(name, "is neither a PNG nor an SVG")
    _judge(root, name)
    width, height = _size(root, name)
    scale = _LONG_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    text = ElementTree.tostring(root, encoding="unicode")
    design = render_svg_text(text, size, name)
    if any(_local(e.tag) == "text" for e in root.iter()) and np.array_equal(
        design, render_svg_text(text, size, name, fonts=False)
    ):
        raise bad_cover(name, "has text whose font is not installed; convert the text to paths")
    return design


def render_svg_text(
    svg: str, size_wh: tuple[int, int], name: str = "cover", *, fonts: bool = True
) -> RgbaArray:
    """Render trusted SVG source to straight-alpha RGBA ``(h, w, 4)`` of about ``size_wh`` px.

    Raises:
        UsageError: the renderer refuses it.
    """
    try:
        png = bytes(
            resvg_py.svg_to_bytes(
                svg_string=svg,
                width=size_wh[0],
                height=size_wh[1],
                dpi=96,
                skip_system_fonts=not fonts,
            )
        )
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the renderer is no Exception
        raise bad_cover(name, f"cannot be rendered ({error})") from error
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.array(image.convert("RGBA"), dtype=np.uint8)


def _local(tag: object) -> str:
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def _judge(root: ElementTree.Element, name: str) -> None:
    """Refuse what opens other files or may take for ever."""
    count = layers = 0
    for element in root.iter():
        count += 1
        tag = _local(element.tag)
        if tag in _SLOW:
            raise bad_cover(name, f"uses <{tag}>, which is too slow for a cover")
        layers += sum(
            bool(_LAYER.search(key)) or (key == "style" and bool(_LAYER.search(value)))
            for key, value in element.attrib.items()
        )
        if tag != "a":  # a link draws nothing
            _judge_references(element, tag, name)
    if count > MAX_ELEMENTS or layers > MAX_LAYERS or _depth(root, MAX_DEPTH) > MAX_DEPTH:
        raise bad_cover(
            name,
            f"is too complex (at most {MAX_ELEMENTS} elements, nested {MAX_DEPTH} deep, "
            f"{MAX_LAYERS} filters, masks or opacities)",
        )


def _judge_references(element: ElementTree.Element, tag: str, name: str) -> None:
    """Everything that is drawn stands in the file itself."""
    for key, value in element.attrib.items():
        if _local(key) == "href" and not value.strip().startswith("#"):
            _judge_picture(value.strip(), name)
    styles = [*element.attrib.values(), (element.text or "") if tag == "style" else ""]
    for found in filter(None, map(_ELSEWHERE.search, styles)):
        raise bad_cover(name, f"refers to another file ({found[0][:60]}); embed it")


def _judge_picture(href: str, name: str) -> None:
    """An embedded picture is a PNG or JPEG of a size that can be decoded; nothing else."""
    if not href.startswith("data:"):
        raise bad_cover(name, f"refers to another file ({href[:60]}); embed it")
    header, _, body = href.partition(",")
    try:
        data = base64.b64decode(body) if header.endswith(";base64") else b""
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            width, height = image.size
    except Exception as error:
        # SVG within SVG ends here too: it would escape judgement.
        raise bad_cover(name, "embeds something that is neither a PNG nor a JPEG") from error
    if width * height > MAX_PICTURE_PIXELS:
        raise bad_cover(name, f"embeds a picture of {width}×{height} pixels")


def _depth(root: ElementTree.Element, limit: int) -> int:
    """How deep elements nest, those reached through references (use, mask, pattern) included;
    no more than ``limit + 1``.
    """
    targets = {e.get("id"): e for e in root.iter() if e.get("id")}
    known: dict[int, int] = {}
    under_way: set[int] = set()

    def measure(element: ElementTree.Element, level: int) -> int:
        key = id(element)
        if key in known:
            return known[key]
        if level > limit or key in under_way:  # too deep, or a circle, which is cut when drawn
            return limit + 1 if level > limit else 0
        under_way.add(key)
        below = list(element)
        for value in element.attrib.values():
            below += [targets[i] for i in _REFERENCE.findall(value) if i in targets]
        deepest = 1 + max((measure(e, level + 1) for e in below), default=0)
        under_way.discard(key)
        known[key] = deepest
        return deepest

    return min(measure(root, 0), limit + 1)


def _pixels(value: str | None) -> float | None:
    match = _LENGTH.match(value or "")
    if not match or match.group(2) not in _UNIT_PX:
        return None
    try:
        return float(match.group(1)) * _UNIT_PX[match.group(2)]
    except ValueError:
        return None


def _size(root: ElementTree.Element, name: str) -> tuple[float, float]:
    """Nominal width and height in px, from the attributes or the view box."""
    width, height = _pixels(root.get("width")), _pixels(root.get("height"))
    box = re.split(r"[\s,]+", (root.get("viewBox") or "").strip())
    if (width is None or height is None) and len(box) == 4:
        try:
            box_w, box_h = float(box[2]), float(box[3])
        except ValueError:
            box_w = box_h = 0.0
        if box_w > 0 and box_h > 0:
            if width is not None:
                height = width * box_h / box_w
            elif height is not None:
                width = height * box_w / box_h
            else:
                width, height = box_w, box_h
    if not width or not height or not math.isfinite(width * height):
        raise bad_cover(name, "has neither a width and height nor a viewBox")
    check_shape(width, height, name)
    return width, height
