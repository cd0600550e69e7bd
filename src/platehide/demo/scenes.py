"""Car-like sample photos whose plate corners are known exactly. Deterministic, no third party.

A pinhole camera looks at box-shaped cars on a street; every plate is a plane in space, so its
corners in the picture are the projections of its four corners. Light, blur, grain and JPEG come
after, as in a camera.
"""

from __future__ import annotations

import functools
import io
import zlib
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from platehide.demo import cars
from platehide.demo.cars import Car, Panel, PlatePlace
from platehide.demo.plates import PlateStyle, draw_plate
from platehide.types import FloatArray, ImageArray, as_quad

Light = Literal["sun", "shade", "evening", "night"]
_SUPER = 2  # supersampling of the rendering

_GROUND_TONE = {"sun": 0.34, "shade": 0.24, "evening": 0.25, "night": 0.16}
_SKY = {
    "sun": ("#6d9fd6", "#d5e4f0"),
    "shade": ("#9fabb5", "#ccd3d8"),
    "evening": ("#5d6a9a", "#f2b27a"),
    "night": ("#05070c", "#1a1d26"),
}


@dataclass(frozen=True)
class CarPose:
    """One car in a scene.

    Attributes:
        plate: style and text of its plate.
        face: which end looks towards the camera.
        at_m: x (right) and z (away) of that end's centre on the ground.
        yaw_deg: turn about the vertical; at 0 the end faces the camera squarely.
    """

    paint: str
    plate: tuple[PlateStyle, str] | None
    at_m: tuple[float, float]
    yaw_deg: float = 0.0
    face: Literal["back", "front"] = "back"
    place: PlatePlace = "tailgate"


@dataclass(frozen=True)
class SceneSpec:
    """A sample photo to render.

    Attributes:
        size_wh: displayed size in px.
        camera_m: height of the camera.
        pitch_deg, roll_deg: camera looks down by, is turned by.
        focal: focal length in picture widths.
        blur_px, grain: of the camera, σ in px and code values.
        orientation: EXIF orientation (1…8) that the file is stored with.
    """

    name: str
    light: Light
    cars: tuple[CarPose, ...]
    size_wh: tuple[int, int] = (1280, 960)
    camera_m: float = 1.35
    pitch_deg: float = 6.0
    roll_deg: float = 0.0
    focal: float = 1.1
    blur_px: float = 0.6
    grain: float = 1.5
    orientation: int = 1
    quality: int = 91


@dataclass(frozen=True)
class Sample:
    """A rendered photo.

    Attributes:
        jpeg: the file's bytes.
        quads: corners ``(4, 2)`` in px of the displayed photo, TL, TR, BR, BL.
    """

    name: str
    jpeg: bytes
    quads: tuple[FloatArray, ...]


SCENES: tuple[SceneSpec, ...] = (
    SceneSpec("eu-sun", "sun", (CarPose("#8e979f", ("eu", "DEMO 123"), (0.05, 3.4), 6),)),
    SceneSpec(
        "eu-oblique", "sun", (CarPose("#a3201f", ("eu", "FAKE 2024"), (-0.75, 3.6), -38),),
        pitch_deg=7, focal=1.0,
    ),
    SceneSpec(
        "us-shade", "shade",
        (CarPose("#2f4a3b", ("us", "DEM0 42"), (0.1, 3.2), -14, place="bumper"),),
        camera_m=1.5, pitch_deg=10, grain=2.2,
    ),
    SceneSpec(
        "yellow-evening", "evening",
        (CarPose("#2b4f8e", ("yellow", "PH01 DEM0"), (0.2, 3.0), 20),),
        pitch_deg=8, grain=2.5, blur_px=0.8,
    ),
    SceneSpec(
        "two-row", "sun", (CarPose("#d8d6cf", ("two-row", "PH 10/DEM0"), (-0.1, 2.9), -22),),
        camera_m=1.6, pitch_deg=13,
    ),
    SceneSpec(
        "black-night", "night", (CarPose("#6e737a", ("black", "TEST 789"), (0.0, 3.3), 12),),
        grain=5.5, blur_px=0.9, pitch_deg=7,
    ),
    SceneSpec(
        "tilted-portrait", "shade",
        (CarPose("#b9bec4", ("eu", "N0 0NE 77"), (0.0, 4.4), 17, "front", "bumper"),),
        size_wh=(960, 1280), roll_deg=9, pitch_deg=9, focal=1.35, orientation=6,
    ),
    SceneSpec(
        "car-park", "sun",
        (
            CarPose("#20252b", ("eu", "PARK 03"), (2.55, 6.4), -14),
            CarPose("#e4e5e3", ("eu", "PARK 02"), (0.1, 5.6), -12, "front", "bumper"),
            CarPose("#7a1f2b", ("eu", "PARK 01"), (-2.0, 4.7), -10),
        ),
        pitch_deg=7, focal=0.95,
    ),
    SceneSpec("no-plate", "shade", (CarPose("#35608c", None, (1.9, 4.6), -70, place="none"),),
              pitch_deg=8),
)  # fmt: skip
"""The samples of ``make demo``."""


