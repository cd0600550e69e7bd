"""Make sure that the current weights are here and whole: ``python -m platehide.train.fetch``.

They lie in git. A file that is missing, a Git LFS pointer, or not what the spec says is fetched
from ``PLATEHIDE_WEIGHTS_URL/NAME/VERSION/FILE`` (a mirror of the folder ``weights``); what comes
must have the spec's sha256, and the spec itself is never fetched: it is what is trusted.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from platehide.errors import PlateHideError, UsageError, WeightsError
from platehide.files import write_whole
from platehide.model_spec import read_spec
from platehide.weights import Weights, resolve

URL_SETTING = "PLATEHIDE_WEIGHTS_URL"
LARGEST_FILE = 25_000_000
TIMEOUT_S = 60.0


def download(url: str) -> bytes:
    """Bytes of an http(s) address, at most 25 MB.

    Raises:
        WeightsError: it cannot be read or is larger.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(LARGEST_FILE + 1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise WeightsError(f"{url}: {error}") from error
    if len(data) > LARGEST_FILE:
        raise WeightsError(f"{url}: larger than {LARGEST_FILE / 1e6:.0f} MB")
    return data


def complete(folder: Path, base_url: str | None) -> list[str]:
    """Fetch the files of a folder that are not what its spec says; returns their names.

    Raises:
        UsageError: something is wrong and there is no address to fetch from, or not an http one.
        WeightsError: the spec cannot be read, or what was fetched is not what it says.
    """
    spec = read_spec(folder / "spec.json")
    weights = Weights(folder, spec)
    fetched = []
    for file, wanted in spec.sha256.items():
        try:
            weights.read(file)
            continue
        except WeightsError as error:
            if not base_url:
                raise UsageError(
                    f"{error}; set {URL_SETTING} to a mirror of the folder weights, or check out"
                    " the file again"
                ) from error
        if urllib.parse.urlsplit(base_url).scheme not in ("http", "https"):
            raise UsageError(f"{URL_SETTING} {base_url!r}: expected http:// or https://")
        url = f"{base_url.rstrip('/')}/{spec.name}/{spec.version}/{file}"
        data = download(url)
        if hashlib.sha256(data).hexdigest() != wanted:
            raise WeightsError(f"{url}: not the file that the spec names (sha256 differs)")
        write_whole(folder / file, data)
        fetched.append(file)
    return fetched


def main() -> int:
    """Command line; returns the exit code."""
    try:
        folder = resolve(None)
        fetched = complete(folder, os.environ.get(URL_SETTING))
    except PlateHideError as error:
        print(f"platehide weights: {error}", file=sys.stderr)
        return 1
    spec = read_spec(folder / "spec.json")
    how = f"fetched {', '.join(fetched)}" if fetched else "whole"
    print(f"{spec.model} in {folder}: {how}, {len(spec.sha256)} files have the spec's sha256")
    return 0


if __name__ == "__main__":
    sys.exit(main())
