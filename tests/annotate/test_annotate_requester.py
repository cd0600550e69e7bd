"""Watching, reviewing, deciding: what requesters and experts do to a project."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from annotate_support import draw_photo, quad_at
from PIL import Image

from platehide.annotate import schema
from platehide.annotate.exporting import judgement_rows, label_rows
from platehide.annotate.faults import BadAnswer
from platehide.annotate.media import Incoming, iter_source, read_picture
from platehide.annotate.projects import split_of
from platehide.annotate.proposals import rank_photos, uncertainty
from platehide.annotate.settings import ProjectSettings
from platehide.cli import main
from platehide.crowd.aggregate import aggregate
from platehide.crowd.judgements import parse_judgement
from platehide.detection import Findings
from platehide.errors import ImageError, UsageError
from platehide.pixels import PixelSource
from platehide.types import Detection

WRONG = {"plates": [[[5, 5], [60, 5], [60, 30], [5, 30]]]}


def states(site: Any) -> dict[str, int]:
    s = schema.photo_state
    with site.context.db.read() as connection:
        rows = connection.execute(sa.select(s.c.status, sa.func.count()).group_by(s.c.status))
        return {status: int(n) for status, n in rows}


def test_a_ban_drops_the_answers_and_reopens_the_photos_and_can_be_lifted(site: Any) -> None:
    project = site.project(photos=4)
    boss = site.person("requester")
    first, second = (site.person("worker", n, (project,)) for n in ("first", "second"))
    first.work(project)
    second.work(project)
    site.settle()
    before = states(site)
    assert before["agreed"] == 4
    spend = boss.get(f"/api/projects/{project}/overview").json()["spend"]
    assert boss.post(
        f"/api/projects/{project}/workers/{second.user}/ban", json={"reason": "copies"}
    ).is_success
    site.settle()
    figures = boss.get(f"/api/projects/{project}/overview").json()
    assert figures["photos"]["open"] == 4 and figures["spend"] < spend
    assert figures["workers"]["banned"] == 1
    assert second.desk(project)["state"] == "banned"
    third = site.person("worker", "third", (project,))
    assert len(third.desk(project)["tasks"]) == 2  # the photos are handed out again
    assert boss.post(f"/api/projects/{project}/workers/{second.user}/unban").is_success
    site.settle()
    assert states(site)["agreed"] == 4
    table = {w["name"]: w for w in boss.get(f"/api/projects/{project}/workers").json()}
    assert not table["second"]["banned"] and table["second"]["judgements"] == 4


def test_control_tasks_ban_a_bot_and_not_the_careful(site: Any) -> None:
    project = site.project(photos=30, controls=20, control_share_new=0.5)
    boss = site.person("requester")
    good = site.person("worker", "good", (project,))
    bot = site.person("worker", "bot", (project,))
    for _ in range(24):
        good.work(project, most=1)
        if bot.desk(project)["tasks"]:
            bot.work(project, most=1, answer=WRONG)
        site.settle()
    table = {w["name"]: w for w in boss.get(f"/api/projects/{project}/workers").json()}
    assert table["bot"]["banned"] and "control tasks" in table["bot"]["reason"]
    assert table["bot"]["earned"] == 0
    assert not table["good"]["banned"] and table["good"]["golden_right"] >= 4


def test_disagreement_goes_to_the_expert_whose_word_is_final(site: Any) -> None:
    project = site.project(photos=1, overlap_max=3)
    other = {"plates": [[[300, 300], [400, 300], [400, 330], [300, 330]]]}
    for number, answer in enumerate((None, WRONG, other)):
        site.person("worker", f"w{number}", (project,)).work(project, answer=answer)
        site.settle()
    assert states(site) == {"escalated": 1}
    expert = site.person("expert", "Eve", (project,))
    queue = expert.get(f"/api/projects/{project}/review?status=escalated").json()
    photo = queue["photos"][0]
    assert len(photo["answers"]) == 3
    assert not any("worker" in a for a in photo["answers"])  # answers are judged, not people
    assert expert.get(f"/api/projects/{project}/photos/{photo['photo']}/file").is_success
    bad = {"kind": "expert", "plates": [[[0, 0], [1, 1]]]}
    url = f"/api/projects/{project}/photos/{photo['photo']}/decision"
    assert expert.post(url, json=bad).status_code == 422
    truth = site.truths["p001.jpg"]["plates"]
    assert expert.post(url, json={"kind": "expert", "plates": truth}).is_success
    site.settle()
    assert states(site) == {"agreed": 1}
    assert label_rows(site.context.db, project)[0]["plates"][0]["quad"] == truth[0]
    # New answers or a look at the whole crowd do not overrule a person.
    site.context.deriver.refresh(project)
    assert label_rows(site.context.db, project)[0]["plates"][0]["quad"] == truth[0]
    assert expert.post(url, json={"kind": "reopen"}).is_success
    site.settle()
    assert site.person("worker", "w9", (project,)).desk(project)["tasks"]


def test_a_rejected_answer_is_not_paid_and_its_photo_is_asked_again(site: Any) -> None:
    project = site.project(photos=1)
    boss = site.person("requester")
    for name in ("first", "second"):
        site.person("worker", name, (project,)).work(project)
    site.settle()
    review = boss.get(f"/api/projects/{project}/review").json()["photos"][0]
    answer = review["answers"][1]["id"]
    assert boss.post(f"/api/projects/{project}/answers/{answer}/reject", json={}).is_success
    site.settle()
    review = boss.get(f"/api/projects/{project}/review").json()["photos"][0]
    assert [a["counts"] for a in review["answers"]] == [True, False]
    assert review["status"] == "open"
    assert boss.get(f"/api/projects/{project}/overview").json()["judgements"]["dropped"] == 1
    with site.context.db.read() as connection:  # the log still has it
        g = schema.log
        kinds = connection.execute(sa.select(g.c.kind).order_by(g.c.seq)).scalars().all()
    assert kinds == ["judgement", "judgement", "drop"]


def test_rules_dry_run_says_what_would_have_happened_and_changes_nothing(site: Any) -> None:
    project = site.project(photos=12)
    boss = site.person("requester")
    site.person("worker", "quick", (project,)).work(project, seconds=2.0)
    site.settle()
    rules = (
        "rules:\n- name: hasty\n  collector: {type: submit_time, fast_seconds: 5}\n"
        "  conditions: [{field: fast, operator: '>=', value: 5}]\n  action: {type: ban}\n"
    )
    reply = boss.post(f"/api/projects/{project}/rules/dry-run", json={"rules": rules})
    assert reply.is_success, reply.text
    assert "would have banned 1 of 1" in reply.json()[0]["sentence"]
    assert reply.json()[0]["decisions"][0]["name"] == "quick"
    assert not boss.get(f"/api/projects/{project}/workers").json()[0]["banned"]
    # In earnest they look back at what has happened already.
    assert boss.call(
        "PATCH", f"/api/projects/{project}", json={"settings": {"rules": rules}}
    ).is_success
    site.settle()
    assert boss.get(f"/api/projects/{project}/workers").json()[0]["banned"]
    broken = boss.post(f"/api/projects/{project}/rules/dry-run", json={"rules": "a: [b"})
    assert broken.status_code == 422 and "not YAML" in broken.json()["error"]


def test_the_figures_add_up(site: Any) -> None:
    project = site.project(photos=5, price=0.01)
    boss = site.person("requester")
    empty = boss.get(f"/api/projects/{project}/overview").json()
    assert empty["cost_per_photo"] is None and empty["eta_seconds"] is None
    for name in ("a", "b"):
        site.person("worker", name, (project,)).work(project)
    site.settle()
    figures = boss.get(f"/api/projects/{project}/overview").json()
    assert figures["judgements"]["count"] == 10
    assert figures["spend"] == pytest.approx(0.1)
    assert figures["cost_per_photo"] == pytest.approx(0.1 / figures["photos"]["agreed"])
    assert sum(figures["series"]["judgements"]) == 10
    assert sum(figures["agreement"]) == figures["photos"]["agreed"] == 5
    assert figures["rate_per_hour"] > 0


def test_settled_photos_become_control_photos_that_their_annotators_never_get(site: Any) -> None:
    project = site.project(photos=3)
    people = [site.person("worker", n, (project,)) for n in ("a", "b")]
    for person in people:
        person.work(project)
    site.settle()
    boss = site.person("requester")
    assert boss.post(f"/api/projects/{project}/controls", json={"share": 1.0}).json() == {
        "turned": 3
    }
    assert boss.post(f"/api/projects/{project}/controls", json={"share": 1.0}).json() == {
        "turned": 0
    }
    figures = boss.get(f"/api/projects/{project}/overview").json()
    assert figures["purposes"]["control"] == 3 and figures["photos"]["agreed"] == 3
    desk = site.context.desk
    with site.context.db.read() as connection:
        for person in people:
            assert desk._unseen(connection, person.user, project, "control") is None
        fresh = site.person("worker", "c", (project,))
        assert desk._unseen(connection, fresh.user, project, "control") is not None


# Photos in and labels out ------------------------------------------------------------------


def test_upload_refuses_what_is_no_photo_and_knows_a_photo_again(site: Any) -> None:
    project = site.project(photos=1)
    boss = site.person("requester")
    url = f"/api/projects/{project}/photos"
    data = draw_photo(77, quad_at(77))
    assert boss.post(f"{url}?name=new.jpg", content=data).json()["added"] is True
    assert boss.post(f"{url}?name=again.jpg", content=data).json()["added"] is False
    bad = boss.post(f"{url}?name=bad.jpg", content=b"GIF89a nonsense")
    assert bad.status_code == 422 and bad.json()["error"].startswith("bad.jpg")
    control = boss.post(f"{url}?name=c.jpg&purpose=control", content=draw_photo(78, None))
    assert control.status_code == 422 and "known answer" in control.json()["error"]
    truth = json.dumps({"plates": [quad_at(78)]})
    made = boss.post(
        url,
        params={"name": "c.jpg", "purpose": "control", "truth": truth},
        content=draw_photo(78, quad_at(78)),
    )
    assert made.status_code == 201


def test_a_stored_photo_is_upright_and_carries_no_metadata() -> None:
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010F] = "SecretCamera"
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    picture = read_picture(out.getvalue(), "x.jpg")
    assert (picture.width, picture.height) == (20, 40)
    assert b"SecretCamera" not in picture.data
    with Image.open(io.BytesIO(picture.data)) as stored:
        assert stored.size == (20, 40) and stored.getexif().get(0x0112, 1) == 1
    with pytest.raises(ImageError, match=r"^y\.jpg: "):
        read_picture(b"", "y.jpg")


def test_a_folder_or_url_is_read_with_its_annotations(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for number in range(3):
        (folder / "images" / f"{number}.jpg").write_bytes(draw_photo(number, None))
    (folder / "notes.txt").write_text("no photo")
    assert [i.name for i in iter_source(str(folder))] == [f"images/{n}.jpg" for n in range(3)]
    row = {"image": "images/1.jpg", "plates": [], "group": "g"}
    (folder / "annotations.jsonl").write_text(json.dumps(row) + "\n")
    assert [(i.name, i.row["group"]) for i in iter_source(str(folder))] == [("images/1.jpg", "g")]
    pytest.importorskip("fsspec", reason="needs the package fsspec")
    assert [i.name for i in iter_source(f"file://{folder}")] == ["images/1.jpg"]
    with pytest.raises(UsageError, match="no such folder"):
        list(iter_source(str(tmp_path / "absent")))
    (folder / "annotations.jsonl").write_text("{broken\n")
    with pytest.raises(UsageError, match=r"annotations\.jsonl:1"):
        list(iter_source(str(folder)))


def test_exports_in_every_format(site: Any) -> None:
    project = site.project(photos=5)
    for name in ("a", "b"):
        site.person("worker", name, (project,)).work(project)
    site.settle()
    boss = site.person("requester")
    url = f"/api/projects/{project}/export?format="
    with zipfile.ZipFile(io.BytesIO(boss.get(url + "layout").content)) as archive:
        names = archive.namelist()
    assert "cars/annotations.jsonl" in names and sum("images/p" in n for n in names) == 5
    lines = boss.get(url + "judgements").text.splitlines()
    judgements = [parse_judgement(json.loads(line), "line") for line in lines]
    assert {label.status for label in aggregate(judgements).labels} == {"agreed"}
    for form in ("labels", "workers", "toloka", "label-studio", "cvat", "coco", "yolo-pose"):
        reply = boss.get(url + form)
        assert reply.is_success and len(reply.content) > 50, (form, reply.text[:300])
        assert "attachment" in reply.headers["content-disposition"]
    assert boss.get(url + "nonsense").status_code == 422


def test_an_empty_project_exports_nothing_in_words(site: Any) -> None:
    project = site.project(photos=1)
    reply = site.person("requester").get(f"/api/projects/{project}/export?format=layout")
    assert reply.status_code == 422 and "no photo is settled" in reply.json()["error"]


def test_splits_are_fixed_by_the_group_and_near_their_shares() -> None:
    splits = [split_of(f"group-{n}", 0.1, 0.2) for n in range(4000)]
    assert splits == [split_of(f"group-{n}", 0.1, 0.2) for n in range(4000)]
    shares = {s: splits.count(s) / 4000 for s in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.025)
    assert split_of("group-0", 0.0, 0.0) == "train"


# Active learning ---------------------------------------------------------------------------


class FakeDetector:
    """Confidence by the mean colour of the photo's left upper corner."""

    model = "fake@1"

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        shade = int(source.region((0, 0, 8, 8)).mean())
        if shade < 50:
            return Findings(())
        quad = np.array([[10, 10], [90, 12], [90, 40], [10, 38]], dtype=float)
        return Findings((Detection(quad, round(min(0.99, shade / 255), 2)),))


