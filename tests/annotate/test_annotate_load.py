"""Many people at once on a real server process; kill -9; the same on Postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from annotate_support import Clock, Site, TestClient

from platehide.annotate import schema
from platehide.annotate.app import create_app
from platehide.annotate.bench import free_port, load_and_audit
from platehide.annotate.context import build_context
from platehide.annotate.limits import Limits
from platehide.annotate.simulate import StoreServer
from platehide.crowd.sim_world import SimSettings
from platehide.crowd.simulate import run


@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_load(tmp_path: Path) -> None:
    audit, people = load_and_audit(
        tmp_path, annotators=12, seconds=6.0, kill=True, think=0.3, least=4, patience=600.0
    )
    log = (tmp_path / "server.log").read_text("utf-8", "replace")[-2000:]
    assert audit.clean, f"{audit} {log}"
    assert [p.acknowledged >= 4 for p in people] == [True] * 12, f"{audit} {log}"
    assert sum(sum(p.errors.values()) for p in people) > 0, "the kill was not felt"


def test_threads_that_ask_at_once_share_out_the_slots(site: Any) -> None:
    project = site.project(photos=6)
    people = [site.person("worker", f"w{i}", (project,)) for i in range(10)]
    barrier = threading.Barrier(len(people))
    problems: list[Exception] = []

    def ask(user: str) -> None:
        try:
            barrier.wait(240)
            site.context.desk.view(user, project)
        except Exception as error:  # shown by the assertion below
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(p.user,)) for p in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not problems
    a = schema.assignments
    with site.context.db.read() as connection:
        held = connection.execute(sa.select(a.c.photo_id, a.c.slot)).all()
    assert len(held) == len(set(held)) == 12


def test_a_small_simulated_crowd_on_the_real_store(tmp_path: Path) -> None:
    settings = SimSettings(photos=25, controls=30, workers=12, bots=0.25, sloppy=0.0, seed=3)
    result = run(settings, lambda world, chosen: StoreServer(world, chosen, tmp_path))
    assert result.agreed + result.escalated + result.open == 25
    assert result.agreed >= 23 and result.wrong == 0
    assert result.honest_banned == 0


def _quiet(*command: str, log: Path) -> None:
    # A file, not a pipe: the server that pg_ctl leaves behind would hold the pipe open.
    with log.open("ab") as said:
        code = subprocess.run(command, stdout=said, stderr=said, check=False).returncode
    assert code == 0, f"{command} ended with {code}: {log.read_text('utf-8', 'replace')[-2000:]}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A throw-away Postgres server."""
    for tool in ("initdb", "postgres", "pg_ctl", "runuser"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    pytest.importorskip("psycopg", reason="needs the package psycopg")
    # Not below pytest's own folder, which is closed to the user that Postgres insists on.
    with tempfile.TemporaryDirectory(prefix="platehide-pg-") as folder:
        as_user: list[str] = []
        if os.getuid() == 0:
            Path(folder).chmod(0o755)
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        data = str(Path(folder) / "data")
        port = free_port()
        said = Path(folder) / "said"
        _quiet(*as_user, "initdb", "-D", data, "-U", "platehide", "-A", "trust", log=said)
        options = f"-p {port} -k '' -h 127.0.0.1 -c fsync=off"
        pg_ctl = [*as_user, "pg_ctl", "-D", data, "-w", "-t", "240"]
        _quiet(*pg_ctl, "-l", f"{folder}/log", "-o", options, "start", log=said)
        try:
            yield f"postgresql://platehide@127.0.0.1:{port}/postgres"
        finally:
            _quiet(*pg_ctl, "-m", "immediate", "stop", log=said)


def test_the_whole_way_on_postgres(postgres: str, tmp_path: Path) -> None:
    clock = Clock()
    context = build_context(
        postgres,
        tmp_path,
        clock=clock,
        limits=Limits(per_person=1e5, per_address=1e6, attempts=1e5),
    )
    client = TestClient(create_app(context), raise_server_exceptions=False)
    site = Site(context, clock, client)
    try:
        project = site.project(photos=6, controls=4)
        people = [site.person("worker", f"w{i}", (project,)) for i in range(3)]
        desks: list[Any] = []
        threads = [
            threading.Thread(target=lambda p=p: desks.append(context.desk.view(p.user, project)))
            for p in people
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert len(desks) == 3
        for person in people:
            person.work(project)
            site.settle()
        figures = site.person("requester").get(f"/api/projects/{project}/overview").json()
        assert figures["photos"]["agreed"] == 6
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            context.db.write() as connection,
        ):
            connection.exec_driver_sql("DELETE FROM log")
        context.deriver.recompute(project)
        again = site.person("requester").get(f"/api/projects/{project}/overview").json()
        assert again["photos"] == figures["photos"]
    finally:
        client.close()
        context.db.close()