@dataclass(frozen=True)
class _Camera:
    focal_px: float
    centre: tuple[float, float]
    position: FloatArray
    rotation: FloatArray  # world → camera (x right, y down, z ahead)

    def project(self, points: FloatArray) -> FloatArray:
        """Pixels ``(n, 2)`` of world points ``(n, 3)`` (x right, y up, z ahead)."""
        p = (points - self.position) @ self.rotation.T
        return np.asarray(p[:, :2] / p[:, 2:3] * self.focal_px + np.array(self.centre))


def _camera(spec: SceneSpec) -> _Camera:
    w, h = spec.size_wh
    pitch, roll = np.radians(spec.pitch_deg), np.radians(spec.roll_deg)
    flip = np.diag([1.0, -1.0, 1.0])
    cp, sp, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1.0]])
    return _Camera(
        focal_px=spec.focal * max(w, h) * 0.9,
        centre=(w / 2, h / 2),
        position=np.array([0.0, spec.camera_m, 0.0]),
        rotation=turn @ tilt @ flip,
    )


def _placed(pose: CarPose, points: FloatArray) -> FloatArray:
    """Points in the car's own metres (x right, y up, z towards its far end) → world."""
    a = np.radians(pose.yaw_deg)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return np.asarray(points @ turn.T + np.array([pose.at_m[0], 0.0, pose.at_m[1]]))


def plate_corners(spec: SceneSpec) -> tuple[FloatArray, ...]:
    """True corners ``(4, 2)`` of every plate of the scene, px, TL, TR, BR, BL."""
    camera = _camera(spec)
    return tuple(
        as_quad(camera.project(_placed(pose, _plate_points(pose))))
        for pose in spec.cars
        if pose.plate
    )


def _plate_points(pose: CarPose) -> FloatArray:
    assert pose.plate is not None
    car = _car(pose)
    (x, y), (w, h) = car.plate_centre_m, car.plate_size_m
    z = -0.015  # the plate stands a little off the body
    return np.array(
        [
            [x - w / 2, y + h / 2, z],
            [x + w / 2, y + h / 2, z],
            [x + w / 2, y - h / 2, z],
            [x - w / 2, y - h / 2, z],
        ]
    )


def _car(pose: CarPose) -> Car:
    size = draw_plate(*pose.plate).size_m if pose.plate else (0.52, 0.11)
    return Car(pose.paint, pose.face, pose.place, size)


@functools.lru_cache(maxsize=16)
def render(spec: SceneSpec) -> Sample:
    """Render one sample photo (kept: the same spec gives the same bytes)."""
    seed = zlib.crc32(spec.name.encode())
    rng = np.random.default_rng(seed)
    camera = _camera(spec)
    canvas = _street(spec, camera, rng)
    for pose in sorted(spec.cars, key=lambda p: -p.at_m[1]):
        _contact_shadow(canvas, pose, camera)
        _draw_car(canvas, pose, camera)
    rgb = _develop(canvas, spec, camera, rng)
    return Sample(spec.name, _jpeg(rgb, spec), plate_corners(spec))


