"""Ways to a hider that break the world around it, for worker processes. Not a test module."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from fake_plates import make_fake
from platehide.batch import stores
from platehide.jobs import HideSettings
from platehide.pipeline import PlateHider


def make_fake_on_a_full_disk(settings: HideSettings) -> PlateHider:
    """The local store of this process takes a few files only, as a small disk does."""
    left = int(os.environ["TEST_DISK_FULL_AFTER"])
    write = stores.LocalStore.write

    def limited(self: stores.LocalStore, key: str, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, key, data)

    stores.LocalStore.write = limited  # type: ignore[method-assign]
    return make_fake(settings)


def make_fake_that_moves_the_source(settings: HideSettings) -> PlateHider:
    """The source goes away after the tenth photo, as an unmounted share does."""
    hider = make_fake(settings)
    original = hider.hide
    source = Path(os.environ["TEST_MOVED_SOURCE"])
    count = 0

    def hide(data: bytes, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 10:
            source.rename(source.with_name(source.name + ".away"))
        return original(data, **options)

    hider.hide = hide  # type: ignore[method-assign]
    return hider
