"""Flat drawings of a car's back, front and side, in metres, for the demo's box-shaped cars.

A car is three planes that share their edges: the back or front (upright), the lower side
(upright), and the side windows (leaning in). Each is an SVG; ``scenes`` warps them into place.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from platehide.cover.svg import RgbaArray, render_svg_text

PX_PER_M = 400.0
HALF_WIDTH = 0.9
BELT = 0.98
"""Height in m of the line below the windows."""
ROOF = 1.46
TUMBLEHOME = 0.2
"""How far, in m, the roof's edge lies further in than the belt line."""
LENGTH = 4.1

PlatePlace = Literal["tailgate", "bumper", "none"]


@dataclass(frozen=True)
class Car:
    """How one car looks.

    Attributes:
        paint: ``#rrggbb`` of the body.
        face: which end is seen.
        plate_place: where the plate hangs.
        plate_size_m: width and height of the plate, for its recess.
    """

    paint: str
    face: Literal["back", "front"]
    plate_place: PlatePlace
    plate_size_m: tuple[float, float]

    @property
    def plate_centre_m(self) -> tuple[float, float]:
        """Sideways place and height of the plate's centre on the face."""
        return (0.0, 0.74 if self.plate_place == "tailgate" else 0.44)


@dataclass(frozen=True)
class Panel:
    """A drawn plane: straight-alpha RGBA and its extent in m, x0, y0 (bottom), x1, y1 (top)."""

    rgba: RgbaArray
    extent_m: tuple[float, float, float, float]


