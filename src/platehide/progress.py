"""A progress bar on standard error: photos/s, time left, and lines in between."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import NoReturn, TextIO

from tqdm import tqdm

_LOG_SECONDS = 10.0


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


class Progress:
    """Counts photos.

    On a terminal the bar moves; in a log it is a line every ten seconds and one at the end.
    """

    def __init__(self, total: int | None, *, quiet: bool = False, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        terminal = self._stream.isatty()
        # A pseudo-terminal may not know its width, and tqdm would show nothing there.
        width_known = terminal and _columns(self._stream) > 0
        self._log = not terminal and not quiet
        self._logged = time.monotonic()
        known = (
            "{l_bar}{bar}| {n_fmt}/{total_fmt} "
            "[{elapsed}, {rate_noinv_fmt}, ETA {remaining}{postfix}]"
        )
        if self._log:
            known = known.replace("{l_bar}{bar}|", "{percentage:3.0f}%")
        self._notes: tqdm[NoReturn] | None = None
        self._bar: tqdm[NoReturn] = tqdm(
            total=total,
            file=self._stream,
            disable=quiet,
            unit=" photos",
            mininterval=0.2,
            delay=0.0 if terminal else float("inf"),  # in a log we print what it would show
            ncols=100 if terminal and not width_known else None,
            dynamic_ncols=width_known,
            bar_format=known if total is not None else None,
        )

    def advance(self, count: int = 1) -> None:
        """Count photos as done."""
        self._bar.update(count)
        if self._log and time.monotonic() - self._logged >= _LOG_SECONDS:
            self._log_line()

    def shrink(self, count: int) -> None:
        """Take photos off the total that turn out to need nothing."""
        if self._bar.total is not None:
            self._bar.total -= count

    def note(self, text: str) -> None:
        """Show a few words: below the bar, in a log on its line."""
        if self._log or self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            return
        if self._notes is None:
            self._notes = tqdm(
                file=self._stream, bar_format="{desc}", position=1, leave=False, mininterval=0.2
            )
        self._notes.set_description_str(text, refresh=False)
        self._notes.update()

    def line(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if not self._log:
            self._bar.clear()
            if self._notes is not None:
                self._notes.clear()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._log:
            self._log_line()
            self._log = False
        words = None if self._notes is None else self._notes.desc
        if self._notes is not None:
            self._notes.close()
            self._notes = None
        self._bar.close()
        if words:
            print(words, file=self._stream, flush=True)

    def _log_line(self) -> None:
        self._logged = time.monotonic()
        print(str(self._bar).strip(), file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
