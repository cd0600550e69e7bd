from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'annotate'")
pytest.importorskip("sqlalchemy", reason="needs the extra 'annotate'")

from annotate_support import Clock, Site, TestClient

from platehide.annotate.app import create_app
from platehide.annotate.context import build_context
from platehide.annotate.limits import Limits


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    clock = Clock()
    context = build_context(
        f"sqlite:///{tmp_path / 'store.sqlite3'}",
        tmp_path / "data",
        clock=clock,
        public_url="http://testserver",
        limits=Limits(per_person=1e5, per_address=1e6, attempts=1e5),
    )
    # Which task is a control task is drawn; a test that counts them must draw the same each time.
    context.desk.rng, context.projects.rng = random.Random(20), random.Random(21)
    client = TestClient(create_app(context), raise_server_exceptions=False)
    yield Site(context, clock, client)
    client.close()
    context.jobs.close()
    context.db.close()
