"""Drawn things put into training pictures: plates of other countries over real ones or beside
them, covers as this product paints them (which are no plates), and lettering that is none.

The photos show the plates of a few countries only, hardly one shows plates stacked as in a plate
shop, and nothing in them teaches that a cover is not a plate. Drawn with the fonts that come with
matplotlib, so that every machine draws the same.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from platehide.cover.compose import cover_plate
from platehide.cover.template import Cover, CoverOptions, load_cover
from platehide.errors import PlateHideError
from platehide.geometry import box_iou, hull_box, is_convex, mean_sides
from platehide.pixels import ArrayPixels, apply_patches
from platehide.train.augment import tilted_rectangle
from platehide.types import FloatArray, ImageArray

Rgb = tuple[int, int, int]

_FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSansMono.ttf",
    "DejaVuSerif-Bold.ttf", "STIXGeneralBol.ttf", "DejaVuSans-BoldOblique.ttf", "cmb10.ttf",
    "cmss10.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf",
)  # fmt: skip
_PLATE_FONTS = _FONTS[:4]
_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_ARABIC = "ابحدرسصطعفقكلمنهوي٠١٢٣٤٥٦٧٨٩"
_WHITE, _BLACK = (240, 240, 236), (22, 22, 24)
_PAINTS: tuple[tuple[Rgb, Rgb], ...] = (  # ground, ink
    (_WHITE, _BLACK), (_WHITE, _BLACK), (_WHITE, _BLACK),
    (_WHITE, (170, 30, 30)), (_WHITE, (30, 50, 130)), (_WHITE, (20, 90, 50)),
    ((244, 196, 36), _BLACK), ((236, 180, 20), _BLACK), (_BLACK, _WHITE),
    ((26, 60, 140), _WHITE), ((20, 100, 60), _WHITE), ((160, 28, 32), _WHITE),
    ((190, 214, 236), (24, 36, 96)), ((250, 230, 200), (30, 80, 60)), ((120, 190, 120), _BLACK),
    (_BLACK, (205, 205, 200)), ((38, 40, 44), (236, 228, 190)), ((12, 14, 20), (240, 214, 90)),
)  # fmt: skip
_WORDS = tuple(
    "TAXI EXPRESS Police turbo SALE Hotel auto Service motors TDI GT sport 4x4 AMBULANCE bus "  # noqa: SIM905
    "Cargo rent BMW kia Toyota FORD dealer.com www.cars.net 24h Center Bank cafe PIZZA market "
    "Parking EXIT open used Premium quality Logistics Transport Express diesel hybrid Zone Team "
    "tel. Tours School world Print Foto City line Delivery fast Garage Renault HONDA".split()
)


@functools.lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name,
        size,
        layout_engine=ImageFont.Layout.BASIC,
    )


def _lettering(text: str, name: str, wh: tuple[int, int], ink: Rgb) -> Image.Image:
    """``text`` drawn to fill exactly ``wh`` px: RGBA, transparent ground."""
    font = _font(name, 48)
    x0, y0, x1, y1 = font.getbbox(text)
    drawn = Image.new("L", (max(1, int(x1 - x0)), max(1, int(y1 - y0))))
    ImageDraw.Draw(drawn).text((-x0, -y0), text, 255, font=font)
    out = Image.new("RGBA", wh, (*ink, 0))
    out.putalpha(drawn.resize(wh, Image.Resampling.BOX if wh[0] < drawn.width else 2))
    return out


def _plate_text(rng: np.random.Generator) -> str:
    if rng.random() < 0.12:
        return "".join(rng.choice(list(_ARABIC), int(rng.integers(4, 8))))
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        pool = _LATIN if rng.random() < 0.5 else _DIGITS
        parts.append("".join(rng.choice(list(pool), int(rng.integers(1, 5)))))
    text = str(rng.choice(["", " ", "-", "·"])).join(parts)
    return text if len(text) >= 4 else text + "".join(rng.choice(list(_DIGITS), 4))


def draw_random_plate(rng: np.random.Generator, aspect: float) -> ImageArray:
    """A flat invented plate, RGB ``(h, w, 3)``, as wide for its height as ``aspect`` (two rows
    where it is squat)."""
    h = 64
    w = int(np.clip(round(h * aspect), 56, 420))
    ground, ink = _PAINTS[int(rng.integers(len(_PAINTS)))]
    plate = Image.new("RGB", (w, h), ground)
    pen = ImageDraw.Draw(plate)
    if rng.random() < 0.6:
        edge = ink if rng.random() < 0.7 else (150, 150, 150)
        pen.rounded_rectangle((1, 1, w - 2, h - 2), 6, outline=edge, width=int(rng.integers(1, 4)))
    left, right, top, bottom = 5, w - 5, 6, h - 6
    if aspect > 2.8 and rng.random() < 0.45:  # a band with the country
        band = int(rng.uniform(0.3, 0.5) * h)
        colour = (28, 70, 160) if rng.random() < 0.8 else (170, 30, 40)
        x = 2 if rng.random() < 0.8 else w - band - 2
        pen.rectangle((x, 2, x + band, h - 3), fill=colour)
        mark = _lettering(str(rng.choice(["D", "F", "PL", "I", "RUS", "MA"])), _FONTS[1],
                          (max(4, band - 8), h // 5), (240, 240, 240))  # fmt: skip
        plate.paste(mark, (x + 4, int(0.65 * h)), mark)
        left, right = (x + band + 4, right) if x == 2 else (left, x - 4)
    if rng.random() < 0.3:  # a line above or below the number
        word, wide = str(rng.choice(_WORDS)).upper(), (right - left) * rng.uniform(0.3, 0.8)
        strip = _lettering(word, str(rng.choice(_FONTS)), (max(8, int(wide)), h // 7), ink)
        above = rng.random() < 0.6
        y = 4 if above else h - 4 - strip.height
        plate.paste(strip, (left + (right - left - strip.width) // 2, y), strip)
        top, bottom = (y + strip.height + 2, bottom) if above else (top, y - 2)
    rows = 2 if aspect < 2.4 and rng.random() < 0.6 else 1
    name = _PLATE_FONTS[int(rng.integers(len(_PLATE_FONTS)))]
    each = (bottom - top) // rows
    for row in range(rows):
        text = _plate_text(rng)
        if rows == 2:
            text = text[: max(2, len(text) // 2)]
        wide = min(right - left, int(len(text) * each * rng.uniform(0.45, 0.75)))
        wide = max(8, int(wide * rng.uniform(0.85, 1.0)))
        line = _lettering(text, name, (wide, max(4, each - int(rng.integers(1, 8)))), ink)
        x = left + (right - left - wide) // 2
        plate.paste(line, (x, top + row * each + (each - line.height) // 2), line)
    return np.asarray(plate, dtype=np.uint8)


def _warp_onto(
    image: ImageArray, flat: ImageArray, alpha: np.ndarray | None, quad: FloatArray, gain: float
) -> ImageArray:
    """``flat`` drawn into ``quad`` ``(4, 2)`` px of ``image``, reduced before it is warped."""
    wide = max(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[3]))
    share = float(np.clip(1.3 * wide / flat.shape[1], 0.02, 1.0))
    wh = (max(4, round(flat.shape[1] * share)), max(3, round(flat.shape[0] * share)))
    small = np.asarray(cv2.resize(flat, wh, interpolation=cv2.INTER_AREA))
    mask = np.full((wh[1], wh[0]), 255, np.uint8) if alpha is None else (
        np.asarray(cv2.resize(alpha, wh, interpolation=cv2.INTER_AREA)))  # fmt: skip
    w, h = wh
    corners = np.array([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]])
    matrix = cv2.getPerspectiveTransform(
        corners.astype(np.float32), (quad - 0.5).astype(np.float32)
    )
    size = (image.shape[1], image.shape[0])
    layer = cv2.warpPerspective(small, matrix, size, flags=1, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(mask, matrix, size, flags=1)[..., None].astype(np.float32) / 255.0
    lit = np.clip(layer.astype(np.float32) * gain, 0, 255)
    return np.asarray(image * (1 - cover) + lit * cover, dtype=np.uint8)


def grow(quad: FloatArray, share: float) -> FloatArray:
    """``quad`` ``(4, 2)`` enlarged about its centre by ``share``."""
    centre = quad.mean(axis=0)
    return np.asarray(centre + (quad - centre) * (1.0 + share))


def _light(image: ImageArray, quad: FloatArray) -> float:
    """Gain that puts a drawn plate into the light at ``quad``: by the 80th percentile there."""
    x0, y0, x1, y1 = (int(v) for v in hull_box(quad))
    part = image[max(0, y0) : max(0, y1) + 1, max(0, x0) : max(0, x1) + 1]
    bright = float(np.percentile(part, 80)) / 255.0 if part.size else 0.6
    return float(np.clip(1.05 * bright, 0.15, 1.1))


def other_plate(
    image: ImageArray, quad: FloatArray, aspect: float, rng: np.random.Generator
) -> tuple[ImageArray, FloatArray]:
    """An invented plate over a real one, in its light; returns the picture and its exact quad."""
    target = grow(quad, 0.05)
    flat = draw_random_plate(rng, float(np.clip(aspect * np.exp(rng.normal(0, 0.15)), 1.1, 6.0)))
    return _warp_onto(image, flat, None, target, _light(image, quad)), target


def beside(
    image: ImageArray, quad: FloatArray, aspect: float, rng: np.random.Generator
) -> tuple[ImageArray, FloatArray]:
    """An invented plate above, below or next to ``quad`` ``(4, 2)``, in its light and size, as
    plates are stacked in a shop; returns the picture and the new plate's exact quad, which may
    reach out of the picture."""
    across, down = mean_sides(quad)
    gap = float(rng.uniform(0.03, 0.5)) * float(np.linalg.norm(down))
    way = down if rng.random() < 0.7 else across
    step = way * (1.0 + gap / max(1e-6, float(np.linalg.norm(way))))
    place = quad + step * rng.choice([-1.0, 1.0]) + rng.normal(0.0, 0.04) * across
    flat = draw_random_plate(rng, float(np.clip(aspect, 1.1, 6.0)))
    return _warp_onto(image, flat, None, place, _light(image, quad)), place


@functools.lru_cache(maxsize=1)
def _design() -> Cover:
    return load_cover(None)


@functools.lru_cache(maxsize=64)
def _options(variant: int) -> CoverOptions:
    rng = np.random.default_rng(variant)
    text = str(rng.choice(_WORDS)) if rng.random() < 0.2 else None
    return CoverOptions(
        style="solid" if rng.random() < 0.15 else "logo",
        text=text,
        variant="light" if rng.random() < 0.5 else "dark",
        margin=0.07,
    )


def covered(image: ImageArray, quad: FloatArray, rng: np.random.Generator) -> ImageArray | None:
    """The picture with the product's own cover on ``quad``; ``None`` where it cannot be put."""
    try:
        made = cover_plate(ArrayPixels(image), quad, _design(), _options(int(rng.integers(40))))
    except PlateHideError:
        return None
    return apply_patches(image, (made.patch,))


