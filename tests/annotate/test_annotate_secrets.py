"""What must never reach a worker's browser, told from the bytes on the wire."""

from __future__ import annotations

import itertools
import json
from typing import Any

import sqlalchemy as sa

from platehide.annotate import schema

TASK_FIELDS = {"id", "width", "height", "training", "proposal", "expires_in"}


def kinds(site: Any) -> dict[str, str]:
    a = schema.assignments
    with site.context.db.read() as connection:
        return {r.id: r.kind for r in connection.execute(sa.select(a.c.id, a.c.kind))}


def shape(value: Any) -> Any:
    """A JSON value with its numbers and ids blotted out."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return type(value).__name__


def test_control_tasks_look_like_any_other_on_the_wire(site: Any) -> None:
    project = site.project(photos=30, controls=20, control_share_new=0.5, control_share=0.5)
    person = site.person("worker", "Ada", (project,))
    seen: dict[str, list[Any]] = {"task": [], "control": []}
    photos: dict[str, set[Any]] = {"task": set(), "control": set()}
    wire = ""
    desk = person.desk(project)
    for _ in range(24):
        task = desk["tasks"][0]
        assert set(task) == TASK_FIELDS
        kind = kinds(site)[task["id"]]
        photo = person.get(f"/api/work/tasks/{task['id']}/photo")
        headers = sorted(k for k in photo.headers if k != "content-length")
        photos[kind].add(tuple(headers))
        site.clock.tick(7)
        reply = person.answer(task["id"])
        wire += reply.text
        desk = reply.json()["desk"]
        seen[kind].append((shape(task), sorted(reply.json()), sorted(reply.headers)))
        assert reply.json()["feedback"] is None and reply.json()["duplicate"] is False
    assert len(seen["task"]) >= 4 and len(seen["control"]) >= 4
    assert {json.dumps(s) for s in seen["task"]} == {json.dumps(s) for s in seen["control"]}
    assert photos["task"] == photos["control"] and len(photos["task"]) == 1
    assert not {"last-modified", "etag", "content-disposition"} & set(photos["task"].pop())
    for word in ("control", "golden", "truth", "kind", "slot", "skill", "posterior", "photo_id"):
        assert word not in wire


def test_no_true_corner_and_no_other_answer_is_sent_to_a_worker(site: Any) -> None:
    project = site.project(photos=10, controls=10, training=2, control_share_new=0.5)
    first = site.person("worker", "first", (project,))
    first.work(project, most=8)
    site.settle()
    second = site.person("worker", "second", (project,))
    wire = ""
    desk = second.desk(project)
    for _ in range(10):
        task = desk["tasks"][0]["id"]
        site.clock.tick(6)
        reply = second.answer(task, {"skip": True} if desk["state"] == "training" else None)
        wire += reply.text
        desk = reply.json()["desk"]
        if not desk["tasks"]:
            break
    numbers = {
        f"{c}" for t in site.truths.values() for q in t["plates"] for p in q for c in p if c % 1
    }
    assert numbers and not [n for n in numbers if n in wire]
    assert first.user not in wire and "first" not in wire


def test_ids_and_order_say_nothing_about_the_kind(site: Any) -> None:
    project = site.project(photos=40, controls=40, control_share_new=0.5, control_share=0.5)
    order = []
    for number in range(6):
        person = site.person("worker", f"w{number}", (project,))
        desk = person.desk(project)
        for _ in range(8):
            task = desk["tasks"][0]["id"]
            order.append((task, kinds(site)[task]))
            site.clock.tick(6)
            desk = person.answer(task).json()["desk"]
    assert all(len(task) == 24 and set(task) <= set("0123456789abcdef") for task, _ in order)
    marks = [kind == "control" for _, kind in order]
    assert 0.25 < sum(marks) / len(marks) < 0.75
    # Random, not every k-th: both neighbours of every pair of kinds occur.
    assert {(a, b) for a, b in itertools.pairwise(marks)} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    # An id sorts before or after another whatever their kinds: the mean rank is in the middle.
    ranked = sorted(order)
    ranks = [i for i, (_, kind) in enumerate(ranked) if kind == "control"]
    assert abs(sum(ranks) / len(ranks) - (len(ranked) - 1) / 2) < 12


def test_the_reply_does_the_same_database_work_for_both_kinds(site: Any) -> None:
    project = site.project(photos=40, controls=40, control_share_new=0.5, control_share=0.5)
    person = site.person("worker", "Ada", (project,))
    counts: dict[str, set[int]] = {"task": set(), "control": set()}
    statements: list[str] = []
    sa.event.listen(
        site.context.db.engine,
        "before_cursor_execute",
        lambda *args: statements.append(str(args[2]).split()[0] + str(args[2])[:40]),
    )
    desk = person.desk(project)
    for _ in range(16):
        task = desk["tasks"][0]["id"]
        kind = kinds(site)[task]
        truth = person.truth(task)
        site.clock.tick(6)
        statements.clear()
        reply = person.answer(task, truth)
        # What is leased next differs by chance; what is written for this answer must not.
        counts[kind].add(sum("INSERT INTO log" in s for s in statements))
        assert not any("worker_state SET" in s or "photo_state SET status" in s for s in statements)
        desk = reply.json()["desk"]
    assert counts["task"] == counts["control"] == {1}


def test_a_proposal_is_never_on_a_control_task_and_only_on_a_first_answer(site: Any) -> None:
    project = site.project(
        photos=20, controls=20, control_share_new=0.5, control_share=0.5, proposal_share=0.9
    )
    p = schema.photos
    quad = [[10.0, 10.0], [60.0, 12.0], [60.0, 30.0], [10.0, 28.0]]
    with site.context.db.write() as connection:
        # Even where a control photo carries one by mistake.
        connection.execute(
            p.update()
            .where(p.c.project_id == project)
            .values(proposal={"model": "m@1", "plates": [quad]})
        )
    shown = {"task": 0, "control": 0}
    for number in range(3):
        person = site.person("worker", f"w{number}", (project,))
        desk = person.desk(project)
        for _ in range(10):
            task = desk["tasks"][0]
            if task["proposal"]:
                assert task["proposal"] == [quad]
                shown[kinds(site)[task["id"]]] += 1
            site.clock.tick(6)
            desk = person.answer(task["id"]).json()["desk"]
    assert shown["task"] > 3 and shown["control"] == 0
    a = schema.assignments
    with site.context.db.read() as connection:
        slots = connection.execute(sa.select(a.c.slot).where(a.c.proposed)).scalars().all()
    assert set(slots) == {0}
