"""Flat drawings of invented number plates. The letters are strokes: no font is needed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from platehide.cover.svg import render_svg_text
from platehide.types import ImageArray

PlateStyle = Literal["eu", "us", "yellow", "two-row", "black"]

# Centre lines on a field 10 wide and 18 high, y down; drawn with a round pen.
_GLYPHS = {
    "A": "M0 18 5 0 10 18M1.8 12H8.2",
    "B": "M0 0V18H5.3A4.7 4.7 0 0 0 5.3 8.6H0M5 8.6A4.3 4.3 0 0 0 5 0H0",
    "C": "M10 4.8A5 4.8 0 0 0 0 4.8V13.2A5 4.8 0 0 0 10 13.2",
    "D": "M0 0V18H4A6 6 0 0 0 10 12V6A6 6 0 0 0 4 0Z",
    "E": "M10 0H0V18H10M0 8.8H8",
    "F": "M10 0H0V18M0 8.8H8",
    "G": "M10 4.8A5 4.8 0 0 0 0 4.8V13.2A5 4.8 0 0 0 10 13.2V10H6",
    "H": "M0 0V18M10 0V18M0 8.8H10",
    "I": "M5 0V18",
    "J": "M10 0V13A5 5 0 0 1 0 13",
    "K": "M0 0V18M10 0 0 11M4 7.2 10 18",
    "L": "M0 0V18H10",
    "M": "M0 18V0L5 10 10 0V18",
    "N": "M0 18V0L10 18V0",
    "O": "M0 5A5 5 0 0 1 10 5V13A5 5 0 0 1 0 13Z",
    "P": "M0 18V0H5A5 5 0 0 1 5 10H0",
    "R": "M0 18V0H5A5 5 0 0 1 5 10H0M5 10 10 18",
    "S": "M10 4.6A5 4.6 0 0 0 0 4.6C0 9 10 8.6 10 13.4A5 4.6 0 0 1 0 13.4",
    "T": "M0 0H10M5 0V18",
    "U": "M0 0V13A5 5 0 0 0 10 13V0",
    "V": "M0 0 5 18 10 0",
    "X": "M0 0 10 18M10 0 0 18",
    "Y": "M0 0 5 9V18M10 0 5 9",
    "Z": "M0 0H10L0 18H10",
    "0": "M0.5 5A4.5 5 0 0 1 9.5 5V13A4.5 5 0 0 1 0.5 13Z",
    "1": "M1.5 4.5 6 0V18",
    "2": "M0 4.8A5 4.8 0 0 1 10 4.8C10 9 0 13 0 18H10",
    "3": "M0.4 3.4A4.8 4.3 0 0 1 9.4 4.3A4.4 4.3 0 0 1 5 8.6H4M5 8.6A4.7 4.7 0 0 1 5 18"
    "A5 4.6 0 0 1 0 14.4",
    "4": "M7.5 18V0L0 12.8H10",
    "5": "M9.5 0H1.2L0.6 8.2C4 5.8 10 7 10 12.6A5 5.3 0 0 1 0 14.2",
    "6": "M8 0C3 4 0 8 0 12.8A5 5.2 0 0 0 10 12.8A5 5.2 0 0 0 0 12.8",
    "7": "M0 0H10L4 18",
    "8": "M0.7 4.3A4.3 4.3 0 0 1 9.3 4.3A4.3 4.3 0 0 1 0.7 4.3M0 13.3A5 4.7 0 0 1 10 13.3"
    "A5 4.7 0 0 1 0 13.3",
    "9": "M2 18C7 14 10 10 10 5.2A5 5.2 0 0 0 0 5.2A5 5.2 0 0 0 10 5.2",
    "-": "M2.5 9.5H7.5",
}
_ADVANCE = {"1": 11.0, "I": 9.0, "-": 12.0, " ": 8.0}


@dataclass(frozen=True)
class PlateDrawing:
    """A flat plate.

    Attributes:
        rgb: uint8 ``(h, w, 3)``.
        size_m: width and height in metres.
    """

    rgb: ImageArray
    size_m: tuple[float, float]


def _line(text: str, centre: tuple[float, float], height: float, room: float, ink: str) -> str:
    """SVG of ``text`` in letters ``height`` high round ``centre``, squeezed into ``room``."""
    advances = [_ADVANCE.get(c, 14.0) for c in text]
    width = sum(advances) - 4.0
    ky = height / 18.0
    kx = min(ky, room / width)
    x, y = centre[0] - width * kx / 2, centre[1] - height / 2
    parts = []
    for char, advance in zip(text, advances, strict=True):
        if char != " ":
            parts.append(
                f'<path transform="translate({x:.2f} {y:.2f}) scale({kx:.4f} {ky:.4f})"'
                f' d="{_GLYPHS[char]}"/>'
            )
        x += advance * kx
    return (
        f'<g fill="none" stroke="{ink}" stroke-width="2.5" stroke-linejoin="round"'
        f' stroke-linecap="round">{"".join(parts)}</g>'
    )


def _base(w: float, h: float, top: str, bottom: str, frame: str) -> str:
    return (
        '<defs><linearGradient id="g" x2="0" y2="1">'
        f'<stop stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/>'
        "</linearGradient></defs>"
        f'<rect width="{w}" height="{h}" fill="{frame}"/>'
        f'<rect x="1.2" y="1.2" width="{w - 2.4}" height="{h - 2.4}" rx="3" fill="url(#g)"/>'
        f'<rect x="3" y="3" width="{w - 6}" height="{h - 6}" rx="2.5" fill="none"'
        f' stroke="{frame}" stroke-width="1.3"/>'
    )


def _bolts(*places: tuple[float, float]) -> str:
    return "".join(f'<circle cx="{x}" cy="{y}" r="1.7" fill="#8d8f91"/>' for x, y in places)


@functools.lru_cache(maxsize=32)
def draw_plate(style: PlateStyle, text: str) -> PlateDrawing:
    """Draw a plate of ``style`` that reads ``text`` (A–Z without Q and W, 0–9, space, hyphen;
    ``/`` starts the second row of ``two-row``)."""
    if style == "eu":
        w, h = 260.0, 55.0
        body = _base(w, h, "#f7f7f4", "#e9e9e4", "#1b1b1d")
        body += '<rect x="3" y="3" width="23" height="49" rx="2" fill="#1c4fa0"/>'
        for k in range(12):
            a = 2 * np.pi * k / 12
            x, y = 14.5 + 6.4 * np.sin(a), 18 - 6.4 * np.cos(a)
            body += f'<circle cx="{x:.2f}" cy="{y:.2f}" r="1.1" fill="#f5cf2b"/>'
        body += _line("XX", (14.5, 41), 9, 14, "#ffffff")
        body += _line(text, (143, 27.5), 37, 218, "#161618")
    elif style == "yellow":
        w, h = 260.0, 55.0
        body = _base(w, h, "#f6c524", "#eab511", "#1b1b1d")
        body += _line(text, (130, 27.5), 37, 240, "#161618")
    elif style == "black":
        w, h = 260.0, 60.0
        body = _base(w, h, "#1d1e20", "#141517", "#c9cbcd")
        body += _line(text, (130, 30), 40, 236, "#e8e9ea")
    elif style == "us":
        w, h = 152.0, 76.0
        body = _base(w, h, "#dfeaf6", "#fbf7ec", "#8fa3b8")
        body += (
            '<path d="M4 58 34 36 54 50 84 30 118 52 148 40V72H4Z" fill="#cfe0d2" opacity=".8"/>'
        )
        body += _line("DEMOLAND", (76, 11), 8, 70, "#a03030")
        body += _line(text, (76, 40), 34, 136, "#1d2f66")
        body += _line("NOT A REAL PLATE", (76, 67), 5.4, 80, "#40506a")
        body += _bolts((18, 9), (134, 9), (18, 67), (134, 67))
    else:
        w, h = 140.0, 108.0
        body = _base(w, h, "#f7f7f4", "#e9e9e4", "#1b1b1d")
        upper, lower = text.split("/")
        body += _line(upper, (70, 31), 36, 118, "#161618")
        body += _line(lower, (70, 78), 36, 118, "#161618")
        body += _bolts((70, 54))
    scale = 4
    size = round(w * scale), round(h * scale)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{size[0]}"'
        f' height="{size[1]}">{body}</svg>'
    )
    rgb = np.ascontiguousarray(render_svg_text(svg, size, "demo plate", fonts=False)[..., :3])
    rgb.setflags(write=False)
    # 2 mm a drawing unit: 520 mm × 110 mm, 304 mm × 152 mm, 280 mm × 216 mm.
    return PlateDrawing(rgb, (w * 0.002, h * 0.002))