def _rgb(colour: str) -> FloatArray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def _street(spec: SceneSpec, camera: _Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sky, houses, hedge, asphalt with a kerb: out of focus behind, textured below."""
    w, h = spec.size_wh
    margin = max(w, h) // 4 if spec.roll_deg else 0  # room for the roll
    wide, high = w + 2 * margin, h + 2 * margin
    top, low = (_rgb(c) for c in _SKY[spec.light])
    far = np.array([[0.0, 0.0, 1e4]])
    level = _Camera(camera.focal_px, camera.centre, camera.position, _unrolled(spec))
    horizon = int(level.project(far)[0, 1]) + margin
    t = np.clip(np.arange(high) / max(horizon, 1), 0, 1)[:, None]
    picture = np.repeat((top * (1 - t) + low * t)[:, None, :], wide, axis=1)
    tone = {"sun": 1.0, "shade": 0.75, "evening": 0.6, "night": 0.16}[spec.light]
    x = 0
    while x < wide:
        span = int(rng.integers(wide // 12, wide // 6))
        rise = int(rng.integers(high // 10, high // 4))
        wall = np.array([170, 150, 130]) * rng.uniform(0.6, 1.15) * tone + rng.uniform(-12, 12, 3)
        y0 = max(0, horizon - rise)
        picture[y0:horizon, x : x + span] = wall
        step = max(12, span // 5)
        for wx in range(x + step // 3, min(x + span, wide) - step // 2, step):
            for wy in range(y0 + step // 3, horizon - step, step):
                lit = spec.light == "night" and rng.random() < 0.25
                glass = np.array([230, 190, 120]) if lit else wall * 0.45
                picture[wy : wy + step // 2, wx : wx + step // 2] = glass
        x += span
    hedge = max(4, high // 40)
    picture[horizon - hedge : horizon + hedge // 2] = np.array([62, 84, 48]) * tone
    picture[: horizon + hedge] = cv2.GaussianBlur(picture[: horizon + hedge], (0, 0), 4.0)
    rows = np.arange(horizon + hedge // 2, high)
    depth = np.clip((rows - horizon) / max(high - horizon, 1), 0, 1)
    ground = _GROUND_TONE[spec.light] * 255 * (1.1 - 0.35 * depth)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (len(rows), wide)), (0, 0), 0.8) * 1.6
    patches = cv2.resize(
        rng.normal(0, 1, (12, 18)), (wide, len(rows)), interpolation=cv2.INTER_CUBIC
    )
    grey = ground[:, None] + (texture * 6 * (0.3 + depth[:, None]) + patches * 5) * tone
    picture[rows[0] :] = grey[..., None] * np.array([1.0, 0.985, 0.96])
    kerb = rows[0] + max(2, len(rows) // 24)
    picture[rows[0] : kerb] = np.array([165, 162, 156]) * tone * 0.9
    out: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    if spec.roll_deg:
        # The background turns about the picture's centre by the camera's roll.
        matrix = cv2.getRotationMatrix2D((wide / 2, high / 2), -spec.roll_deg, 1.0)
        out = np.asarray(
            cv2.warpAffine(out, matrix, (wide, high), borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
    out = out[margin : margin + h, margin : margin + w]
    size = w * _SUPER, h * _SUPER
    return np.array(cv2.resize(out, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _unrolled(spec: SceneSpec) -> FloatArray:
    pitch = np.radians(spec.pitch_deg)
    cp, sp = np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.diag([1.0, -1.0, 1.0])


def _contact_shadow(canvas: NDArray[np.uint8], pose: CarPose, camera: _Camera) -> None:
    w, far = cars.HALF_WIDTH + 0.06, cars.LENGTH
    corners = np.array([[-w, 0, -0.12], [w, 0, -0.12], [w, 0, far], [-w, 0, far]], dtype=np.float64)
    pixels = camera.project(_placed(pose, corners)) * _SUPER
    mask = np.zeros(canvas.shape[:2], dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.round(pixels).astype(np.int32), 255)
    small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 2.25 * _SUPER)
    soft = cv2.resize(small, canvas.shape[1::-1]).astype(np.float32) / 255.0
    canvas[:] = (canvas * (np.float32(1.0) - np.float32(0.78) * soft[..., None])).astype(np.uint8)


def _draw_car(canvas: NDArray[np.uint8], pose: CarPose, camera: _Camera) -> None:
    car = _car(pose)
    # Which flank is seen: the one whose outward normal points to the camera.
    here = _placed(pose, np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    normal = here[1] - here[0]
    middle = _placed(pose, np.array([[0.0, 0.0, cars.LENGTH / 2]]))[0]
    right = float(normal @ (camera.position - middle)) > 0
    s = 1.0 if right else -1.0
    belt_x, roof_x = s * cars.HALF_WIDTH, s * (cars.HALF_WIDTH - cars.TUMBLEHOME)

    def side(panel: Panel, low_x: float, high_x: float) -> None:
        z0, y0, z1, y1 = panel.extent_m
        corners = [[high_x, y1, z0], [high_x, y1, z1], [low_x, y0, z1], [low_x, y0, z0]]
        _paste(canvas, panel.rgba, camera, pose, np.array(corners))

    side(cars.draw_upper_side(car), belt_x, roof_x)
    side(cars.draw_lower_side(car), belt_x, belt_x)
    face = cars.draw_face(car)
    x0, y0, x1, y1 = face.extent_m
    _paste(
        canvas, face.rgba, camera, pose,
        np.array([[x0, y1, 0.0], [x1, y1, 0.0], [x1, y0, 0.0], [x0, y0, 0.0]]),
    )  # fmt: skip
    if pose.plate:
        rgb = draw_plate(*pose.plate).rgb
        opaque = np.full((*rgb.shape[:2], 1), 255, dtype=np.uint8)
        _paste(canvas, np.concatenate([rgb, opaque], axis=2), camera, pose, _plate_points(pose))


def _paste(
    canvas: NDArray[np.uint8],
    rgba: NDArray[np.uint8],
    camera: _Camera,
    pose: CarPose,
    corners: FloatArray,
) -> None:
    """Warp a drawn plane (TL, TR, BR, BL in the car's metres) into the picture."""
    target = camera.project(_placed(pose, corners)) * _SUPER
    edge = np.hypot(*(np.roll(target, -1, axis=0) - target).T)
    h, w = rgba.shape[:2]
    # Shrink by area first, each side to what it will be, so that nothing aliases.
    fit = min(w, int(max(edge[0], edge[2])) + 1), min(h, int(max(edge[1], edge[3])) + 1)
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    pre = np.concatenate([rgba[..., :3] * alpha, alpha], axis=2).astype(np.float32)
    if fit != (w, h):
        pre = np.asarray(cv2.resize(pre, fit, interpolation=cv2.INTER_AREA), dtype=np.float32)
        w, h = fit
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], dtype=np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (target - 0.5).astype(np.float32))
    height, width = canvas.shape[:2]
    x0, y0 = np.maximum(np.floor(target.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(target.max(axis=0)).astype(int) + 3, [width, height])
    if x1 <= x0 or y1 <= y0:
        return
    shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]])
    layer = np.asarray(
        cv2.warpPerspective(pre, shift @ matrix, (int(x1 - x0), int(y1 - y0))), dtype=np.float32
    )
    part = canvas[y0:y1, x0:x1]
    part[:] = np.clip(part * (1.0 - layer[..., 3:]) + layer[..., :3], 0, 255).astype(np.uint8)


