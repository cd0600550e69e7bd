"""Fetch what a stranger's URL names without reaching into our own network (SSRF).

The host is resolved once, every address is checked, and the connection goes to exactly that
address (a second look-up could answer differently: DNS rebinding), while TLS still verifies the
name. Every redirect is checked anew. Proxies of the environment are not used. Bodies are asked
for unencoded, so there is nothing to inflate.
"""

from __future__ import annotations

import asyncio
import fnmatch
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from platehide import __version__
from platehide.errors import UsageError
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings, split_list

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_REDIRECTS = 3
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """The URL could not be fetched; the text is fit for the caller."""


@dataclass(frozen=True)
class Policy:
    """What may be fetched; see the settings ``fetch_*``."""

    schemes: frozenset[str]
    ports: frozenset[int]
    hosts: tuple[str, ...]
    networks: tuple[Network, ...]
    seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the settings' policy.

        Raises:
            UsageError: a port or network that is none.

        """
        try:
            ports = frozenset(int(p) for p in split_list(settings.fetch_ports))
        except ValueError:
            raise UsageError(f"--fetch-ports {settings.fetch_ports}: not port numbers") from None
        try:
            networks = tuple(ipaddress.ip_network(n) for n in split_list(settings.fetch_networks))
        except ValueError as error:
            raise UsageError(f"--fetch-networks: {error}") from None
        return cls(
            frozenset(split_list(settings.fetch_schemes)),
            ports,
            tuple(h.lower() for h in split_list(settings.fetch_hosts)),
            networks,
            settings.fetch_timeout,
        )

    def check_url(self, url: str) -> None:
        """Check everything about ``url`` that needs no look-up.

        Raises:
            Problem: ``bad_url``.

        """
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError:
            raise Problem("bad_url", "not a URL") from None
        if parts.scheme not in self.schemes:
            raise Problem("bad_url", f"only {', '.join(sorted(self.schemes))} URLs are fetched")
        if not parts.hostname or not url.isascii() or any(c <= " " or c == "\\" for c in url):
            raise Problem("bad_url", "not a URL with a host")
        if parts.username is not None or parts.password is not None:
            raise Problem("bad_url", "a URL with credentials is not fetched")
        if port not in self.ports:
            raise Problem("bad_url", f"port {port} is not allowed")
        host = parts.hostname.lower().rstrip(".")
        if self.hosts and not any(fnmatch.fnmatchcase(host, pattern) for pattern in self.hosts):
            raise Problem("bad_url", f"the host {host} is not allowed")
        try:
            literal = ipaddress.ip_address(host.split("%")[0])
        except ValueError:
            return
        if not self.may_reach(literal):
            raise Problem("bad_url", "the address is not public")

    def may_reach(self, address: Address) -> bool:
        """True for public addresses and those of the allowed private networks."""
        for real in _embedded(address):
            inside = any(real.version == n.version and real in n for n in self.networks)
            if not inside and (not real.is_global or real.is_multicast or real.is_reserved):
                return False
        return True


def _embedded(address: Address) -> list[Address]:
    """The address and every IPv4 address that is tunnelled in it."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address.sixtofour is not None:
            found.append(address.sixtofour)
        if address.teredo is not None:
            found.extend(address.teredo)
        if address in _NAT64:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the policy allows, and to none but those it checked."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, connect to a checked one."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise FetchError(f"the host {host} cannot be resolved") from None
        addresses = list(dict.fromkeys(str(info[4][0]).split("%")[0] for info in infos))
        if not addresses:
            raise FetchError(f"the host {host} has no address")
        for address in addresses:
            if not self._policy.may_reach(ipaddress.ip_address(address)):
                raise FetchError(f"the host {host} has an address that is not public")
        failure: Exception | None = None
        for address in addresses[:4]:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise FetchError(f"no connection to {host}") from failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse."""
        raise FetchError("unix sockets are not fetched")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._inner.sleep(seconds)


class Fetcher:
    """Fetches photos and delivers webhooks under one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=16,
            max_keepalive_connections=0,
            network_backend=_GuardedBackend(policy),
        )

    async def get(self, url: str, max_bytes: int) -> bytes:
        """Return the body of ``url``.

        Raises:
            FetchError: refused by the policy, unreachable, too slow, too large, or not a 200.

        """
        try:
            async with asyncio.timeout(self._policy.seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    status, target, data = await self._once(url, max_bytes)
                    if status not in _REDIRECTS:
                        return data
                    if not target:
                        raise FetchError("a redirect without a target")
                    url = urljoin(url, target)
                raise FetchError(f"more than {MAX_REDIRECTS} redirects")
        except TimeoutError:
            raise FetchError(f"took longer than {self._policy.seconds:g} s") from None

    async def _once(self, url: str, max_bytes: int) -> tuple[int, str | None, bytes]:
        self._check(url)
        headers = self._headers({"Accept": "image/*", "Accept-Encoding": "identity"})
        try:
            async with self._pool.stream("GET", url, headers=headers) as response:
                found = {k.lower(): v.decode("latin-1") for k, v in response.headers}
                if response.status in _REDIRECTS:
                    return response.status, found.get(b"location"), b""
                if response.status != 200:
                    raise FetchError(f"answered {response.status}")
                if found.get(b"content-encoding", "identity").lower() != "identity":
                    raise FetchError("answered with an encoded body")
                chunks: list[bytes] = []
                size = 0
                async for chunk in response.aiter_stream():
                    size += len(chunk)
                    if size > max_bytes:
                        raise FetchError(f"is larger than {max_bytes} bytes")
                    chunks.append(chunk)
                return 200, None, b"".join(chunks)
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            httpcore.UnsupportedProtocol,
            ssl.SSLError,
            OSError,
        ) as error:
            raise FetchError(f"cannot be fetched ({type(error).__name__})") from None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Deliver ``body``; return the status. Redirects are not followed.

        Raises:
            FetchError: refused by the policy, unreachable or too slow.

        """
        self._check(url)
        try:
            async with asyncio.timeout(seconds):
                response = await self._pool.request(
                    "POST", url, headers=self._headers(headers), content=body
                )
                return response.status
        except TimeoutError:
            raise FetchError(f"took longer than {seconds:g} s") from None
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            httpcore.UnsupportedProtocol,
            ssl.SSLError,
            OSError,
        ) as error:
            raise FetchError(f"cannot be reached ({type(error).__name__})") from None

    def _check(self, url: str) -> None:
        try:
            self._policy.check_url(url)
        except Problem as problem:
            raise FetchError(problem.detail) from None

    @staticmethod
    def _headers(extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        named = {"User-Agent": f"platehide/{__version__}", **extra}
        return [(k.encode("ascii"), v.encode("latin-1")) for k, v in named.items()]

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
