"""The command line. Each command is one module here, imported only when it is used, with
``add_arguments(parser)`` and ``run(args) -> int`` (the exit code).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from platehide import __version__
from platehide.errors import PlateHideError, UsageError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module, extra that it needs or "", help)
    "hide": ("platehide.cli.hide", "", "hide the plates on photos"),
    "detect": ("platehide.cli.detect", "", "find plates without painting"),
    "serve": ("platehide.cli.serve", "serve", "run the HTTP service and its web page"),
    "batch": ("platehide.cli.batch", "", "hide the plates of a whole archive, resumable"),
    "annotate": ("platehide.cli.annotate", "annotate", "run the crowd annotation system"),
    "aggregate": ("platehide.cli.aggregate", "", "turn crowd judgements into labels"),
    "train": ("platehide.cli.train", "train", "train a network from a config"),
    "export": ("platehide.cli.export", "train", "turn a checkpoint into versioned weights"),
    "evaluate": ("platehide.cli.evaluate", "", "measure a model on annotated photos"),
    "compare": ("platehide.cli.compare", "", "one table and plot over several evaluations"),
    "gate": ("platehide.cli.gate", "", "refuse weights that are bad or half-measured"),
    "benchmark": ("platehide.cli.benchmark", "", "time the stages on one thread"),
    "experiment": ("platehide.cli.experiment", "experiment", "plan, assign, analyze A/B tests"),
}


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only ``command``'s own module is imported, the others show their help line."""
    parser = argparse.ArgumentParser(
        prog="platehide",
        description="Find licence plates on photos of cars and hide each under a fitting cover.",
    )
    parser.add_argument("--version", action="version", version=f"platehide {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, _, text) in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == command:
            loaded = importlib.import_module(module)
            loaded.add_arguments(sub)
            sub.set_defaults(command_run=loaded.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``platehide``; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if not a.startswith("-")), None)
    command = command if command in COMMANDS else None
    try:
        args = build_parser(command).parse_args(arguments)
        code: int = args.command_run(args)
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        extra = COMMANDS[command][1] if command else ""
        missing = (error.name or "").split(".")[0]
        if missing == "platehide" or not extra:
            raise
        print(
            f"platehide {command}: {missing} is not installed; pip install 'platehide[{extra}]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
    except UsageError as error:
        print(f"platehide {command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except PlateHideError as error:
        print(f"platehide {command}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader (`head`) has seen enough. Python would complain again when it ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"platehide {command}: standard output was closed", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"platehide {command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
