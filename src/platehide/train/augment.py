"""Augmentations that move pixels and labels together. NumPy in, NumPy out, seeded generators."""

from __future__ import annotations

import cv2
import numpy as np

from platehide.preprocess import PAD_VALUE
from platehide.types import FloatArray, ImageArray


def rotation(angle_rad: float) -> FloatArray:
    """Homography ``(3, 3)`` of a rotation about the origin."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def shift(x: float, y: float) -> FloatArray:
    """Homography ``(3, 3)`` of a translation."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def random_view(
    rng: np.random.Generator, centre: FloatArray, size_px: float, strength: float
) -> FloatArray:
    """A random change of viewpoint about ``centre``: rotation, shear, stretch, perspective.

    Args:
        size_px: extent over which the perspective terms act.
        strength: 1.0 = rotation σ 11°, shear σ 0.14, perspective σ 0.15 over ``size_px``.
    """
    perspective = rng.normal(0.0, 0.15 * strength, 2) / size_px
    warp = np.array(
        [
            [1.0, rng.normal(0.0, 0.14 * strength), 0.0],
            [rng.normal(0.0, 0.14 * strength), np.exp(rng.normal(0.0, 0.12 * strength)), 0.0],
            [perspective[0], perspective[1], 1.0],
        ]
    )
    turn = rotation(np.radians(rng.normal(0.0, 11.0 * strength)))
    x, y = float(centre[0]), float(centre[1])
    return np.asarray(shift(x, y) @ turn @ warp @ shift(-x, -y))


def tilted_rectangle(
    rng: np.random.Generator, centre: FloatArray, size_wh: tuple[float, float], strength: float
) -> FloatArray:
    """Corners ``(4, 2)`` of a rectangle of ``size_wh`` px about ``centre``, from a random view."""
    half = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * size_wh
    view = random_view(rng, np.zeros(2), size_wh[0], strength)
    return np.asarray(cv2.perspectiveTransform(half[None], view)[0] + centre)


def upright_stretch(rng: np.random.Generator, centre: FloatArray) -> FloatArray:
    """A random stretch of x against y (σ 12 % each way) about ``centre`` ``(2,)``: the only change
    of shape after which a plate's upright box is still its box."""
    ratio = float(np.exp(rng.normal(0.0, 0.12)))
    x, y = float(centre[0]), float(centre[1])
    return np.asarray(shift(x, y) @ np.diag([ratio, 1.0 / ratio, 1.0]) @ shift(-x, -y))


def mirror(width: float) -> FloatArray:
    """Homography ``(3, 3)`` of a horizontal flip of a picture ``width`` px wide."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def warp_image(image: ImageArray, matrix: FloatArray, size_wh: tuple[int, int]) -> ImageArray:
    """Perspective warp, bilinear, grey outside."""
    out = cv2.warpPerspective(
        image,
        matrix,
        size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE,) * 3,
    )
    return np.asarray(out, dtype=np.uint8)


def photometric(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Light, colour, night, blur, noise and JPEG; never moves a pixel."""
    x = image.astype(np.float32)
    if rng.random() < 0.75:
        x = x * rng.uniform(0.5, 1.4) + rng.uniform(-30.0, 30.0)
    if rng.random() < 0.12:  # night: dark, gamma, sensor noise
        x = 255.0 * np.power(np.clip(x, 0, 255) / 255.0, rng.uniform(1.5, 2.6))
        x = x + rng.normal(0.0, rng.uniform(3.0, 12.0), x.shape).astype(np.float32)
    if rng.random() < 0.3:
        grey = x.mean(axis=-1, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0.0, 1.5))
    if rng.random() < 0.2:
        x = x * rng.uniform(0.8, 1.2, (1, 1, 3)).astype(np.float32)
    if rng.random() < 0.15:  # a shadow edge or a lamp: a lighting ramp across the picture
        h, w = x.shape[:2]
        direction = rng.normal(0.0, 1.0, 2)
        ramp = (
            direction[0] * np.linspace(-1, 1, w)[None, :]
            + direction[1] * np.linspace(-1, 1, h)[:, None]
        )
        x = x * np.exp(0.5 * np.tanh(ramp * rng.uniform(0.5, 4.0))).astype(np.float32)[..., None]
    if rng.random() < 0.25:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.5)), np.float32)
    if rng.random() < 0.08:  # motion
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        for t in np.linspace(-0.5, 0.5, 4 * length):
            cx = (length - 1) * (0.5 + t * np.cos(angle))
            cy = (length - 1) * (0.5 + t * np.sin(angle))
            kernel[round(cy), round(cx)] = 1.0
        x = np.asarray(cv2.filter2D(x, -1, kernel / kernel.sum()), np.float32)
    if rng.random() < 0.25:
        x = x + rng.normal(0.0, rng.uniform(2.0, 12.0), x.shape).astype(np.float32)
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        ok, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 92))])
        if ok:
            out = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), dtype=np.uint8)
    return out
