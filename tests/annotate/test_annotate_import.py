"""Other tools' files put on a project's photos, through the API."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from annotate_support import SIZE, Person, Site, quad_at

from platehide.annotate import schema
from platehide.cli import main
from platehide.crowd.interchange import Annotation, FormatName, write
from platehide.types import as_quad

WAIT_SECONDS = 240


def annotation(number: int, *, shift: float = 0.0, **more: Any) -> Annotation:
    """A row for photo ``number`` of ``Site.project``."""
    plates = () if number % 5 == 0 else (as_quad(quad_at(number)) + shift,)
    return Annotation(f"cars/p{number:03d}.jpg", *SIZE, plates=plates, **more)


def file_of(folder: Path, form: FormatName, rows: list[Annotation]) -> bytes:
    path = folder / "file"
    write(path, rows, form)
    if path.is_file():
        return path.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for inner in sorted(path.rglob("*")):
            archive.write(inner, f"set/{inner.relative_to(path)}")
    return packed.getvalue()


def send(person: Person, project: str, data: bytes, **query: str) -> dict[str, Any]:
    reply = person.post(f"/api/projects/{project}/annotations", params=query, content=data)
    assert reply.status_code == 202, reply.text
    job = reply.json()
    end = time.monotonic() + WAIT_SECONDS
    while job["state"] == "running":
        assert time.monotonic() < end, job
        time.sleep(0.02)
        job = person.get(f"/api/projects/{project}/jobs/{job['id']}").json()
    found: dict[str, Any] = job
    return found


def photos(person: Person, project: str, purpose: str = "task") -> dict[str, dict[str, Any]]:
    reply = person.get(f"/api/projects/{project}/photos", params={"purpose": purpose})
    return {p["name"]: p for p in reply.json()["photos"]}


@pytest.mark.parametrize("form", ["toloka", "label-studio", "judgements"])
def test_answers_of_other_tools_become_labels(site: Site, tmp_path: Path, form: FormatName) -> None:
    requester, project = site.person("requester"), site.project(photos=5)
    rows = [
        annotation(n, shift=0.4 * k, worker=w, submitted_at=1.7e9 + 100 * n + k, seconds=9.0)
        for n in range(1, 6)
        for k, w in enumerate(("ann@tool", "bob"))
    ]
    data = file_of(tmp_path, form, rows)
    job = send(requester, project, data, format=form, name="batch.tsv")
    assert job["result"] == {"added": 10, "known": 0, "refused": []}, job
    site.settle()
    found = photos(requester, project)
    assert {p["status"] for p in found.values()} == {"agreed"}
    assert {p["judgements"] for p in found.values()} == {2}
    again = send(requester, project, data, format=form)
    assert again["result"] == {"added": 0, "known": 10, "refused": []}
    workers = requester.get(f"/api/projects/{project}/workers").json()
    assert sorted(w["name"] for w in workers) == ["imported: ann@tool", "imported: bob"]
    assert all(w["imported"] for w in workers)
    overview = requester.get(f"/api/projects/{project}/overview").json()
    assert overview["spend"] == 0.0
    for back in ("judgements", "toloka", "label-studio"):  # what we export is known here
        reply = requester.get(f"/api/projects/{project}/export", params={"format": back})
        job = send(requester, project, reply.content, format=back)
        assert job["result"] == {"added": 0, "known": 10, "refused": []}
    # All of it follows from the log, and nobody else is asked about settled photos.
    site.context.deriver.recompute(site.context.projects.find(project).id)
    assert {p["status"] for p in photos(requester, project).values()} == {"agreed"}
    assert site.person("worker", projects=(project,)).desk(project)["tasks"] == []


@pytest.mark.parametrize("form", ["coco", "cvat", "yolo-pose", "labels"])
def test_labels_of_other_tools_are_final(site: Site, tmp_path: Path, form: FormatName) -> None:
    requester, project = site.person("requester"), site.project(photos=5)
    data = file_of(tmp_path, form, [annotation(n, split="train") for n in range(1, 6)])
    job = send(requester, project, data, format=form)
    assert job["result"] == {"added": 5, "known": 0, "refused": []}, job
    site.settle()
    assert send(requester, project, data, format=form)["result"]["known"] == 5
    reply = requester.get(f"/api/projects/{project}/export", params={"format": "labels"})
    # What we export ourselves finds its photos again.
    job = send(requester, project, reply.content, format="labels")
    assert job["result"] == {"added": 0, "known": 5, "refused": []}
    labels = [json.loads(line) for line in reply.text.splitlines()]
    assert len(labels) == 5
    for row in labels:
        truth = site.truths[row["group"]]["plates"]
        assert [p["quad"] for p in row["plates"]] == [
            [pytest.approx(corner, abs=0.01) for corner in quad] for quad in truth
        ]


def test_known_answers_make_control_photos_that_check_imported_workers(
    site: Site, tmp_path: Path
) -> None:
    requester, project = site.person("requester"), site.project(photos=8)
    golden = [annotation(n, golden=annotation(n).plates) for n in (1, 2, 3, 4)]
    bad = [
        annotation(n, shift=80.0, worker="bot", submitted_at=1.7e9 + n, golden=annotation(n).plates)
        for n in (1, 2, 3, 4)
    ]
    bad += [annotation(n, shift=80.0, worker="bot", submitted_at=1.7e9 + n) for n in (6, 7)]
    job = send(requester, project, file_of(tmp_path, "toloka", golden + bad), format="toloka")
    assert job["result"]["refused"] == []
    site.settle()
    assert sorted(photos(requester, project, "control")) == [f"p00{n}.jpg" for n in (1, 2, 3, 4)]
    (worker,) = requester.get(f"/api/projects/{project}/workers").json()
    assert worker["banned"]
    assert "control tasks" in worker["reason"]
    assert {p["judgements"] for p in photos(requester, project).values()} == {0}


def test_proposals_and_training_photos(site: Site, tmp_path: Path) -> None:
    requester, project = site.person("requester"), site.project(photos=4)
    data = file_of(tmp_path, "coco", [annotation(1), annotation(2)])
    assert send(requester, project, data, format="coco", use="proposals")["result"]["added"] == 2
    assert photos(requester, project)["p001.jpg"]["proposal"]["plates"] == [quad_at(1)]
    job = send(requester, project, data, format="coco", use="training")
    assert job["result"]["added"] == 2
    assert sorted(photos(requester, project, "training")) == ["p001.jpg", "p002.jpg"]
    # A photo that somebody has seen cannot turn into a control photo behind their back.
    worker = site.person("worker", projects=(project,))
    worker.work(project, most=2)
    (tmp_path / "more").mkdir()
    rows = file_of(tmp_path / "more", "coco", [annotation(3), annotation(4)])
    job = send(requester, project, rows, format="coco", use="control")
    assert job["result"]["added"] == 0
    assert all("seen" in r["reason"] for r in job["result"]["refused"])


def test_rows_that_do_not_fit_are_refused_by_name(site: Site, tmp_path: Path) -> None:
    requester, project = site.person("requester"), site.project(photos=3)
    rows = [
        annotation(1),
        Annotation("p002.jpg", 320, 240, plates=(as_quad(quad_at(2)) / 2,)),
        Annotation("stranger.jpg", *SIZE, plates=(as_quad(quad_at(2)),)),
        Annotation("p003.jpg", *SIZE, plates=(as_quad(quad_at(3)) + 5000,)),
    ]
    job = send(requester, project, file_of(tmp_path, "coco", rows), format="coco")
    assert job["result"]["added"] == 1
    reasons = {r["name"]: r["reason"] for r in job["result"]["refused"]}
    assert "320x240 in the file, 640x480 in the project" in reasons["p002.jpg"]
    assert "no photo of this name" in reasons["stranger.jpg"]
    assert "outside the photo" in reasons["p003.jpg"]


@pytest.mark.parametrize(
    ("form", "data", "words"),
    [
        ("coco", b"{", "upload.json:1"),
        ("cvat", b"<a>", "upload.xml"),
        ("toloka", b"INPUT:image\tOUTPUT:result\nx\t[]\n", "upload.tsv:1: no ASSIGNMENT:worker_id"),
        ("labels", b'{"image": "p001.jpg"}\n', "upload.jsonl:1"),
        ("yolo-pose", b"not a zip", "not a ZIP"),
    ],
)
def test_files_that_cannot_be_read_name_line_and_reason(
    site: Site, form: str, data: bytes, words: str
) -> None:
    requester, project = site.person("requester"), site.project(photos=1)
    job = send(requester, project, data, format=form)
    assert job["state"] == "failed"
    assert words in job["result"]["error"]
    assert "/tmp" not in job["result"]["error"]


def test_a_zip_cannot_write_elsewhere_or_grow_without_bound(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requester, project = site.person("requester"), site.project(photos=1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.txt", "0 0 0 0 0")
    job = send(requester, project, packed.getvalue(), format="yolo-pose")
    assert "holds the name" in job["result"]["error"]
    monkeypatch.setattr("platehide.annotate.importing.MAX_UNPACKED_BYTES", 1000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels/train/a.txt", "0" * 5000)
    job = send(requester, project, packed.getvalue(), format="yolo-pose")
    assert "more than labels can take up" in job["result"]["error"]


def test_imported_workers_cannot_sign_in(site: Site, tmp_path: Path) -> None:
    requester, project = site.person("requester"), site.project(photos=1)
    rows = [annotation(1, worker="<b>x</b>\n", submitted_at=1.7e9)]
    send(requester, project, file_of(tmp_path, "judgements", rows), format="judgements")
    with site.context.db.read() as connection:
        users = connection.execute(
            sa.select(schema.users).where(schema.users.c.name.like("imported:%"))
        ).all()
        credentials = connection.execute(sa.select(schema.credentials.c.user_id)).scalars().all()
    assert [u.disabled for u in users] == [True]
    assert users[0].id not in credentials
    assert site.person("worker").post(
        f"/api/projects/{project}/annotations", params={"format": "coco"}, content=b"{}"
    ).status_code in (403, 404)


def test_the_command_imports_files_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from annotate_support import draw_photo

    (tmp_path / "photos").mkdir()
    for n in (1, 2):
        (tmp_path / f"photos/p00{n}.jpg").write_bytes(draw_photo(n, quad_at(n)))
    store = ["--data", str(tmp_path / "data")]
    assert main(["annotate", "project", "Cars", *store]) == 0
    assert main(["annotate", "add", "cars", str(tmp_path / "photos"), *store]) == 0
    write(tmp_path / "yolo", [annotation(1, split="train")], "yolo-pose")
    arguments = ["annotate", "import", "cars", str(tmp_path / "yolo"), "--format", "yolo-pose"]
    assert main([*arguments, *store]) == 0
    assert "added 1" in capsys.readouterr().out
    write(tmp_path / "a.json", [annotation(2), annotation(7)], "coco")
    arguments = ["annotate", "import", "cars", str(tmp_path / "a.json"), "--format", "coco"]
    assert main([*arguments, *store]) == 1
    assert "p007.jpg: no photo of this name" in capsys.readouterr().err
    assert main([*arguments, "--use", "answers", *store]) == 2
    assert "names no workers" in capsys.readouterr().err
    out = tmp_path / "labels"
    assert main(["annotate", "export", str(out), *store]) == 0
    assert len((out / "annotations.jsonl").read_text().splitlines()) == 2


def test_without_an_action_the_site_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from platehide.annotate import server

    seen: dict[str, Any] = {}

    def serve(context: Any, **options: Any) -> int:
        seen.update(options, public=context.public_url, roots=context.import_roots)
        context.db.close()
        return 0

    monkeypatch.setattr(server, "serve", serve)
    store = ["--data", str(tmp_path / "data")]
    assert main(["annotate", *store, "--port", "0", "--import-root", "/a"]) == 0
    assert (seen["port"], seen["host"], seen["roots"]) == (0, "127.0.0.1", ("/a",))
    bare = dict(seen)
    assert main(["annotate", "serve", *store, "--port", "0", "--import-root", "/a"]) == 0
    assert seen == bare
    assert main(["annotate", *store, "project", "Cars"]) == 2
    assert "--data: options go behind project" in capsys.readouterr().err
