"""A self-hosted captcha in two forms, picture and sound, so that nobody is shut out.

Picture: five distorted characters without look-alikes. Sound: three groups of beeps to count,
answered with three digits (216 possibilities). Either is enough, both work with the keyboard.
"""

from __future__ import annotations

import io
import math
import secrets
import wave
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ACDEFHJKLMNPRTUVWXY34679"
LIFETIME_SECONDS = 300.0
_WIDTH, _HEIGHT = 260, 90
_RATE = 16_000


@dataclass(frozen=True)
class Riddle:
    """What to answer: characters for the picture, three digits (1…6) for the sound."""

    picture: str
    sound: str


def new_riddle() -> Riddle:
    """A fresh riddle from the system's random source."""
    text = "".join(secrets.choice(LETTERS) for _ in range(5))
    return Riddle(text, "".join(secrets.choice("123456") for _ in range(3)))


def is_right(riddle: Riddle, answer: str) -> bool:
    """Whether an answer solves either form."""
    given = "".join(answer.split()).upper().encode()
    return any(
        secrets.compare_digest(given, wanted.encode()) for wanted in (riddle.picture, riddle.sound)
    )


def draw_picture(riddle: Riddle) -> bytes:
    """PNG 260×90 of the characters: turned, waved, crossed by lines."""
    rng = np.random.default_rng()
    font = ImageFont.load_default(46)
    canvas = Image.new("L", (_WIDTH, _HEIGHT), 255)
    for index, letter in enumerate(riddle.picture):
        tile = Image.new("L", (64, 72), 0)
        ImageDraw.Draw(tile).text((14, 6), letter, fill=255, font=font)
        tile = tile.rotate(float(rng.uniform(-24, 24)), resample=Image.Resampling.BICUBIC)
        x = 10 + index * 46 + int(rng.integers(-3, 4))
        canvas.paste(20, (x, 8 + int(rng.integers(-5, 6))), tile)
    draw = ImageDraw.Draw(canvas)
    for _ in range(3):
        ends = [(0, int(rng.integers(10, 80))), (_WIDTH, int(rng.integers(10, 80)))]
        draw.line(ends, fill=60, width=2)
    pixels = np.asarray(canvas)
    phase = float(rng.uniform(0, 2 * math.pi))
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    shifted = np.clip(rows + 4 * np.sin(columns / 22 + phase), 0, _HEIGHT - 1).astype(int)
    pixels = pixels[shifted, columns]
    noise = rng.normal(0, 18, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def play_sound(riddle: Riddle) -> bytes:
    """WAV, mono 16 kHz: three groups of short beeps of changing pitch, a pause between groups."""
    rng = np.random.default_rng()
    parts = [np.zeros(_RATE // 4)]
    for group in riddle.sound:
        for _ in range(int(group)):
            t = np.arange(int(float(rng.uniform(0.12, 0.2)) * _RATE)) / _RATE
            pitch = float(rng.uniform(420, 880))
            envelope = np.minimum(1, np.minimum(t, t[::-1]) / 0.02)
            parts.append(0.5 * envelope * np.sin(2 * math.pi * pitch * t))
            parts.append(np.zeros(int(float(rng.uniform(0.16, 0.24)) * _RATE)))
        parts.append(np.zeros(int(1.1 * _RATE)))
    samples = np.concatenate(parts)
    samples = samples + rng.normal(0, 0.01, len(samples))
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()
