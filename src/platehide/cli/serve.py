"""``platehide serve``."""

from __future__ import annotations

import argparse

from platehide.serve import auth, settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each setting of the service."""
    parser.epilog = (
        "Each setting is also an environment variable PLATEHIDE_..., shown in brackets; an option"
        " wins.\nRoutes, metrics and operation: docs/service.md; a running service shows its API"
        " at /docs."
    )
    parser.add_argument(
        "--new-api-key",
        metavar="NAME",
        help="print a new API key (once) and its line for the file of --api-keys, then exit",
    )
    settings.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the service until a signal; return the exit code."""
    if args.new_api_key is not None:
        key, line = auth.new_key(args.new_api_key)
        print(f"key (keep it, it is shown only now): {key}\nline for --api-keys FILE: {line}")
        return 0
    chosen = settings.from_arguments(vars(args))
    from platehide.serve.models import InstalledWeights
    from platehide.serve.supervisor import serve

    return serve(chosen, InstalledWeights())
