"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from platehide.cover import CoverOptions
from platehide.image_io import DEFAULT_MAX_PIXELS, WriteOptions
from platehide.jobs import HideSettings


def confidence(text: str) -> float:
    """A number above 0 and up to 1."""
    value = _number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: a confidence lies above 0 and is at most 1")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: expected a share from 0 to 1")
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = _number(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}: expected a number")
    return value


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--conf``, ``--max-pixels``."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="weights: NAME, NAME@VERSION or a folder (default: weights/CURRENT)",
    )
    parser.add_argument(
        "--conf",
        type=confidence,
        metavar="FLOAT",
        help="confidence from which a plate is covered (default: the weights' own)",
    )
    parser.add_argument(
        "--max-pixels",
        type=count,
        default=DEFAULT_MAX_PIXELS,
        metavar="N",
        help="refuse photos that declare more pixels (default: %(default)s)",
    )


def add_cover_options(parser: argparse.ArgumentParser) -> None:
    """The cover and what is kept of the metadata."""
    parser.add_argument(
        "--cover", metavar="FILE", help="a PNG or SVG to put on plates (default: our own design)"
    )
    parser.add_argument(
        "--style",
        choices=("logo", "solid", "blur"),
        default="logo",
        help="the design, a plain plate, or a blur, which is NOT safe (default: %(default)s)",
    )
    parser.add_argument("--text", metavar="TEXT", help="a line on the cover")
    parser.add_argument(
        "--variant",
        choices=("light", "dark"),
        default="light",
        help="of our design and of the plain plate (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-metadata",
        choices=("none", "safe", "location"),
        default="none",
        help="none; safe: date and camera; location: GPS too. Colour profile and orientation "
        "always stay, embedded pictures never (default: %(default)s)",
    )
    parser.add_argument(
        "--verify",
        choices=("full", "fast", "off"),
        default="fast",
        help="proof on the finished photo: search all of it again, or crops round the covers; "
        "off is for measurements (default: %(default)s)",
    )
    parser.add_argument(
        "--audit", action="store_true", help="add an audit record (hashes, mode) to every row"
    )
    parser.add_argument(
        "--thumbnail", action="store_true", help="embed a thumbnail made from the covered photo"
    )


def hide_settings(args: argparse.Namespace) -> HideSettings:
    """What the options of ``hide`` and ``batch`` ask for.

    Raises:
        UsageError: cover options that do not go together.
    """
    return HideSettings(
        model=args.model,
        conf=args.conf,
        cover=None if args.cover is None else str(Path(args.cover)),
        cover_options=CoverOptions(style=args.style, text=args.text, variant=args.variant),
        write_options=WriteOptions(keep_metadata=args.keep_metadata, thumbnail=args.thumbnail),
        max_pixels=args.max_pixels,
        verify=args.verify,
        audit=args.audit,
    )
