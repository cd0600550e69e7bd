from __future__ import annotations

import argparse
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="needs the extra 'batch'")
moto_server = pytest.importorskip("moto.server", reason="needs moto")

from werkzeug.serving import make_server  # noqa: E402

from fake_plates import has_magenta, make_fake, photo_bytes  # noqa: E402
from platehide.batch import stores  # noqa: E402
from platehide.batch.manifest import Manifest  # noqa: E402
from platehide.cli import batch as command  # noqa: E402
from platehide.errors import ImageError, UsageError  # noqa: E402

# Client libraries of the stores warn about their own future; that is not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Throttle:
    """Answers every n-th request with 503 SlowDown, as S3 does under load."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.every = 0
        self.requests = self.refused = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests += 1
        if self.every and self.requests % self.every == 0:
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        return self.app(environ, start)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Throttle]:
    app = Throttle(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    for bucket in ("photos", "hidden"):
        fs.call_s3("create_bucket", Bucket=bucket)
    yield app
    fs.rm("photos", recursive=True)
    if fs.find("hidden"):
        fs.rm("hidden", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


def batch(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ["-q", "--workers", "1", "--contact-sheet", ""]
    return command.batch(parser.parse_args([*map(str, arguments), *options]), make_fake)


def put(key: str, data: bytes) -> None:
    stores.RemoteStore("s3://photos").write(key, data)


def check_consistent() -> dict[str, dict[str, Any]]:
    """Every object has exactly one row that vouches for its bytes, and shows no plate."""
    store = stores.RemoteStore("s3://hidden/out")
    found: dict[str, dict[str, Any]] = {}
    written = []
    for key in store.walk():
        if key.startswith("_platehide/"):
            if "/part-" in key:
                for line in store.read(key, 1 << 30).splitlines():
                    row = json.loads(line)
                    assert row["key"] not in found, "one row a photo"
                    found[row["key"]] = row
        else:
            written.append(key)
    assert sorted(written) == sorted(k for k, r in found.items() if r["output"])
    for key in written:
        data = store.read(key, 1 << 30)
        assert found[key]["output_sha256"] == hashlib.sha256(data).hexdigest()
        assert not has_magenta(data)
    return found


def test_an_archive_on_s3_under_throttling(s3: Throttle) -> None:
    for n in range(10):
        put(f"archive/ad{n % 2}/{n}.jpg", photo_bytes("plate" if n % 3 else "none", seed=n))
    put("archive/empty.jpg", b"")
    put("archive/text.png", b"no photo")
    put("archive/readme.txt", b"left out")
    s3.every = 7
    assert batch("s3://photos/archive", "s3://hidden/out") == 1
    s3.every = 0
    assert s3.refused > 3
    found = check_consistent()
    assert len(found) == 12
    assert found["empty.jpg"]["code"] == "empty"
    assert found["text.png"]["code"] == "not_an_image"
    assert found["ad1/1.jpg"]["image"] == "s3://photos/archive/ad1/1.jpg"
    assert found["ad1/1.jpg"]["output"] == "s3://hidden/out/ad1/1.jpg"
    assert {r["status"] for k, r in found.items() if k.startswith("ad")} == {"hidden", "none"}
    put("archive/ad0/new.jpg", photo_bytes())
    with pytest.raises(UsageError, match="--resume"):
        batch("s3://photos/archive", "s3://hidden/out")
    assert batch("s3://photos/archive", "s3://hidden/out", "--resume") == 1
    assert len(check_consistent()) == 13


def test_a_photo_that_stays_throttled_is_set_aside_and_tried_again(
    s3: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses longer than patience lasts: an error row, mended by the next run."""
    monkeypatch.setattr(stores, "_ATTEMPTS", 2)
    monkeypatch.setattr(stores, "_FIRST_PAUSE_SECONDS", 0.01)
    put("a.jpg", photo_bytes())
    store = stores.RemoteStore("s3://photos")
    store._fs.retries = 1
    s3.every = 1
    with pytest.raises(ImageError) as caught:
        store.read("a.jpg", 1 << 20)
    assert caught.value.code == "unreadable"
    s3.every = 0
    assert store.read("a.jpg", 1 << 20) == photo_bytes()


def test_listing_goes_page_by_page(s3: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PAGE_KEYS", 4)
    for n in range(10):
        put(f"deep/{n}.jpg", b"x")
    put("deeper/no.jpg", b"x")
    before = s3.requests
    keys = list(stores.RemoteStore("s3://photos/deep").walk())
    assert sorted(keys) == [f"{n}.jpg" for n in range(10)]
    assert s3.requests - before == 3


def test_what_a_store_answers(s3: Throttle) -> None:
    store = stores.RemoteStore("s3://photos")
    store.write("x/a.jpg", b"12345")
    assert store.read("x/a.jpg", 5) == b"12345"
    assert store.has("x/a.jpg")
    assert not store.has("x/b.jpg")
    assert store.names("x") == ["a.jpg"]
    assert store.names("y") == []
    with pytest.raises(ImageError) as caught:
        store.read("x/a.jpg", 4)
    assert caught.value.code == "too_large"
    with pytest.raises(ImageError) as caught:
        store.read("x/none.jpg", 4)
    assert caught.value.code == "not_found"
    store.remove("x/a.jpg")
    store.remove("x/a.jpg")
    assert not store.has("x/a.jpg")


def test_rows_are_put_in_objects_as_they_come(
    s3: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platehide.batch.manifest._ROWS_A_PART", 3)
    manifest = Manifest("s3://hidden/out/_platehide")
    for n in range(7):
        manifest.add(0, {"key": f"{n}.jpg", "image": f"{n}.jpg", "status": "none"})
    assert len(manifest.parts(0)) == 2
    manifest.add(0, {"key": "1.jpg", "image": "1.jpg", "status": "hidden"})
    manifest.finish_shard(0, "jsonl", changed=True)
    assert len(manifest.parts(0)) == 1
    rows = Manifest("s3://hidden/out/_platehide").load(0, dict).rows
    assert len(rows) == 7
    assert rows["1.jpg"]["status"] == "hidden"


def test_a_store_that_cannot_be_used_is_a_clear_word(
    s3: Throttle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put("a/1.jpg", photo_bytes())
    with pytest.raises(UsageError, match=r"s3://missing.*bucket"):
        batch("s3://missing/a", tmp_path / "dst")
    with pytest.raises(UsageError, match="no photos found"):
        batch("s3://photos/nothing", tmp_path / "dst")
    with pytest.raises(UsageError, match="bucket"):
        batch("s3://photos/a", "s3://missing/out")
    assert not (tmp_path / "dst").exists()
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UsageError, match="credentials"):
        batch("s3://photos/a", tmp_path / "dst")
    monkeypatch.undo()


def test_what_fails_leaves_no_object_of_another_run(s3: Throttle) -> None:
    """A driver that was killed on a store may have lost the row of an output that is there."""
    put("a/1.jpg", photo_bytes("doubt"))
    stores.RemoteStore("s3://hidden/out").write("1.jpg", photo_bytes("plate"))
    assert batch("s3://photos/a", "s3://hidden/out") == 1
    assert check_consistent()["1.jpg"]["status"] == "unsure"
