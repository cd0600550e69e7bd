"""JSON log lines, each one atomic write.

Worker processes share one standard error. A line that is handed over in one ``write`` of at most
``PIPE_BUF`` bytes can never be cut by another process's line, on a pipe or in a file, so every
line is kept below that: a long traceback loses its outer frames, any other long text its end.
"""

from __future__ import annotations

import bisect
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

LINE_BYTES = 4096
"""Longest line with its end: Linux's ``PIPE_BUF``."""
_SHORT_CHARS = 160
_CUT = "[cut] ..."

log = logging.getLogger("platehide.serve")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts`` (UTC), ``level``, ``logger``, ``event`` and the fields.

    A line that had to be shortened to fit into ``LINE_BYTES`` has ``"cut": true``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return ``record`` as one line of JSON."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _fitting(line)


def _dumps(line: Mapping[str, Any]) -> str:
    return json.dumps(line, default=str, ensure_ascii=False)


def _excess(text: str) -> int:
    return len(text.encode("utf-8", "replace")) + 1 - LINE_BYTES


def _size(text: str, length: int) -> int:
    """Bytes of the last ``length`` characters, which ``text`` is, inside a JSON text."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2 if length else 0


def _fitting(line: dict[str, Any]) -> str:
    text = _dumps(line)
    if _excess(text) <= 0:
        return text
    line["cut"] = True
    if trace := line.get("traceback"):
        line["traceback"] = ""
        spare = -_excess(_dumps(line)) - len(_CUT)
        # Escaped characters and those beyond ASCII take several bytes: the longest tail that fits.
        keep = bisect.bisect_right(range(len(trace)), spare, key=lambda n: _size(trace[-n:], n)) - 1
        line["traceback"] = _CUT + trace[len(trace) - max(keep, 0) :]
    for key in sorted(line, key=lambda k: len(_dumps({k: line[k]})), reverse=True):
        if _excess(text := _dumps(line)) <= 0:
            break
        shown = line[key] if isinstance(line[key], str) else _dumps(line[key])
        if len(shown) > _SHORT_CHARS:
            line[key] = shown[:_SHORT_CHARS] + _CUT
    if _excess(text := _dumps(line)) <= 0:
        return text
    return _dumps({key: line[key] for key in list(line)[:5]} | {"cut": True})  # too many fields


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each line in one piece, past the stream's buffer where it has a descriptor."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record``."""
        try:
            data = (self.format(record) + "\n").encode("utf-8", "replace")
            try:
                descriptor = self.stream.fileno()
            except (AttributeError, OSError, ValueError):  # a stream in memory
                self.stream.write(data.decode())
                return
            self.stream.flush()
            while data:  # a file that is full may take less
                data = data[os.write(descriptor, data) :]
        except Exception:
            self.handleError(record)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send everything to ``stream`` (default: standard error) as JSON lines."""
    handler = LineHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("httpx").setLevel("WARNING")
    logging.getLogger("httpcore").setLevel("WARNING")


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log ``name`` with structured ``fields``; never pass image data."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"fields": fields})
