"""Leases, idempotent answers, captcha, caps, training: the desk's rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from platehide.annotate import captcha, schema
from platehide.annotate.limits import Limits


def rows(site: Any, *columns: Any, **where: Any) -> list[Any]:
    table = columns[0].table
    query = sa.select(*columns)
    for name, value in where.items():
        query = query.where(table.c[name] == value)
    with site.context.db.read() as connection:
        return list(connection.execute(query).all())


def test_two_people_never_hold_the_same_slot_and_nobody_sees_a_photo_twice(site: Any) -> None:
    project = site.project(photos=3)
    people = [site.person("worker", f"w{i}", (project,)) for i in range(5)]
    for person in people:
        person.desk(project)
        person.desk(project)  # asking again gives the same desk
    a = schema.assignments
    held = rows(site, a.c.photo_id, a.c.slot, a.c.worker_id, state="leased")
    assert len({(r.photo_id, r.slot) for r in held}) == len(held) == 6  # 3 photos, 2 slots each
    assert len({(r.photo_id, r.worker_id) for r in held}) == len(held)
    with pytest.raises(sa.exc.IntegrityError), site.context.db.write() as connection:
        values = dict(connection.execute(sa.select(a).limit(1)).one()._mapping)
        values |= {"id": "f" * 24, "worker_id": people[0].user, "client_id": None}
        connection.execute(a.insert().values(**values))


def test_an_answer_sent_twice_counts_once(site: Any) -> None:
    project = site.project(photos=3)
    person = site.person("worker", "Ada", (project,))
    task = person.desk(project)["tasks"][0]["id"]
    first = person.answer(task, client_id="same-client-id")
    second = person.answer(task, client_id="same-client-id")
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    assert second.status_code == 200
    other = person.answer(task, client_id="other-client-id")
    assert (other.status_code, other.json()["code"]) == (409, "already_answered")
    assert len(rows(site, schema.log.c.seq, kind="judgement")) == 1


def test_an_expired_lease_goes_to_someone_else(site: Any) -> None:
    project = site.project(photos=1, overlap_min=1, lease_seconds=60.0)
    slow, quick = (site.person("worker", n, (project,)) for n in ("slow", "quick"))
    task = slow.desk(project)["tasks"][0]["id"]
    assert quick.desk(project)["state"] == "waiting"
    site.clock.tick(61)
    assert len(quick.desk(project)["tasks"]) == 1
    late = slow.answer(task)
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
    assert quick.work(project) == 1


def test_a_late_answer_counts_while_nobody_else_has_the_slot(site: Any) -> None:
    project = site.project(photos=1, lease_seconds=60.0)
    slow = site.person("worker", "slow", (project,))
    other = site.person("worker", "other", (project,))
    task = slow.desk(project)["tasks"][0]["id"]
    site.clock.tick(61)
    other.desk(project)  # sweeps expired leases; one of the two slots is still free
    assert slow.answer(task).status_code == 200


def test_seconds_are_measured_on_the_server_and_preloading_does_not_add_to_them(
    site: Any,
) -> None:
    project = site.project(photos=4)
    person = site.person("worker", "Ada", (project,))
    first, second = (t["id"] for t in person.desk(project)["tasks"])
    site.clock.tick(9.0)
    person.answer(first)
    site.clock.tick(2.5)
    person.answer(second)
    bodies = [r.body for r in rows(site, schema.log.c.body, kind="judgement")]
    assert [b["seconds"] for b in bodies] == [9.0, 2.5]


def test_answers_faster_than_the_project_allows_pause_the_worker(site: Any) -> None:
    project = site.project(photos=12, min_seconds=3.0)
    person = site.person("worker", "hasty", (project,))
    person.work(project, seconds=1.0, most=6)
    site.settle()
    assert person.desk(project)["state"] == "banned"
    table = site.person("requester").get(f"/api/projects/{project}/workers").json()
    assert table[0]["banned_until"] is not None and "too fast" in table[0]["reason"]


BAD_ANSWERS = [
    ({}, "answer"),
    ({"plates": None}, "answer"),
    ({"plates": [[[1, 2], [3, 4]]]}, "four corners"),
    ({"plates": [[[0, 0], [900, 0], [900, 40], [0, 40]]]}, "outside"),
    ({"plates": [[[10, 10], [110, 10], [60, 20], [60, 90]]]}, "do not span"),
    ({"plates": [[[10, 10], [10, 10], [10, 10], [10, 10]]]}, "do not span"),
    ({"plates": [[[1e999, 0], [9, 0], [9, 9], [0, 9]]]}, "four corners"),
    ({"plates": [[[0, 0], [90, 0], [90, 40], [0, 40]]] * 2}, "too many"),
    ({"skip": True, "plates": []}, "either"),
    ({"skip": True, "reason": "bored"}, "reason"),
]


@pytest.mark.parametrize(("answer", "words"), BAD_ANSWERS)
def test_a_bad_answer_is_refused_in_words_and_the_task_stays(
    site: Any, answer: Any, words: str
) -> None:
    project = site.project(photos=1)
    person = site.person("worker", "Ada", (project,))
    task = person.desk(project)["tasks"][0]["id"]
    body = json.dumps({"client_id": "client-123456", "answer": answer})
    reply = person.post(
        f"/api/work/tasks/{task}/answer",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 422 and words in reply.json()["error"]
    assert person.desk(project)["tasks"][0]["id"] == task


def test_corners_in_any_order_leave_as_tl_tr_br_bl(site: Any) -> None:
    project = site.project(photos=1, overlap_min=1)
    person = site.person("worker", "Ada", (project,))
    task = person.desk(project)["tasks"][0]["id"]
    person.answer(task, {"plates": [[[200, 140], [100, 100], [100, 140], [200, 100]]]})
    body = rows(site, schema.log.c.body, kind="judgement")[0].body
    assert body["answer"]["plates"] == [[[100, 100], [200, 100], [200, 140], [100, 140]]]


def test_captcha_stands_between_tasks_until_it_is_solved(site: Any) -> None:
    project = site.project(photos=30, captcha_every=8)
    person = site.person("worker", "Ada", (project,))
    done = person.work(project, most=30)
    assert 6 <= done <= 11
    desk = person.desk(project)
    assert desk["state"] == "captcha" and desk["tasks"] == []
    held = rows(site, schema.assignments.c.id, state="leased")
    refused = person.answer(held[0].id)  # the preloaded task does not get round it
    assert (refused.status_code, refused.json()["code"]) == (403, "captcha_due")
    riddle_id = desk["captcha"]["id"]
    assert person.get(f"/api/work/captcha/{riddle_id}/picture").content[:4] == b"\x89PNG"
    assert person.get(f"/api/work/captcha/{riddle_id}/sound").content[:4] == b"RIFF"
    wrong = person.post(f"/api/work/captcha/{riddle_id}", json={"text": "?????"}).json()
    assert wrong["right"] is False and wrong["desk"]["captcha"]["id"] != riddle_id
    riddle = rows(site, schema.captchas.c.id, schema.captchas.c.sound)[0]
    right = person.post(f"/api/work/captcha/{riddle.id}", json={"text": riddle.sound}).json()
    assert right["right"] is True and right["desk"]["tasks"]


def test_captcha_accepts_either_form_and_nothing_else() -> None:
    riddle = captcha.Riddle("ACD34", "315")
    assert captcha.is_right(riddle, " acd34 ") and captcha.is_right(riddle, "3 1 5")
    assert not captcha.is_right(riddle, "") and not captcha.is_right(riddle, "ACD35")


def test_the_income_cap_ends_the_day_and_only_the_day(site: Any) -> None:
    project = site.project(photos=9, price=0.5, income_cap=2.0)
    person = site.person("worker", "Ada", (project,))
    assert person.work(project) == 4
    assert person.desk(project)["state"] == "cap"
    site.clock.tick(86_400)
    assert person.desk(project)["state"] == "work"


def test_practice_comes_first_with_feedback_in_words_and_without_pay(site: Any) -> None:
    project = site.project(photos=4, training=1, price=1.0)
    person = site.person("worker", "Ada", (project,))
    desk = person.desk(project)
    assert desk["state"] == "training" and len(desk["tasks"]) == 1
    task = desk["tasks"][0]["id"]
    truth = person.truth(task)
    if truth["plates"]:
        moved = [[[x + 60, y] if i == 0 else [x, y] for i, (x, y) in enumerate(truth["plates"][0])]]
        wrong = person.answer(task, {"plates": moved}).json()
        assert wrong["feedback"]["corners"] == [[False, True, True, True]]
        assert "Move the top left corner" in wrong["feedback"]["hints"][0]
        assert "left" in wrong["feedback"]["hints"][0].split("corner")[1]
        # Words and flags only: no number of the truth is in the reply.
        assert not any(ch.isdigit() for ch in json.dumps(wrong["feedback"]))
    right = person.answer(task).json()
    assert right["feedback"]["right"] and right["feedback"]["over"]
    assert right["desk"]["state"] == "work" and right["desk"]["progress"]["earned"] == 0


def test_three_wrong_practice_answers_move_on(site: Any) -> None:
    project = site.project(photos=4, training=1)
    person = site.person("worker", "Ada", (project,))
    task = person.desk(project)["tasks"][0]["id"]
    replies = [person.answer(task, {"skip": True}).json() for _ in range(3)]
    assert [r["feedback"]["over"] for r in replies] == [False, False, True]
    assert replies[-1]["desk"]["state"] == "work"


def test_pausing_a_project_stops_new_tasks_but_takes_what_is_on_the_desk(site: Any) -> None:
    project = site.project(photos=4)
    person = site.person("worker", "Ada", (project,))
    task = person.desk(project)["tasks"][0]["id"]
    boss = site.person("requester")
    assert boss.call("PATCH", f"/api/projects/{project}", json={"status": "paused"}).is_success
    reply = person.answer(task)
    assert reply.status_code == 200 and reply.json()["desk"]["state"] == "paused"


def test_rate_limits_answer_429_with_retry_after(site: Any) -> None:
    project = site.project(photos=1)
    person = site.person("worker", "Ada", (project,))
    site.context.limits.person = Limits(per_person=1.0).person
    replies = [person.get("/api/me") for _ in range(6)]
    assert [r.status_code for r in replies] == [200] * 4 + [429] * 2
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert replies[-1].headers["content-security-policy"]