def _develop(
    canvas: NDArray[np.uint8], spec: SceneSpec, camera: _Camera, rng: np.random.Generator
) -> ImageArray:
    """Light, lens and sensor: supersampled drawing → photo."""
    w, h = spec.size_wh
    small = cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA)
    linear = (np.asarray(small, dtype=np.float32) / 255.0) ** 2.2
    x = (np.arange(w, dtype=np.float32) + 0.5)[None, :] / w - 0.5
    y = (np.arange(h, dtype=np.float32) + 0.5)[:, None] / h - 0.5
    colour = {
        "sun": (1.02, 1.0, 0.95),
        "shade": (0.92, 1.0, 1.1),
        "evening": (1.32, 0.98, 0.66),
        "night": (1.12, 1.0, 0.82),
    }[spec.light]
    level = {"sun": 1.15, "shade": 1.0, "evening": 0.85, "night": 0.05}[spec.light]
    field = level * (1.0 + 0.25 * x - 0.15 * y)
    if spec.light == "night":
        for quad in plate_corners(spec):  # plate lamps, and the flash
            cx, cy = quad.mean(axis=0)
            reach = 1.6 * float(np.ptp(quad[:, 0]))
            px, py = x * w + w / 2 - cx, y * h + h / 2 - cy
            field = field + 0.55 * np.exp(-(px**2 + (1.8 * py) ** 2) / (2 * reach**2))
    elif spec.light == "evening":
        field = field * (1.0 + 0.5 * np.clip(-x * 1.6, -0.6, 0.8))
    field = field * (1.0 - 0.5 * (x * x + y * y))  # vignetting
    linear *= np.maximum(field, 0.0)[..., None] * np.array(colour, dtype=np.float32)
    haze = cv2.resize(linear, (w // 8, h // 8), interpolation=cv2.INTER_AREA)
    haze = cv2.resize(cv2.GaussianBlur(haze, (0, 0), max(w, h) / 720), (w, h))
    linear = 0.97 * linear + 0.03 * np.asarray(haze, dtype=np.float32)
    linear = np.asarray(cv2.GaussianBlur(linear, (0, 0), spec.blur_px), dtype=np.float32)
    code = np.clip(linear, 0, 1) ** np.float32(1 / 2.2) * 255.0
    grain = rng.normal(0, spec.grain, code.shape).astype(np.float32)
    luma = cv2.GaussianBlur(rng.normal(0, spec.grain, (h, w)).astype(np.float32), (0, 0), 0.6)
    code += 0.5 * grain + 1.2 * np.asarray(luma)[..., None]
    return np.asarray(np.clip(np.rint(code), 0, 255), dtype=np.uint8)


_TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns the displayed picture into the stored one, by EXIF orientation."""


def _jpeg(rgb: ImageArray, spec: SceneSpec) -> bytes:
    image = Image.fromarray(rgb)
    turn = _TO_STORED[spec.orientation]
    if turn is not None:
        image = image.transpose(turn)
    exif = Image.Exif()
    if spec.orientation != 1:
        exif[0x0112] = spec.orientation
    out = io.BytesIO()
    image.save(out, "JPEG", quality=spec.quality, subsampling="4:2:0", exif=exif)
    return out.getvalue()
