"""Create, annotate, aggregate, export: the way a label takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from platehide.annotate import schema
from platehide.annotate.exporting import export_layout
from platehide.errors import UsageError
from platehide.evaluate.dataset import load_records


def test_three_careful_people_settle_every_photo(site: Any, tmp_path: Path) -> None:
    project = site.project(photos=6, controls=4)
    for name in ("Ada", "Grace", "Linus"):
        person = site.person("worker", name, (project,))
        person.work(project)
        site.settle()
    requester = site.person("requester")
    figures = requester.get(f"/api/projects/{project}/overview").json()
    assert figures["photos"] == {"open": 0, "agreed": 6, "escalated": 0, "total": 6}
    assert figures["spend"] == pytest.approx(figures["judgements"]["count"] * 0.0023)
    target = tmp_path / "out"
    assert export_layout(site.context.db, site.context.photos, project, target) == 6
    records = load_records(target)
    assert len(records) == 6
    for record in records:
        with Image.open(record.path) as image:
            assert image.size == (record.width, record.height)
        original = next(
            n for n in site.truths if record.path.name.startswith(n.removesuffix(".jpg"))
        )
        truth = site.truths[original]["plates"]
        assert len(record.plates) == len(truth)
        for plate, quad in zip(record.plates, truth, strict=True):
            assert plate.quad is not None
            assert np.abs(plate.quad - np.array(quad)).max() < 0.02
    lines = (target / "annotations.jsonl").read_text().splitlines()
    assert len({json.loads(line)["image"] for line in lines}) == 6
    with pytest.raises(UsageError, match="not an empty folder"):
        export_layout(site.context.db, site.context.photos, project, target)


def test_recompute_gives_what_was_derived_live(site: Any) -> None:
    project = site.project(photos=16, controls=14)
    people = [site.person("worker", f"w{i}", (project,)) for i in range(3)]
    bad = site.person("worker", "bot", (project,))
    for person in people:
        person.work(project, most=5)
        site.settle()
    bad.work(project, answer={"plates": [[[5, 5], [60, 5], [60, 30], [5, 30]]]}, most=30)
    site.settle()
    for person in people:
        person.work(project)
        site.settle()

    def derived() -> list[Any]:
        with site.context.db.read() as connection:
            tables = []
            s, w = schema.photo_state, schema.worker_state
            columns = (s.c.photo_id, s.c.status, s.c.judgements, s.c.posterior, s.c.result)
            tables.append(connection.execute(sa.select(*columns).order_by(s.c.photo_id)).all())
            wanted = [c for c in w.c if c.name != "updated_at"]
            tables.append(connection.execute(sa.select(*wanted).order_by(w.c.worker_id)).all())
            a = schema.assignments
            tables.append(connection.execute(sa.select(a.c.id, a.c.state).order_by(a.c.id)).all())
        return tables

    before = derived()
    assert any(row.banned for row in before[1])
    site.context.deriver.recompute(project)
    assert derived() == before