def _on_sign(line: ImageArray, rng: np.random.Generator) -> ImageArray:
    """RGBA lettering on an opaque ground unlike its ink, with a rim: RGBA."""
    rim = int(rng.integers(3, 12))
    shown = line[..., 3:].astype(np.float32) / 255.0
    ink = line[0, 0, :3].astype(int)
    ground = rng.integers(0, 256, 3)
    while abs(ground.mean() - ink.mean()) < 70:
        ground = rng.integers(0, 256, 3)
    panel = np.asarray(line[..., :3] * shown + ground * (1.0 - shown), dtype=np.uint8)
    colour = tuple(int(v) for v in ground)
    panel = np.asarray(cv2.copyMakeBorder(panel, rim, rim, rim, rim, 0, value=colour))
    return np.dstack([panel, np.full(panel.shape[:2], 255, np.uint8)])


def lettered(
    image: ImageArray,
    avoid: FloatArray,
    rng: np.random.Generator,
    place: FloatArray | None = None,
) -> ImageArray:
    """One line of lettering that is no plate, away from the quads ``avoid`` ``(n, 4, 2)``, at
    ``place`` ``(4, 2)`` or anywhere: painted on what is there, or on a sign's own ground."""
    height, width = image.shape[:2]
    words = [str(w) for w in rng.choice(_WORDS, int(rng.integers(1, 3)))]
    if rng.random() < 0.25:
        words.append("".join(rng.choice(list(_DIGITS), int(rng.integers(2, 7)))))
    text = " ".join(words)
    text = text.upper() if rng.random() < 0.4 else text
    ink: Rgb = tuple(int(v) for v in rng.integers(0, 256, 3))  # type: ignore[assignment]
    if rng.random() < 0.6:
        ink = (240, 240, 240) if rng.random() < 0.5 else (25, 25, 28)
    size = (max(24, 22 * len(text)), 44)
    drawn = np.asarray(_lettering(text, str(rng.choice(_FONTS)), size, ink))
    if rng.random() < 0.5:
        drawn = _on_sign(drawn, rng)
    if place is None:
        wide = float(np.exp(rng.uniform(np.log(20), np.log(0.8 * width))))
        high = wide * size[1] / size[0] * float(np.exp(rng.normal(0, 0.2)))
        centre = rng.uniform(0, 1, 2) * [width, height]
        place = tilted_rectangle(rng, centre, (wide, high), 1.0)
    if not is_convex(place) or any(box_iou(hull_box(place), hull_box(q)) > 0 for q in avoid):
        return image
    return _warp_onto(image, drawn[..., :3], drawn[..., 3], place, 1.0)