def test_the_most_uncertain_photo_comes_first_with_a_proposal(site: Any) -> None:
    project = site.context.projects.create(
        "Active",
        settings=ProjectSettings(captcha_every=0, training_tasks=0, proposal_share=0.9),
    )
    for name, shade in (("sure.png", 250), ("doubt.png", 128), ("dark.png", 10)):
        out = io.BytesIO()
        Image.new("RGB", (100, 50), (shade,) * 3).save(out, "PNG")
        site.context.projects.add_photo(project, Incoming(name, out.getvalue(), {}))
    report = rank_photos(site.context.db, site.context.photos, project, FakeDetector())
    assert (report["ranked"], report["proposed"]) == (3, 2)
    site.context.projects.change(project, status="active")
    boss = site.person("requester")
    found = boss.get(f"/api/projects/{project}/photos").json()["photos"]
    order = sorted(found, key=lambda p: -p["priority"])
    assert [p["name"] for p in order] == ["doubt.png", "dark.png", "sure.png"]
    desk = site.person("worker", "Ada", (project,)).desk(project)
    a, p = schema.assignments, schema.photos
    with site.context.db.read() as connection:
        first = connection.execute(
            sa.select(p.c.name)
            .join(a, a.c.photo_id == p.c.id)
            .where(a.c.id == desk["tasks"][0]["id"])
        ).scalar_one()
    assert first == "doubt.png"


