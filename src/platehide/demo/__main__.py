"""``python -m platehide.demo OUT_DIR``; also ``… gallery`` and ``… pictures``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from platehide.errors import PlateHideError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 all covered, 1 a sample failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["gallery"]:
            return _gallery(arguments[1:])
        if arguments[:1] == ["pictures"]:
            return _pictures(arguments[1:])
        return _demo(arguments)
    except UsageError as error:
        print(f"platehide demo: {error}", file=sys.stderr)
        return 2
    except PlateHideError as error:
        print(f"platehide demo: {error}", file=sys.stderr)
        return 1


def _demo(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m platehide.demo",
        description="Render sample photos, hide their plates, compare with the known corners.",
        epilog="`gallery PHOTO_DIR OUT.html` shows covers on annotated photos; `pictures FOLDER` "
        "renders the pictures of docs/cover.md.",
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    parser.add_argument("--model", help="name, name@version or folder of the weights")
    args = parser.parse_args(arguments)
    if args.out_dir.exists() and not args.out_dir.is_dir():
        raise UsageError(f"{args.out_dir} is not a folder")
    from platehide.demo.run import run_demo
    from platehide.pipeline import PlateHider

    return run_demo(args.out_dir, PlateHider(model=args.model))


def _pictures(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m platehide.demo pictures",
        description="Render the pictures of docs/cover.md from the samples.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    args = parser.parse_args(arguments)
    from platehide.demo.pictures import write_pictures

    for path in write_pictures(args.folder):
        print(path)
    return 0


def _gallery(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m platehide.demo gallery",
        description=(
            "Put covers on the known corners of annotated photos and write a page of before and "
            "after crops to look at. The page shows real plates: keep it to yourself."
        ),
    )
    parser.add_argument(
        "photos", type=Path, metavar="PHOTO_DIR", help="sets with annotations.jsonl"
    )
    parser.add_argument("page", type=Path, metavar="OUT.html")
    parser.add_argument("--count", type=int, default=30, help="photos (default 30)")
    parser.add_argument("--split", default="train", help="split to take them from (train)")
    parser.add_argument("--sets", nargs="*", help="only these sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=("logo", "solid", "blur"), default="logo")
    parser.add_argument("--variant", choices=("light", "dark"), default="light")
    parser.add_argument("--text")
    parser.add_argument("--cover", type=Path, help="a PNG or SVG instead of our design")
    args = parser.parse_args(arguments)
    if args.count < 1:
        raise UsageError("--count is at least 1")
    from platehide.cover import CoverOptions, load_cover
    from platehide.demo.gallery import write_gallery

    written = write_gallery(
        args.photos,
        args.page,
        load_cover(args.cover),
        CoverOptions(style=args.style, variant=args.variant, text=args.text),
        count=args.count,
        split=args.split,
        sets=args.sets,
        seed=args.seed,
    )
    print(f"{written} plates: {args.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
