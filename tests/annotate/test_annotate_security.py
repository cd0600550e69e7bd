"""Roles, CSRF, invites, paths, cross-site scripting, limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from platehide.annotate.app import STATIC
from platehide.annotate.auth import SESSION_COOKIE
from platehide.annotate.db import Database
from platehide.annotate.limits import Buckets
from platehide.annotate.media import PhotoStore, clean_name
from platehide.errors import UsageError

ID = "0" * 24
REQUESTER_ONLY = [
    ("GET", "/api/projects"),
    ("POST", "/api/projects"),
    ("GET", "/api/projects/{p}"),
    ("PATCH", "/api/projects/{p}"),
    ("POST", "/api/projects/{p}/photos?name=a.jpg"),
    ("POST", "/api/projects/{p}/import"),
    ("GET", "/api/projects/{p}/photos"),
    ("POST", "/api/projects/{p}/controls"),
    ("POST", "/api/projects/{p}/annotations?format=coco"),
    ("POST", "/api/projects/{p}/rank"),
    ("GET", "/api/projects/{p}/overview"),
    ("GET", "/api/projects/{p}/workers"),
    ("POST", f"/api/projects/{{p}}/workers/{ID}/ban"),
    ("POST", f"/api/projects/{{p}}/workers/{ID}/unban"),
    ("POST", f"/api/projects/{{p}}/answers/{ID}/reject"),
    ("POST", "/api/projects/{p}/rules/dry-run"),
    ("GET", "/api/projects/{p}/rules/default"),
    ("GET", "/api/projects/{p}/export"),
    ("GET", f"/api/projects/{{p}}/jobs/{ID}"),
    ("POST", "/api/projects/{p}/invites"),
    ("GET", "/api/projects/{p}/invites"),
    ("DELETE", f"/api/invites/{ID}"),
    ("POST", "/api/tokens"),
    ("GET", "/api/tokens"),
    ("DELETE", f"/api/tokens/{ID}"),
]
EXPERT_ONLY = [
    ("GET", "/api/expert/projects"),
    ("GET", "/api/projects/{p}/review"),
    ("GET", f"/api/projects/{{p}}/photos/{ID}/file"),
    ("POST", f"/api/projects/{{p}}/photos/{ID}/decision"),
]
WORKER_ONLY = [
    ("GET", "/api/work/projects"),
    ("POST", "/api/work/projects/{p}/desk"),
    ("POST", f"/api/work/tasks/{ID}/answer"),
    ("GET", f"/api/work/tasks/{ID}/photo"),
    ("GET", f"/api/work/captcha/{ID}/picture"),
    ("GET", f"/api/work/captcha/{ID}/sound"),
    ("POST", f"/api/work/captcha/{ID}"),
]
OPEN = {"/api/join", "/api/me", "/api/leave"}


def test_every_route_belongs_to_a_role(site: Any) -> None:
    listed = {
        re.sub(r"\{[^}]*\}|0{24}", "*", path.split("?")[0])
        for _, path in REQUESTER_ONLY + EXPERT_ONLY + WORKER_ONLY
    }
    paths = site.client.get("/api/openapi.json").json()["paths"]
    routes = {re.sub(r"\{[^}]*\}", "*", path) for path in paths}
    assert routes - OPEN == listed


def test_roles_are_kept_apart(site: Any) -> None:
    project = site.project(photos=1)
    people = {
        role: site.person(role, role, (project,)) for role in ("worker", "expert", "requester")
    }
    for allowed, table in (
        ({"requester"}, REQUESTER_ONLY),
        ({"requester", "expert"}, EXPERT_ONLY),
        ({"worker"}, WORKER_ONLY),
    ):
        for method, path in table:
            url = path.format(p=project)
            assert site.client.request(method, url).status_code == 401, path
            for role, person in people.items():
                status = person.call(method, url, json={}).status_code
                assert (status == 403) == (role not in allowed), (role, method, path, status)


def test_strangers_learn_nothing_of_a_project(site: Any) -> None:
    project = site.project(photos=2)
    member = site.person("worker", "in", (project,))
    task = member.desk(project)["tasks"][0]["id"]
    stranger = site.person("worker", "out")
    assert stranger.get("/api/work/projects").json() == []
    for call in (
        stranger.post(f"/api/work/projects/{project}/desk"),
        stranger.get(f"/api/work/tasks/{task}/photo"),
        stranger.post(
            f"/api/work/tasks/{task}/answer",
            json={"client_id": "12345678", "answer": {"plates": []}},
        ),
        site.person("expert").get(f"/api/projects/{project}/review"),
    ):
        assert call.status_code == 404


def sign_in(site: Any, role: str, project: str | None) -> dict[str, Any]:
    invite = site.invite(role, project)
    reply = site.client.post("/api/join", json={"invite": invite, "name": "Ada"})
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def test_a_session_needs_its_csrf_token_and_the_same_origin(site: Any) -> None:
    project = site.project(photos=2)
    me = sign_in(site, "worker", project)
    desk = f"/api/work/projects/{project}/desk"
    token = {"X-CSRF-Token": me["csrf"]}
    assert site.client.post(desk).json()["code"] == "csrf"
    assert site.client.post(desk, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    evil = {**token, "Origin": "https://evil.example"}
    assert site.client.post(desk, headers=evil).json()["code"] == "csrf"
    assert site.client.post(desk, headers={**token, "Origin": "http://testserver"}).is_success
    assert site.client.post(desk, headers=token).is_success


def test_the_session_cookie_is_out_of_reach_of_scripts_and_ends_on_the_server(site: Any) -> None:
    reply = site.client.post(
        "/api/join", json={"invite": site.invite("worker", None), "name": "Ada"}
    )
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    secret = site.client.cookies[SESSION_COOKIE]
    site.client.post("/api/leave", headers={"X-CSRF-Token": reply.json()["csrf"]})
    site.client.cookies.set(SESSION_COOKIE, secret)
    assert site.client.get("/api/me").status_code == 401
    with site.context.db.read() as connection:
        dump = str(connection.exec_driver_sql("SELECT * FROM credentials").all())
    assert secret not in dump


def test_invites_expire_run_out_and_can_be_withdrawn(site: Any) -> None:
    project = site.project(photos=1)
    join = {"name": "Ada"}

    def status(invite: str) -> int:
        site.client.cookies.clear()
        return int(site.client.post("/api/join", json=join | {"invite": invite}).status_code)

    once = site.invite("worker", project)
    assert [status(once), status(once)] == [200, 410]
    old = site.invite("worker", project, lifetime_seconds=600.0)
    site.clock.tick(601)
    assert status(old) == 410
    site.client.cookies.clear()
    boss = site.person("requester")
    made = boss.post(f"/api/projects/{project}/invites", json={"role": "worker", "uses": 5})
    invite = made.json()
    assert invite["link"].startswith("http://testserver/join#")
    assert boss.call("DELETE", f"/api/invites/{invite['id']}").is_success
    assert status(invite["invite"]) == 410
    assert status("phi_guessed-guessed") == 410


def test_a_token_can_be_withdrawn_and_expires(site: Any) -> None:
    boss = site.person("requester")
    made = boss.post("/api/tokens", json={"role": "expert", "name": "script", "days": 1}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert site.client.get("/api/me", headers=headers).json()["role"] == "expert"
    site.clock.tick(86_401)
    assert site.client.get("/api/me", headers=headers).status_code == 401
    again = boss.post("/api/tokens", json={"role": "expert", "name": "script"}).json()
    boss.call("DELETE", f"/api/tokens/{again['id']}")
    headers = {"Authorization": f"Bearer {again['token']}"}
    assert site.client.get("/api/me", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fcli/annotate.py",
        "/api/work/tasks/..%2f..%2f..%2fetc%2fpasswd/photo",
        "/api/work/tasks/%2e%2e/photo",
        "/api/projects/x/photos/..%2f..%2fsecret/file",
    ],
)
def test_paths_do_not_climb(site: Any, path: str) -> None:
    person = site.person("worker")
    reply = person.get(path)
    assert reply.status_code in {403, 404, 422}
    assert "from __future__" not in reply.text and "root:" not in reply.text


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "a/../../b.jpg", "", "a\nb.jpg", "C:/x"]
)
def test_photo_names_with_tricks_are_refused(site: Any, name: str) -> None:
    with pytest.raises(UsageError):
        clean_name(name)


def test_blob_names_are_hashes_or_nothing(tmp_path: Path) -> None:
    store = PhotoStore(tmp_path)
    for name in ("../../etc/passwd", "a" * 64, "a" * 64 + ".exe", "A" * 64 + ".jpg", "x/y.jpg"):
        with pytest.raises(UsageError):
            store.path(name)


def test_the_api_imports_only_from_its_roots(site: Any, tmp_path: Path) -> None:
    project = site.project(photos=1)
    boss = site.person("requester")
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "link").symlink_to(outside)
    site.context.import_roots = (str(inside), "s3://bucket/cars")
    for source, status in (
        (str(inside), 202),
        (str(outside), 403),
        (f"{inside}/../out", 403),
        (str(inside / "link"), 403),
        ("file:///etc", 403),
        ("s3://bucket/cars-secret", 403),
        ("s3://bucket/cars/../x", 403),
    ):
        reply = boss.post(f"/api/projects/{project}/import", json={"source": source})
        assert reply.status_code == status, source


def test_pages_allow_no_inline_code_and_no_markup_is_built_from_text(site: Any) -> None:
    page = site.client.get("/work")
    csp = page.headers["content-security-policy"]
    assert "unsafe" not in csp and "default-src 'none'" in csp and "frame-ancestors 'none'" in csp
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            assert not re.search(r"\son\w+=|<style|<script(?![^>]*src=)|style=", text), file.name
        if file.suffix == ".js":
            bad = r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
            assert not re.search(bad, text), file.name
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), f"{file.name} loads from outside"


def test_names_and_instructions_travel_as_text(site: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    project = site.project(photos=1)
    boss = site.person("requester")
    changed = boss.call(
        "PATCH", f"/api/projects/{project}", json={"name": evil, "instructions": evil}
    )
    assert changed.is_success
    person = site.person("worker", "<script>alert(1)</script>", (project,))
    listed = person.get("/api/work/projects")
    assert listed.headers["content-type"] == "application/json"
    assert listed.json()[0]["instructions"] == evil
    table = boss.get(f"/api/projects/{project}/workers")
    assert table.json()[0]["name"].startswith("<script>")
    assert table.headers["x-content-type-options"] == "nosniff"


def test_bodies_have_limits_declared_or_not(site: Any) -> None:
    person = site.person("worker")
    big = b"x" * (2 << 20)
    url = f"/api/work/tasks/{ID}/answer"
    assert person.post(url, content=big).status_code == 413

    def drip() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    assert person.post(url, content=drip()).status_code == 413


def test_wrong_secrets_from_one_address_are_slowed_down(site: Any) -> None:
    site.context.limits.attempts = Buckets(12 / 60, 12)
    replies = [
        site.client.get("/api/me", headers={"Authorization": f"Bearer guess{i}"}) for i in range(14)
    ]
    assert [r.status_code for r in replies] == [401] * 12 + [429] * 2


def test_the_log_cannot_be_changed(site: Any) -> None:
    project = site.project(photos=2)
    site.person("worker", "Ada", (project,)).work(project, most=1)
    for statement in ("UPDATE log SET at = 0", "DELETE FROM log"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            site.context.db.write() as connection,
        ):
            connection.exec_driver_sql(statement)


def test_unusable_databases_are_refused_in_words(tmp_path: Path) -> None:
    for url, words in (
        ("nonsense", "not a database URL"),
        ("mysql://x/y", "only SQLite and Postgres"),
        ("sqlite://", "name a file"),
        (f"sqlite:///{tmp_path}/no/such/folder/x.db", "cannot open"),
    ):
        with pytest.raises(UsageError, match=words):
            Database(url)