def shade(colour: str, factor: float) -> str:
    """``#rrggbb`` made lighter (factor > 1, towards white) or darker (< 1)."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)
    rgb = rgb * factor if factor <= 1 else rgb + (255 - rgb) * (factor - 1)
    return "#{:02x}{:02x}{:02x}".format(*(int(v) for v in np.clip(rgb, 0, 255)))


def _panel(body: str, extent: tuple[float, float, float, float]) -> Panel:
    """Render ``body``, SVG in centimetres with y up turned down (−height)."""
    x0, y0, x1, y1 = extent
    size = round((x1 - x0) * PX_PER_M), round((y1 - y0) * PX_PER_M)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x0 * 100} {-y1 * 100}'
        f' {(x1 - x0) * 100} {(y1 - y0) * 100}" preserveAspectRatio="none"'
        f' width="{size[0]}" height="{size[1]}">{body}</svg>'
    )
    rgba = render_svg_text(svg, size, "demo car", fonts=False)
    rgba.setflags(write=False)
    return Panel(rgba, extent)


def _gradient(name: str, stops: list[tuple[float, str]], *, across: bool = False) -> str:
    inner = "".join(f'<stop offset="{o}" stop-color="{c}"/>' for o, c in stops)
    direction = 'x2="1" y2="0"' if across else 'x2="0" y2="1"'
    return f'<linearGradient id="{name}" {direction}>{inner}</linearGradient>'


def _defs(paint: str) -> str:
    return (
        "<defs>"
        + _gradient(
            "paint",
            [
                (0, shade(paint, 1.35)),
                (0.25, shade(paint, 1.08)),
                (0.5, paint),
                (0.75, shade(paint, 0.8)),
                (1, shade(paint, 0.5)),
            ],
        )
        + _gradient("glass", [(0, "#5d6d7a"), (0.45, "#2c353d"), (0.5, "#1b2126"), (1, "#11161a")])
        + _gradient("tail", [(0, "#d8352f"), (0.5, "#8e1414"), (1, "#5d0b0b")])
        + _gradient("lamp", [(0, "#f4f6f7"), (0.5, "#aab4bb"), (1, "#dfe5e8")])
        + _gradient("chrome", [(0, "#eef1f3"), (0.5, "#8d969d"), (1, "#cdd3d8")])
        + '<filter id="soft" x="-50%" y="-50%" width="200%" height="200%">'
        '<feGaussianBlur stdDeviation="2"/></filter>'
        "</defs>"
    )


def _recess(car: Car) -> str:
    """The hollow the plate sits in, with its lamps."""
    if car.plate_place == "none":
        return ""
    x, y = car.plate_centre_m[0] * 100, -car.plate_centre_m[1] * 100
    w, h = car.plate_size_m[0] * 100 + 13, car.plate_size_m[1] * 100 + 9
    dark, mid = shade(car.paint, 0.32), shade(car.paint, 0.55)
    lamps = "".join(
        f'<rect x="{x + dx - 3}" y="{y - h / 2 - 0.6}" width="6" height="1.6" rx=".6"'
        ' fill="#d9dcdf"/>'
        for dx in (-14, 14)
    )
    return (
        f'<rect x="{x - w / 2 - 1}" y="{y - h / 2 - 1}" width="{w + 2}" height="{h + 2}" rx="5"'
        f' fill="{dark}" filter="url(#soft)" opacity=".8"/>'
        f'<rect x="{x - w / 2}" y="{y - h / 2}" width="{w}" height="{h}" rx="4" fill="{mid}"/>'
        f'<path fill="{dark}"'
        f' d="M{x - w / 2 + 2} {y - h / 2 + 1}h{w - 4}v3h{4 - w}Z"/>'
        + lamps
        + f'<rect x="{x - car.plate_size_m[0] * 50 - 0.6}" y="{y - car.plate_size_m[1] * 50 + 0.4}"'
        f' width="{car.plate_size_m[0] * 100 + 1.8}" height="{car.plate_size_m[1] * 100 + 1.4}"'
        ' fill="#000" opacity=".45" filter="url(#soft)"/>'
    )


@functools.lru_cache(maxsize=16)
def draw_face(car: Car) -> Panel:
    """The back or front of the car, x −1…1 m."""
    p = car.paint
    seam = shade(p, 0.4)
    body = _defs(p)
    body += (
        '<rect x="-84" y="-40" width="24" height="40" rx="4" fill="#17181a"/>'
        '<rect x="60" y="-40" width="24" height="40" rx="4" fill="#17181a"/>'
        '<rect x="-62" y="-30" width="124" height="8" fill="#101112"/>'
        # body with greenhouse
        '<path fill="url(#paint)" d="M-86 -24Q-90 -28 -90 -50V-98L-72 -141Q-70 -146 -64 -146H64'
        'Q70 -146 72 -141L90 -98V-50Q90 -28 86 -24Z"/>'
        '<path fill="url(#glass)" d="M-74 -99 -60 -133Q-58 -137 -52 -137H52Q58 -137 60 -133L74 -99'
        'Q60 -102 0 -102T-74 -99Z"/>'
        '<path fill="#fff" opacity=".13" d="M-56 -134H-20L-44 -101H-72Z"/>'
        f'<path fill="none" stroke="{seam}" stroke-width=".8" d="M-80 -97Q0 -92 80 -97"/>'
    )
    if car.face == "back":
        body += (
            '<path fill="url(#tail)" d="M-88 -96Q-66 -95 -58 -91L-62 -72Q-72 -68 -88 -68Z"/>'
            '<path fill="url(#tail)" d="M88 -96Q66 -95 58 -91L62 -72Q72 -68 88 -68Z"/>'
            '<path fill="#ffb9a8" opacity=".8" d="M-86 -88H-66L-67 -83H-86ZM86 -88H66L67 -83H86Z"/>'
            f'<path fill="none" stroke="{seam}" stroke-width=".8" d="M-63 -70V-56H63V-70"/>'
            '<circle cx="0" cy="-91" r="3.4" fill="url(#chrome)"/>'
            '<path d="M-58 -134Q0 -139 58 -134" stroke="#222" stroke-width="1.2" fill="none"/>'
        )
        if car.plate_place == "tailgate":
            top = -car.plate_centre_m[1] * 100 - car.plate_size_m[1] * 50 - 8
            body += (
                f'<rect x="-30" y="{top - 2.6}" width="60" height="3" rx="1.4"'
                ' fill="url(#chrome)"/>'
            )
    else:
        body += (
            '<path fill="url(#lamp)" d="M-88 -86Q-70 -88 -52 -78L-58 -68Q-72 -66 -87 -72Z"/>'
            '<path fill="url(#lamp)" d="M88 -86Q70 -88 52 -78L58 -68Q72 -66 87 -72Z"/>'
            '<path fill="#161819" d="M-46 -80H46L40 -58H-40Z"/>'
            '<path stroke="#5b6166" stroke-width="1.1" d="M-44 -74H44M-43 -69H43M-41 -64H41"/>'
            '<circle cx="0" cy="-70" r="4.6" fill="url(#chrome)"/>'
            '<path fill="none" stroke="#ddd" opacity=".5" d="M-88 -95Q0 -88 88 -95"/>'
        )
    bumper = shade(p, 0.9)
    body += (
        f'<path fill="{bumper}" d="M-90 -55Q0 -59 90 -55V-44Q90 -28 84 -24H-84Q-90 -28 -90 -44Z"/>'
        f'<path fill="#fff" opacity=".16" d="M-89 -55Q0 -59 89 -55V-52Q0 -56 -89 -52Z"/>'
        f'<path fill="{shade(p, 0.3)}" d="M-70 -31H70L64 -24H-64Z"/>'
    )
    if car.face == "back":
        body += (
            '<rect x="-78" y="-45" width="14" height="4" rx="1" fill="#9c1b1b"/>'
            '<rect x="64" y="-45" width="14" height="4" rx="1" fill="#9c1b1b"/>'
        )
    else:
        body += (
            '<rect x="-76" y="-44" width="16" height="8" rx="3" fill="#1b1d1f"/>'
            '<rect x="60" y="-44" width="16" height="8" rx="3" fill="#1b1d1f"/>'
            '<circle cx="-68" cy="-40" r="3" fill="#e9eef0"/><circle cx="68" cy="-40" r="3"'
            ' fill="#e9eef0"/>'
        )
    body += _recess(car)
    return _panel(body, (-1.0, 0.0, 1.0, 1.6))


@functools.lru_cache(maxsize=16)
def draw_lower_side(car: Car) -> Panel:
    """The side below the windows; x runs from the seen end (0) to the far end (``LENGTH``)."""
    p = shade(car.paint, 0.82)
    length = LENGTH * 100
    body = _defs(p)
    body += (
        f'<path fill="url(#paint)" d="M0 -24V-98H{length - 90}Q{length - 20} -92 {length} -70V-30'
        f'L{length - 6} -24Z"/>'
    )
    for x in (78, length - 82):
        body += (
            f'<circle cx="{x}" cy="-34" r="38" fill="#0c0d0e"/>'
            f'<circle cx="{x}" cy="-32" r="32" fill="#1b1c1e"/>'
            f'<circle cx="{x}" cy="-32" r="21" fill="#9aa1a7"/>'
            f'<circle cx="{x}" cy="-32" r="17" fill="#3a3e42"/>'
        )
        for k in range(5):
            a = 2 * np.pi * k / 5
            body += (
                f'<path stroke="#b5bbc0" stroke-width="4.5" d="M{x} -32'
                f'L{x + 19 * np.sin(a):.1f} {-32 - 19 * np.cos(a):.1f}"/>'
            )
        body += f'<circle cx="{x}" cy="-32" r="4" fill="#d8dcdf"/>'
    seam = shade(p, 0.45)
    body += (
        f'<path fill="none" stroke="{seam}" stroke-width="1" d="M128 -98V-40Q128 -30 140 -30H290'
        f'V-96M205 -98V-30"/>'
        f'<path fill="none" stroke="#fff" opacity=".25" stroke-width="2" d="M4 -80H{length - 60}"/>'
        '<rect x="186" y="-84" width="14" height="3" rx="1.5" fill="#cfd5d9"/>'
        '<rect x="268" y="-84" width="14" height="3" rx="1.5" fill="#cfd5d9"/>'
    )
    if car.face == "back":
        body += '<path fill="url(#tail)" d="M0 -96H16L12 -70H0Z"/>'
    else:
        body += '<path fill="url(#lamp)" d="M0 -86H22L14 -72H0Z"/>'
    return _panel(body, (0.0, 0.0, LENGTH, BELT))


@functools.lru_cache(maxsize=16)
def draw_upper_side(car: Car) -> Panel:
    """The side windows and roof pillars, from the belt line to the roof."""
    p = shade(car.paint, 0.9)
    body = _defs(p)
    end = LENGTH * 100 - 110
    body += (
        f'<path fill="url(#paint)" d="M0 -98V-144Q0 -146 4 -146H{end - 70}Q{end - 55} -146'
        f' {end} -98Z"/>'
        f'<path fill="url(#glass)" d="M20 -101 34 -139H108V-101ZM114 -101V-139H190V-101ZM196 -101'
        f'V-139H{end - 76}L{end - 22} -101Z"/>'
    )
    return _panel(body, (0.0, BELT, LENGTH, ROOF))
