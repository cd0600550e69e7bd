"""Load test of the service: open-loop arrivals from a small asyncio client of our own.

*Open loop*: requests start at times set beforehand, whether or not earlier ones were answered, and
an answer's time counts from its planned start. A closed loop would wait with the server and hide
its queue (coordinated omission). The times are those of a Poisson process (independent users), or
with ``--arrivals constant`` evenly spaced, as most public tools have it.

Phases: one client alone; capacity (closed loop, as many clients as there are places); 70 % of it;
3 x it without back-off; SIGTERM at 70 %. An answer is *good* when it is a 200, or the 422 of an
unsure photo; everything else at 70 % is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from platehide.errors import UsageError, WeightsError
from platehide.serve.loadclient import LOST, REFUSED, Client, Outcome, closed_loop, open_loop

BUDGET_MS = 250.0
PHASES = ("one client", "capacity", "70 %", "3 x", "SIGTERM")
STOP_SECONDS = 120.0


@dataclass(frozen=True)
class Phase:
    """What one phase showed; times in ms of good answers, memory in MiB of all processes."""

    name: str
    seconds: float
    offered_per_s: float
    good_per_s: float
    statuses: dict[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    memory_mib: tuple[float, float, float]


def family(pid: int) -> list[int]:
    """``pid`` and its descendants (Linux)."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in task.read_text().split())
    return found


def memory_mib(pid: int | None) -> float:
    """Resident memory of a process and its descendants in MiB; 0 where unknown."""
    if pid is None:
        return 0.0
    pages = 0
    for one in family(pid):
        with contextlib.suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@contextlib.asynccontextmanager
async def watch_memory(pid: int | None, samples: list[float]) -> AsyncIterator[None]:
    """Sample the memory twice a second into ``samples``."""

    async def sample() -> None:
        while True:
            samples.append(memory_mib(pid))
            await asyncio.sleep(0.5)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        samples.append(memory_mib(pid))


