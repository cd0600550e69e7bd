"""API keys and the rate limit.

Keys are random tokens of 256 bits; the file keeps ``name:sha256:HEX[:rate[:scopes]]``. A plain
SHA-256 is right for such tokens (nothing to guess, unlike a password). A presented key is compared
with every entry in constant time, so the time tells nothing about which one came close.

The token buckets lie in a small shared file, so the limit holds over all worker processes.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import mmap
import os
import re
import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from platehide.errors import UsageError
from platehide.serve.problems import Problem

SCOPES = ("photos", "jobs")
PREFIX = "ph_"
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64}):sha256:(?P<hash>[0-9a-f]{64})"
    r"(?::(?P<rate>[0-9.]*)(?::(?P<scopes>[a-z,]*))?)?"
)


@dataclass(frozen=True)
class ApiKey:
    """One key: only its SHA-256 is known. ``rate`` (photos a second) overrides the setting's."""

    name: str
    digest: bytes
    rate: float | None = None
    scopes: frozenset[str] = frozenset(SCOPES)


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's name, or an address where no keys are needed."""

    name: str
    key: ApiKey | None = None


def new_key(name: str) -> tuple[str, str]:
    """Return a fresh key and its line for the key file.

    Raises:
        UsageError: the name has other characters than letters, digits, dot, dash, underscore.

    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise UsageError(f"--new-api-key {name!r}: 1 to 64 letters, digits, '.', '-' or '_'")
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f"{name}:sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a key file; empty lines and ``#`` comments are skipped.

    Raises:
        UsageError: unreadable, no key in it, a damaged line or a name twice.

    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"API keys {path}: {error}") from None
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"API keys {path}, line {number}: not NAME:sha256:HEX[:RATE[:SCOPES]]")
        scopes = frozenset(filter(None, (match["scopes"] or ",".join(SCOPES)).split(",")))
        if not scopes <= set(SCOPES):
            raise UsageError(f"API keys {path}, line {number}: scopes are {', '.join(SCOPES)}")
        try:
            rate = float(match["rate"]) if match["rate"] else None
        except ValueError:
            raise UsageError(f"API keys {path}, line {number}: the rate is no number") from None
        keys.append(ApiKey(match["name"], bytes.fromhex(match["hash"]), rate, scopes))
    if not keys:
        raise UsageError(f"API keys {path}: no key in it (make one with --new-api-key NAME)")
    if len({key.name for key in keys}) < len(keys):
        raise UsageError(f"API keys {path}: a name occurs twice")
    return tuple(keys)


class Guard:
    """Decides who may ask, and how often. ``keys`` empty: open to all."""

    def __init__(
        self,
        keys: Sequence[ApiKey] = (),
        *,
        rate: float = 0.0,
        burst: int = 0,
        bucket_file: Path | None = None,
    ) -> None:
        self._keys = tuple(keys)
        self._rate = rate
        self._burst = burst
        limited = rate > 0 or any(key.rate for key in self._keys)
        self._buckets = Buckets(bucket_file) if limited else None

    def caller(self, request: Request, scope: str) -> Caller:
        """Return who asks, from the headers alone.

        The key comes as ``Authorization: Bearer KEY`` or ``X-Api-Key: KEY``.

        Raises:
            Problem: ``unauthorized`` (401) or ``forbidden`` (403).

        """
        if not self._keys:
            return Caller(request.client.host if request.client else "unknown")
        presented = request.headers.get("x-api-key")
        if presented is None:
            method, _, token = request.headers.get("authorization", "").partition(" ")
            presented = token.strip() if method.lower() == "bearer" else None
        digest = hashlib.sha256((presented or "").encode("utf-8", "replace")).digest()
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        if not presented or found is None:
            raise Problem(
                "unauthorized",
                "an API key is needed (Authorization: Bearer KEY)",
                headers={"WWW-Authenticate": 'Bearer realm="platehide"'},
            )
        if scope not in found.scopes:
            raise Problem("forbidden", f"the key {found.name} may not use {scope}")
        return Caller(found.name, found)

    def spend(self, caller: Caller, photos: int = 1) -> None:
        """Take ``photos`` from the caller's allowance.

        Raises:
            Problem: ``rate_limited`` (429, with Retry-After).

        """
        rate = self._rate
        if caller.key is not None and caller.key.rate is not None:
            rate = caller.key.rate
        if self._buckets is None or rate <= 0:
            return
        burst = float(self._burst or max(2 * rate, 5))
        wait = self._buckets.take(caller.name, rate, max(burst, photos), photos)
        if wait > 0:
            seconds = max(1, int(wait + 0.999))
            raise Problem(
                "rate_limited",
                f"more than {rate:g} photos a second",
                headers={"Retry-After": str(seconds)},
            )


class Buckets:
    """Token buckets in a file that all worker processes map.

    A caller's slot is a hash of its name: two callers may share one (1 in 65,536). A record lock
    guards a slot; the system drops it with the process, so a killed worker blocks nobody.
    """

    SLOTS = 1 << 16
    _RECORD = struct.Struct("dd")  # tokens, time of the last change (0 = never used)

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._fd = os.memfd_create("platehide-buckets") if hasattr(os, "memfd_create") else -1
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = self.SLOTS * self._RECORD.size
        if self._fd >= 0:
            os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)

    def take(self, name: str, rate: float, burst: float, amount: float) -> float:
        """Take ``amount`` tokens; return 0, or the seconds until there are enough."""
        slot = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % self.SLOTS
        at = slot * self._RECORD.size
        if self._fd >= 0:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, self._RECORD.size, at)
        try:
            now = time.time()
            tokens, last = self._RECORD.unpack_from(self._map, at)
            tokens = burst if last == 0 else min(burst, tokens + rate * max(0.0, now - last))
            wait = 0.0 if tokens >= amount else (amount - tokens) / rate
            if wait == 0.0:
                tokens -= amount
            self._RECORD.pack_into(self._map, at, tokens, now)
            return wait
        finally:
            if self._fd >= 0:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, self._RECORD.size, at)
