"""Drawn cars with plates and covers, for the tests of recognition. Not a test module."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from platehide.cover import Cover, CoverOptions, cover_plate, load_cover
from platehide.pixels import ArrayPixels, apply_patches
from platehide.types import FloatArray, ImageArray

OURS = load_cover(None)
SVG = load_cover(
    b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 470 110">
      <rect width="470" height="110" fill="#f4d000"/><path d="M30 85 80 25l50 60z"/>
      <path d="M160 30h270v18H160zm0 34h180v18H160z" fill="#b00"/></svg>"""
)


def _png() -> Cover:
    rgba = np.full((120, 400, 4), (40, 60, 200, 255), np.uint8)
    colour = np.ascontiguousarray(rgba[..., :3])
    cv2.circle(colour, (60, 60), 38, (255, 255, 255), -1)
    cv2.putText(colour, "AUTO KING", (115, 78), cv2.FONT_HERSHEY_DUPLEX, 1.4, (255,) * 3, 4)
    rgba[..., :3] = colour
    ok, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    assert ok
    return load_cover(data.tobytes())


DESIGNS: dict[str, tuple[Cover, CoverOptions]] = {
    "light": (OURS, CoverOptions()),
    "dark": (OURS, CoverOptions(variant="dark")),
    "text": (OURS, CoverOptions(text="MY GARAGE")),
    "solid": (OURS, CoverOptions(style="solid")),
    "solid-dark": (OURS, CoverOptions(style="solid", variant="dark")),
    "solid-text": (OURS, CoverOptions(style="solid", text="SOLD 0815")),
    "png": (_png(), CoverOptions()),
    "svg": (SVG, CoverOptions()),
}


def place(width: float, aspect: float = 4.4) -> FloatArray:
    """A plate a little turned and seen a little from the side."""
    height = width / aspect
    half = np.array([width / 2, height / 2])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    corners[:2, 1] -= 0.04 * height * np.array([1, -1])
    turn = np.radians(3.0)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(corners @ spin.T + (1.1 * width + 12, 0.9 * height + 0.35 * width + 12))


def size_for(width: float, aspect: float = 4.4) -> tuple[int, int]:
    height = width / aspect
    return int(2.2 * width + 24), int(1.8 * height + 0.7 * width + 24)


def car(width: float, aspect: float = 4.4, seed: int = 0, paint: int = 90) -> ImageArray:
    """Uneven paintwork round the place of a plate, with a dark recess and noise."""
    rng = np.random.default_rng(seed)
    w, h = size_for(width, aspect)
    few = rng.integers(max(0, paint - 25), min(255, paint + 25), (5, 7, 3)).astype(np.uint8)
    rgb = cv2.resize(few, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    recess = place(width, aspect)
    recess = (recess - recess.mean(axis=0)) * (1.15, 1.5) + recess.mean(axis=0)
    cv2.fillConvexPoly(rgb, np.int32(np.rint(recess)), (35.0, 35.0, 40.0), cv2.LINE_AA)
    rgb += rng.normal(0, 2, rgb.shape)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def with_plate(
    rgb: ImageArray,
    quad: FloatArray,
    text: str,
    *,
    ground: int | tuple[int, int, int] = 235,
    ink: int | tuple[int, int, int] = 25,
    size: float = 0.72,
    at: float = 0.5,
    down: float = 0.5,
) -> ImageArray:
    """A plate with ``text`` drawn on it: ``size`` of its height, centred at ``at``, ``down``."""
    flat_h = 120
    width = float(np.hypot(*(quad[1] - quad[0])))
    height = float(np.hypot(*(quad[3] - quad[0])))
    flat_w = round(flat_h * width / height)
    flat = np.empty((flat_h, flat_w, 3), np.uint8)
    flat[:] = ground
    face, thick = cv2.FONT_HERSHEY_DUPLEX, max(2, round(12 * size))
    scale = 1.0
    (tw, th), _ = cv2.getTextSize(text, face, 1.0, thick)
    scale = min(size * flat_h / th, 0.9 * flat_w / tw)
    (tw, th), _ = cv2.getTextSize(text, face, scale, thick)
    corner = round(at * flat_w - tw / 2), round(down * flat_h + th / 2)
    colour = (ink,) * 3 if isinstance(ink, int) else ink
    cv2.putText(flat, text, corner, face, scale, colour, thick, cv2.LINE_AA)
    while width < flat_w / 2:
        flat = cv2.resize(flat, (flat_w // 2, flat.shape[0] // 2), interpolation=cv2.INTER_AREA)
        flat_w = flat.shape[1]
    h, w = flat.shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(corners, (quad - 0.5).astype(np.float32))
    size_wh = rgb.shape[1], rgb.shape[0]
    there = cv2.warpPerspective(flat, matrix, size_wh, flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.ones((h, w), np.float32), matrix, size_wh)[..., None]
    return np.asarray(rgb * (1 - mask) + there * mask, np.uint8)


def with_cover(rgb: ImageArray, quad: FloatArray, name: str) -> ImageArray:
    cover, options = DESIGNS[name]
    return apply_patches(rgb, (cover_plate(ArrayPixels(rgb), quad, cover, options).patch,))


def jpeg(rgb: ImageArray, quality: int = 85) -> ImageArray:
    """As a JPEG shows it."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, colorsubsampling="420")
    return np.asarray(simplejpeg.decode_jpeg(data))


def rough(quad: FloatArray, rng: np.random.Generator) -> FloatArray:
    """As a detector may find it: all corners a few percent of the height off, one of them more."""
    height = float(np.hypot(*(quad[3] - quad[0])))
    out = quad + rng.normal(0, 0.03 * height, (4, 2))
    out[rng.integers(4)] += rng.uniform(-0.12, 0.12, 2) * height
    return out