def summary(
    name: str, outcomes: Sequence[Outcome], seconds: float, memory: Sequence[float]
) -> Phase:
    """Sum up a phase."""
    good = sorted(o.ms for o in outcomes if o.good)
    named = {LOST: "lost", REFUSED: "refused"}
    counted = Counter(
        named.get(o.status, f"{o.status}{f' {o.code}' if o.code else ''}") for o in outcomes
    )

    def percentile(share: float) -> float:
        return good[min(len(good) - 1, int(share * len(good)))] if good else float("nan")

    edge = max(1, len(memory) // 5)
    flat = (
        (statistics.fmean(memory[:edge]), statistics.fmean(memory[-edge:]), max(memory))
        if memory
        else (0.0, 0.0, 0.0)
    )
    return Phase(
        name,
        round(seconds, 1),
        round(len(outcomes) / seconds, 2),
        round(len(good) / seconds, 2),
        dict(sorted(counted.items())),
        round(percentile(0.5), 1),
        round(percentile(0.95), 1),
        round(percentile(0.99), 1),
        (round(flat[0], 1), round(flat[1], 1), round(flat[2], 1)),
    )


def reference_ms() -> float | None:
    """Median ms of the fixed reference network (two-head ResNet18 at 224, one thread)."""
    try:
        from platehide.evaluate.benchmark import Reference

        reference = Reference()
        return statistics.median(reference() for _ in range(30))
    except (ImportError, WeightsError, UsageError):
        return None


def read_photos(folder: Path, limit: int, seed: int) -> list[bytes]:
    """At most ``limit`` JPEGs of ``folder``, chosen at random.

    Raises:
        UsageError: there are none.

    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"})
    if not files:
        raise UsageError(f"{folder}: no JPEG photos")
    random.Random(seed).shuffle(files)
    return [path.read_bytes() for path in files[:limit]]


def start_service(command: Sequence[str]) -> tuple[subprocess.Popen[str], int]:
    """Start the service on a free port; return the process and the port."""
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r":(\d+)$", line.strip())
    if found is None:
        process.wait(30)
        raise UsageError(f"the service did not start: {' '.join(command)}")
    return process, int(found[1])


async def _ready(host: str, port: int, seconds: float = 120) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        await asyncio.sleep(0.2)
    raise UsageError("the service did not become ready")


async def run(
    args: argparse.Namespace, photos: Sequence[bytes], tell: Callable[[str], None]
) -> tuple[list[Phase], float]:
    """Run all phases; return them and the capacity in photos a second."""
    process: subprocess.Popen[str] | None = None
    host, port = "127.0.0.1", 0
    if args.address:
        host, _, text = args.address.rpartition(":")
        port = int(text)
    else:
        process, port = start_service(args.command)
    pid = process.pid if process is not None else args.pid
    phases: list[Phase] = []

    def offer(client: Client, rate: float, seconds: float, seed: int) -> object:
        even = args.arrivals == "constant"
        return open_loop(client, photos, rate, seconds, seed, constant=even)

    async def phase(name: str, work: Callable[[Client], object]) -> Phase:
        client, memory = Client(host, port, "/v1/hide"), [0.0][:0]
        begin = time.monotonic()
        async with watch_memory(pid, memory):
            outcomes: list[Outcome] = await work(client)  # type: ignore[misc]
        done = summary(name, outcomes, time.monotonic() - begin, memory)
        client.close()
        phases.append(done)
        tell(
            f"{done.name:<12} {done.offered_per_s:8.1f} {done.good_per_s:8.1f} {done.p50_ms:8.1f}"
            f" {done.p95_ms:8.1f} {done.p99_ms:8.1f}  {done.memory_mib[1]:7.0f}  {done.statuses}"
        )
        return done

    try:
        await _ready(host, port)
        warm = Client(host, port, "/v1/hide")
        await closed_loop(warm, photos, 2, args.warm_up, 1)
        warm.close()
        tell(f"{'phase':<12} {'offered':>8} {'good/s':>8} {'p50':>8} {'p95':>8} {'p99':>8}  MiB")
        if "one client" in args.phases:
            await phase("one client", lambda c: closed_loop(c, photos, 1, args.short, 2))
        capacity = args.capacity
        if capacity is None:
            full = await phase(
                "capacity", lambda c: closed_loop(c, photos, args.clients, args.short, 3)
            )
            capacity = full.good_per_s
        if "70 %" in args.phases:
            await phase("70 %", lambda c: offer(c, 0.7 * capacity, args.seconds, 4))
        if "3 x" in args.phases:
            await phase("3 x", lambda c: offer(c, 3 * capacity, args.seconds, 5))
        if "SIGTERM" in args.phases and process is not None:

            async def stopped(client: Client) -> list[Outcome]:
                load = asyncio.create_task(open_loop(client, photos, 0.7 * capacity, 8, 6))
                await asyncio.sleep(3)
                process.send_signal(signal.SIGTERM)
                return await load

            await phase("SIGTERM", stopped)
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
    return phases, capacity


def judge(phases: Sequence[Phase], capacity: float) -> list[tuple[str, bool]]:
    """Return each promise and whether it was kept."""
    by_name = {phase.name: phase for phase in phases}
    verdicts = []
    if "70 %" in by_name:
        calm = by_name["70 %"]
        wrong = sorted(name for name in calm.statuses if name not in {"200", "422 unsure"})
        verdicts += [
            (f"p95 at 70 % is {calm.p95_ms} ms, promised {BUDGET_MS:g}", calm.p95_ms <= BUDGET_MS),
            (f"errors at 70 %: {wrong or 'none'}", not wrong),
        ]
    if "3 x" in by_name:
        rush = by_name["3 x"]
        verdicts += [
            (
                f"goodput at 3 x is {rush.good_per_s / capacity:.0%} of capacity, promised 90 %",
                rush.good_per_s >= 0.9 * capacity,
            ),
            (
                f"p95 of accepted at 3 x is {rush.p95_ms} ms, promised {2 * BUDGET_MS:g}",
                rush.p95_ms <= 2 * BUDGET_MS,
            ),
            ("nothing lost at 3 x", "lost" not in rush.statuses),
            (
                f"memory at 3 x from {rush.memory_mib[0]} to {rush.memory_mib[1]} MiB",
                rush.memory_mib[1] <= 1.1 * rush.memory_mib[0] + 16,
            ),
        ]
    if "SIGTERM" in by_name:
        lost = by_name["SIGTERM"].statuses.get("lost", 0)
        verdicts.append((f"SIGTERM lost {lost} accepted requests", lost == 0))
    return verdicts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load test; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="load_test", description=__doc__.split("\n", 1)[0])
    default = os.environ.get("PLATEHIDE_PHOTOS", "../shared/photos")
    parser.add_argument("--photos", type=Path, default=Path(default), help="folder of JPEG photos")
    parser.add_argument("--limit", type=int, default=200, help="at most so many photos [200]")
    parser.add_argument("--seconds", type=float, default=60, help="length of 70 %% and 3 x [60]")
    parser.add_argument("--short", type=float, default=20, help="length of the others [20]")
    parser.add_argument("--warm-up", type=float, default=5, help="before anything counts [5]")
    parser.add_argument("--clients", type=int, default=4, help="clients for the capacity [4]")
    parser.add_argument(
        "--phases",
        type=lambda text: [name.strip() for name in text.split(",")],
        default=list(PHASES),
        help=f"some of: {', '.join(PHASES).replace('%', '%%')} [all]",
    )
    parser.add_argument(
        "--capacity", type=float, help="good answers a second, instead of measuring the capacity"
    )
    parser.add_argument(
        "--arrivals", choices=("poisson", "constant"), default="poisson", help="[poisson]"
    )
    parser.add_argument("--address", help="HOST:PORT of a running service; default: start one")
    parser.add_argument("--pid", type=int, help="its process, for the memory")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("command", nargs="*", help="command that starts the service (after --)")
    args = parser.parse_args(argv)
    if wrong := set(args.phases) - set(PHASES):
        parser.error(f"--phases: {', '.join(sorted(wrong))}; there are {', '.join(PHASES)}")
    args.command = args.command or [
        sys.executable, "-m", "platehide", "serve", "--no-access-log",
    ]  # fmt: skip
    try:
        photos = read_photos(args.photos, args.limit, 1)
        phases, capacity = asyncio.run(run(args, photos, lambda line: print(line, flush=True)))
    except UsageError as error:
        print(f"load_test: {error}", file=sys.stderr)
        return 2
    verdicts = judge(phases, capacity)
    for text, kept in verdicts:
        print(f"{'ok  ' if kept else 'MISS'} {text}")
    reference = reference_ms() if "one client" in args.phases else None
    if reference is not None:
        one = phases[0].p95_ms
        print(
            f"one client: p95 {one} ms = {one / reference:.2f} x the reference ({reference:.1f} ms)"
        )
    if args.json is not None:
        document = {
            "photos": len(photos),
            "median_bytes": statistics.median(map(len, photos)),
            "arrivals": args.arrivals,
            "capacity_per_s": capacity,
            "reference_ms": reference,
            "phases": [asdict(phase) for phase in phases],
            "promises": [{"promise": text, "kept": kept} for text, kept in verdicts],
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(kept for _, kept in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