def test_uncertainty_is_largest_in_the_middle() -> None:
    quad = np.array([[0, 0], [9, 0], [9, 3], [0, 3]], dtype=float)
    values = [uncertainty([Detection(quad, c)]) for c in (0.02, 0.5, 0.98)]
    assert values == pytest.approx([0.0784, 1.0, 0.0784])
    assert uncertainty([]) == pytest.approx(0.19)


# Settings and the command line -------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prize": 1}, "unknown prize"),
        ({"price": "much"}, "price takes float"),
        ({"price": -1.0}, "price"),
        ({"overlap_min": 4, "overlap_max": 2}, "overlap"),
        ({"posterior": 1.0}, "posterior"),
        ({"captcha_every": 2}, "captcha_every"),
        ({"several_plates": 1}, "several_plates takes bool"),
        ({"split_val": 0.6, "split_test": 0.6}, "split"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ProjectSettings.from_json(values)


def test_a_truth_off_the_photo_is_refused_by_name(site: Any) -> None:
    project = site.project(photos=1)
    item = Incoming("c.jpg", draw_photo(5, None), {})
    with pytest.raises(BadAnswer, match=r"^c\.jpg: "):
        site.context.projects.add_photo(
            project,
            item,
            purpose="control",
            truth={"plates": [[[0, 0], [5000, 0], [5000, 9], [0, 9]]]},
        )


def test_the_command_line_from_folder_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        (photos / f"{number}.jpg").write_bytes(draw_photo(number, quad_at(number)))
    (photos / "broken.jpg").write_bytes(b"nothing")
    store = ["--data", str(tmp_path / "data")]
    assert main(["annotate", "project", "My Cars", "--set", "price=0.01", *store]) == 0
    assert capsys.readouterr().out.strip() == "my-cars"
    assert main(["annotate", "add", "my-cars", str(photos), *store]) == 1
    captured = capsys.readouterr()
    assert "added 2" in captured.out and "broken.jpg" in captured.err
    assert main(["annotate", "start", "my-cars", *store]) == 0
    assert main(["annotate", "invite", "my-cars", "--uses", "3", *store]) == 0
    assert "/join#phi_" in capsys.readouterr().out
    assert main(["annotate", "token", "script", *store]) == 0
    assert main(["annotate", "init", *store]) == 0
    assert main(["annotate", "status", *store]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :])["photos"]["total"] == 2
    assert main(["annotate", "export", str(tmp_path / "out"), *store]) == 2
    assert "no photo is settled" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["annotate", "recompute", *store]) == 0
    assert main(["annotate", "project", "x", "--set", "nonsense=1", *store]) == 2
    assert "unknown nonsense" in capsys.readouterr().err


def test_judgement_rows_hold_only_what_counts_unless_asked(site: Any) -> None:
    project = site.project(photos=2)
    site.person("worker", "a", (project,)).work(project)
    bad = site.person("worker", "b", (project,))
    bad.work(project)
    site.context.projects.decide(project, "x", "ban", body={"worker": bad.user})
    site.settle()
    db = site.context.db
    assert len(judgement_rows(db, project)) == 2
    assert len(judgement_rows(db, project, all_answers=True)) == 4
