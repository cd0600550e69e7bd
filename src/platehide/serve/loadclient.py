"""Open-loop and closed-loop load from a small asyncio client of our own; see ``loadtest``."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LOST = -1
REFUSED = -2
ANSWER_SECONDS = 60.0
IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """One request: HTTP status (or lost, refused), and ms from its planned start."""

    status: int
    ms: float
    code: str = ""

    @property
    def good(self) -> bool:
        """Answered as it should be."""
        return self.status == 200 or (self.status == 422 and self.code == "unsure")


class Client:
    """HTTP/1.1 over a pool of kept connections.

    One that was idle for ``IDLE_SECONDS`` is not used again, as a server that stops may close it
    in the same moment: what an ordinary client would then repeat would count as lost here.
    """

    def __init__(self, host: str, port: int, path: str) -> None:
        self._address = host, port
        self._path = path
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, photo: bytes, planned: float | None = None) -> Outcome:
        """Send ``photo``; ``planned`` is the loop time its clock starts at."""
        loop = asyncio.get_running_loop()
        begin = loop.time() if planned is None else planned
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, code = await self._exchange(photo)
        except ConnectionRefusedError:
            status, code = REFUSED, ""
        except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError):
            status, code = LOST, ""
        return Outcome(status, (loop.time() - begin) * 1e3, code)

    async def _exchange(self, photo: bytes) -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        while self._idle:
            since, reader, writer = self._idle.pop()
            fresh = loop.time() - since < IDLE_SECONDS
            if fresh and not reader.at_eof() and not writer.is_closing():
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(*self._address)
        try:
            head = (
                f"POST {self._path} HTTP/1.1\r\nHost: {self._address[0]}\r\n"
                f"Content-Length: {len(photo)}\r\n\r\n"
            )
            writer.write(head.encode() + photo)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status = int(answer.split(" ", 2)[1])
            length = re.search(r"\r\ncontent-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
            code = re.search(r"\r\nx-problem-code: (\S+)", answer)
            keep = "\r\nconnection: close" not in answer
        except BaseException:
            writer.close()
            raise
        if keep:
            self._idle.append((loop.time(), reader, writer))
        else:
            writer.close()
        return status, code[1] if code else ""

    def close(self) -> None:
        """Close the kept connections."""
        for _, _, writer in self._idle:
            writer.close()
        self._idle.clear()


def arrivals(
    rate: float, seconds: float, rng: random.Random, *, constant: bool = False
) -> Iterator[float]:
    """Start times in seconds from 0, of a Poisson process or evenly spaced."""
    at = 0.0
    while (at := at + (1 / rate if constant else rng.expovariate(rate))) < seconds:
        yield at


async def open_loop(
    client: Client,
    photos: Sequence[bytes],
    rate: float,
    seconds: float,
    seed: int,
    *,
    constant: bool = False,
) -> list[Outcome]:
    """Offer ``rate`` requests a second for ``seconds``."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    start = loop.time()
    tasks = []
    for at in arrivals(rate, seconds, rng, constant=constant):
        wait = start + at - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(client.post(rng.choice(photos), start + at)))
    return list(await asyncio.gather(*tasks))


async def closed_loop(
    client: Client, photos: Sequence[bytes], clients: int, seconds: float, seed: int
) -> list[Outcome]:
    """``clients`` requests at a time, one after the other."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    outcomes: list[Outcome] = []

    async def run(number: int) -> None:
        rng = random.Random(seed + number)
        while loop.time() < end:
            outcomes.append(await client.post(rng.choice(photos)))

    await asyncio.gather(*(run(number) for number in range(clients)))
    return outcomes
