"""Ray on one machine: a whole archive, an actor that is killed, a driver that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.data", reason="needs the extra 'batch'")

from fake_plates import SLOW_SIZE, has_magenta, put

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("PLATEHIDE_TEST_RAY") != "1",
        reason="starts a Ray cluster, which takes minutes; PLATEHIDE_TEST_RAY=1 runs it",
    ),
    pytest.mark.timeout(2400),  # every wait has its own limit
]
PATIENCE = 300.0

HERE = Path(__file__).parents[1]  # where fake_plates lies
DRIVER = (
    "import argparse, sys\n"
    "from fake_plates import make_fake\n"
    "from platehide.cli import batch\n"
    "if __name__ == '__main__':\n"
    "    parser = argparse.ArgumentParser()\n"
    "    batch.add_arguments(parser)\n"
    "    sys.exit(batch.batch(parser.parse_args(sys.argv[1:]), make_fake))\n"
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """``ray start --head`` with ports of its own, ended by its own process group."""
    names = (
        *("port", "node-manager-port", "object-manager-port", "dashboard-agent-listen-port"),
        *("dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port"),
    )
    log = tmp_path_factory.mktemp("ray") / "start.log"
    for _ in range(3):  # Ray gives a node 30 s to start, which a busy machine may not manage
        ports = free_ports(7)
        environment = {**os.environ, "PYTHONPATH": str(HERE), "RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("wb") as file:
            head = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
                    *("--num-cpus", "2", "--include-dashboard=false", "--disable-usage-stats"),
                    *("--object-store-memory", "100000000", "--node-ip-address", "127.0.0.1"),
                    *(f"--{name}={port}" for name, port in zip(names, ports, strict=True)),
                ],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not (started := b"Ray runtime started" in log.read_bytes()):
            if head.poll() is not None or time.monotonic() > end:
                break
            time.sleep(0.2)
        if started and head.poll() is None:
            break
        _end_group(head)
    else:
        pytest.fail("ray did not start: " + log.read_text()[-2000:])
    try:
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{ports[0]}"}
    finally:
        _end_group(head)


def _end_group(head: subprocess.Popen[bytes]) -> None:
    """End what ``ray start`` has started: its session, and no other Ray on the machine."""
    session = str(head.pid)
    head.terminate()
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.read_text().rpartition(")")[2].split()[3] == session:
                os.kill(int(stat.parent.name), signal.SIGKILL)
        except OSError:
            continue


def drive(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    script = folder / "drive.py"
    script.write_text(DRIVER)
    with (folder / "drive.log").open("ab") as log:  # a pipe that nobody reads would block it
        return subprocess.Popen(
            [
                *(sys.executable, str(script), str(folder / "src"), str(folder / "dst")),
                *("--engine", "ray", "--workers", "2", "--contact-sheet", "", "-q", *options),
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )


def said(folder: Path) -> str:
    """The end of what the drivers said."""
    return (folder / "drive.log").read_text("utf-8", "replace")[-3000:]


def wait_for_outputs(folder: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while len(outputs(folder)) < count:
        if driver.poll() is not None or time.monotonic() > end:
            driver.kill()
            pytest.fail(
                f"{len(outputs(folder))} outputs, exit code {driver.wait()}: {said(folder)}"
            )
        time.sleep(0.05)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for part in (folder / "dst/_platehide").rglob("part-*.jsonl"):
        for line in part.read_text().splitlines():
            row = json.loads(line)
            assert row["key"] not in found, "one row a photo"
            found[row["key"]] = row
    return found


def outputs(folder: Path) -> list[Path]:
    return [p for p in (folder / "dst").rglob("*.jpg") if "_platehide" not in p.parts]


def kill_an_actor() -> bool:
    for stat in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if stat.read_bytes().startswith(b"ray::MapWorker"):
                os.kill(int(stat.parent.name), signal.SIGKILL)
                return True
        except OSError:
            continue
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_archive_an_actor_and_a_driver_that_are_killed(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    for n in range(48):
        put(tmp_path / f"src/ad{n % 8}/{n:02}.jpg", size=SLOW_SIZE, seed=n)
    (tmp_path / "src/bad.jpg").write_bytes(b"no photo")

    driver = drive(tmp_path, cluster)
    wait_for_outputs(tmp_path, 4, driver)
    driver.kill()
    driver.wait()

    driver = drive(tmp_path, cluster, "--resume")
    wait_for_outputs(tmp_path, len(outputs(tmp_path)) + 1, driver)
    assert kill_an_actor(), said(tmp_path)
    try:
        code = driver.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        pytest.fail(f"the driver does not end: {said(tmp_path)}")
    assert code == 1, said(tmp_path)
    assert "49 photos: 48 hidden" in said(tmp_path)
    found = rows(tmp_path)
    assert len(found) == 49
    assert found["bad.jpg"]["code"] == "not_an_image"
    written = sorted(str(p) for p in outputs(tmp_path))
    assert written == sorted(r["output"] for r in found.values() if r["output"])
    assert not any(has_magenta(Path(name).read_bytes()) for name in written)
