"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from serve_client import Running, multipart
from serve_fakes import jpeg

from platehide.cli import main
from platehide.errors import UsageError
from platehide.serve.auth import Buckets, new_key, read_keys


def test_new_key_gives_a_key_and_keeps_only_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--new-api-key", "shop-1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    key, line = shown[0].split(": ")[1], shown[1].split(": ")[1]
    assert line == f"shop-1:sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in line
    assert main(["serve", "--new-api-key", "no good"]) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no key in it"),
        ("# only a comment\n", "no key in it"),
        ("name:md5:abc", "line 1"),
        (f"a:sha256:{'0' * 64}\n\nb:sha256:{'1' * 63}", "line 3"),
        (f"a:sha256:{'0' * 64}\na:sha256:{'1' * 64}", "twice"),
        (f"a:sha256:{'0' * 64}:1.2.3", "rate"),
        (f"a:sha256:{'0' * 64}:1:root", "scopes"),
    ],
)
def test_bad_key_files(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_keys(file)


def test_buckets_refill_at_the_rate_and_hold_over_processes(tmp_path: Path) -> None:
    one, other = Buckets(tmp_path / "b"), Buckets(tmp_path / "b")
    taken = [bucket.take("a", 0.001, 3, 1) for bucket in (one, other, one, other)]
    assert taken[:3] == [0, 0, 0]
    assert taken[3] == pytest.approx(1000, rel=0.01)
    assert one.take("b", 0.001, 3, 3) == 0
    assert one.take("c", 1000, 3, 3) == 0
    assert one.take("c", 1e9, 3, 3) == 0


def test_keys_scopes_and_rates_over_http(tmp_path: Path) -> None:
    keys, lines = {}, []
    for name, rest in (("full", ""), ("slow", ":0.01"), ("photo", "::photos")):
        keys[name], line = new_key(name)
        lines.append(line + rest)
    file = tmp_path / "keys"
    file.write_text("\n".join(lines))
    body, headers = multipart(("photo", "a.jpg", jpeg()))
    with Running(["--api-keys", str(file)]) as running:
        for bad in (
            {},
            {"Authorization": "Bearer nope"},
            {"Authorization": f"Basic {keys['full']}"},
        ):
            answer = running.ask("POST", "/v1/hide", jpeg(), bad)
            assert (answer.status, answer.json["code"]) == (401, "unauthorized")
            assert "Bearer" in answer.headers["www-authenticate"]
        for good in ({"Authorization": f"Bearer {keys['full']}"}, {"X-Api-Key": keys["full"]}):
            assert running.ask("POST", "/v1/hide", jpeg(), good).status == 200
        answer = running.ask("POST", "/v1/jobs", body, headers | {"X-Api-Key": keys["photo"]})
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        slow = [running.ask("POST", "/v1/hide", jpeg(), {"X-Api-Key": keys["slow"]})
                for _ in range(7)]  # fmt: skip
        assert [a.status for a in slow] == [200] * 5 + [429] * 2
        assert slow[-1].json["code"] == "rate_limited"
        assert int(slow[-1].headers["retry-after"]) > 30
        # another key's job is not there
        job = running.ask("POST", "/v1/jobs", body, headers | {"X-Api-Key": keys["full"]}).json[
            "id"
        ]
        mine = running.ask("GET", f"/v1/jobs/{job}", None, {"X-Api-Key": keys["full"]})
        other = running.ask("GET", f"/v1/jobs/{job}", None, {"X-Api-Key": keys["slow"]})
        assert (mine.status, other.status) == (200, 404)
        # what a person or a probe needs stays open
        for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/models"):
            assert running.ask("GET", path).status == 200
        assert running.ask("GET", "/openapi.json").json["components"]["securitySchemes"]
        assert running.metric("platehide_rejections_total", reason="unauthorized") == 4
        # the line is written once the answer has left
        running.until(lambda: '"key": "full"' in running.logged(), "the key's name in the log")
        assert not [name for name, key in keys.items() if key in running.logged()]
