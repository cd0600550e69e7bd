"""What the routes answer, each status and code once."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serve_client import Running, multipart
from serve_fakes import BUG, NONE, PLATE, TWO, UNSURE, jpeg

from platehide.serve.logs import LINE_BYTES

JSON = {"Accept": "application/json"}


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def huge_png() -> bytes:
    """A valid header that declares 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    size = (60000).to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def test_hide_covers_the_plate_and_nothing_else(service: Running) -> None:
    photo = jpeg(PLATE)
    answer = service.ask("POST", "/v1/hide", photo)
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-plate-status"] == "hidden"
    assert answer.headers["x-plate-count"] == "1"
    assert answer.headers["x-model-version"] == "fake@1"
    assert answer.headers["x-request-id"]
    change = np.abs(picture(photo).astype(int) - picture(answer.body)).max(axis=2)
    assert (change[148:154, 135:185] > 0).mean() > 0.9
    assert change[:100].max() < 40  # far from the plate at most a re-encoding


def test_hide_multipart_is_the_same_as_raw(service: Running) -> None:
    body, headers = multipart(("photo", "car.jpg", jpeg()))
    answer = service.ask("POST", "/v1/hide", body, headers)
    raw = service.ask("POST", "/v1/hide", jpeg())
    assert (answer.status, answer.body) == (200, raw.body)


def test_options_may_be_form_fields_and_the_query_wins(service: Running) -> None:
    dark = service.ask("POST", "/v1/hide?style=solid&variant=dark&cover_id=default", jpeg()).body
    body, headers = multipart(
        ("photo", "car.jpg", jpeg()), ("style", None, b"solid"), ("variant", None, b"dark"),
        ("cover", None, b"default"), ("conf", None, b"0.5"), ("text", None, b""),
    )  # fmt: skip
    assert service.ask("POST", "/v1/hide", body, headers).body == dark
    light = service.ask("POST", "/v1/hide?variant=light", body, headers).body
    assert light == service.ask("POST", "/v1/hide?style=solid&variant=light", jpeg()).body != dark
    body, headers = multipart(("photo", "a.jpg", jpeg(TWO)), ("image_base64", None, b"true"))
    assert "image_base64" in service.ask("POST", "/v1/hide", body, headers | JSON).json
    body, headers = multipart(("photo", "a.jpg", jpeg(TWO)), ("conf", None, b"0.85"))
    assert len(service.ask("POST", "/v1/detect", body, headers).json["plates"]) == 1


def test_json_is_the_report_row(service: Running) -> None:
    row = service.ask("POST", "/v1/hide", jpeg(TWO), JSON).json
    assert row["status"] == "hidden"
    assert row["model"] == "fake@1"
    assert row["output"] is None
    assert len(row["plates"]) == len(row["painted"]) == 2
    assert {"decode", "detect", "cover", "encode", "total"} <= row["ms"].keys()
    assert "image_base64" not in row
    assert np.allclose(row["plates"][0]["quad"][0], [130, 144])
    both = service.ask("POST", "/v1/hide?image_base64=true", jpeg(TWO), JSON).json
    assert picture(base64.b64decode(both["image_base64"])).shape == (240, TWO, 3)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/*,application/json;q=0.5", "image/jpeg"),
        ("application/json, */*;q=0.1", "application/json"),
        ("application/json;q=nonsense", "image/jpeg"),
    ],
)
def test_accept(service: Running, accept: str, kind: str) -> None:
    answer = service.ask("POST", "/v1/hide", jpeg(), {"Accept": accept})
    assert answer.headers["content-type"] == kind


def test_none_answers_the_scrubbed_photo(service: Running) -> None:
    answer = service.ask("POST", "/v1/hide", jpeg(NONE))
    assert answer.status == 200
    assert answer.headers["x-plate-status"] == "none"
    assert answer.headers["x-plate-count"] == "0"
    assert picture(answer.body).shape == (240, NONE, 3)


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_unsure_never_answers_a_photo(service: Running, accept: str) -> None:
    answer = service.ask("POST", "/v1/hide?image_base64=true", jpeg(UNSURE), {"Accept": accept})
    assert answer.status == 422
    assert answer.headers["x-plate-status"] == "unsure"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["code"] == "unsure"
    assert problem["status"] == 422
    assert "image_base64" not in problem
    assert len(answer.body) < 1000


def noise() -> bytes:
    return bytes(np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8))


BAD = [
    ("/v1/hide", b"", {}, 400, "empty"),
    ("/v1/hide", b"not an image at all", {}, 415, "not_an_image"),
    ("/v1/hide", noise(), {}, 415, "not_an_image"),
    ("/v1/hide", jpeg()[:900], {}, 422, "truncated"),
    ("/v1/hide", huge_png(), {}, 422, "too_large"),
    ("/v1/hide", bytes(301 << 10), {}, 413, "body_too_large"),
    ("/v1/hide?conf=2", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide?conf=nan", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide?style=rainbow", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide?verify=maybe", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide?style=blur&text=hello", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide?styel=blur", jpeg(), {}, 400, "invalid_parameter"),
    ("/v1/hide", multipart(("photo", "a", jpeg()), ("conf", None, b"7"))[0], multipart()[1], 400,
     "invalid_parameter"),
    ("/v1/hide", multipart(("photo", "a", jpeg()), ("model", None, b"x"))[0], multipart()[1], 404,
     "unknown_model"),
    ("/v1/hide", multipart(("photo", "a", jpeg()), ("styel", None, b"x"))[0], multipart()[1], 400,
     "invalid_parameter"),
    ("/v1/hide?model=other", jpeg(), {}, 404, "unknown_model"),
    ("/v1/hide?cover=other", jpeg(), {}, 404, "unknown_cover"),
    ("/v1/hide", b"x", {"Content-Type": "multipart/form-data"}, 400, "invalid_multipart"),
    ("/v1/hide", b"--cut\r\n", {"Content-Type": "multipart/form-data; boundary=cut"}, 400,
     "invalid_multipart"),
    ("/v1/hide", multipart(("x", None, b"1"))[0], multipart()[1], 400, "empty"),
    ("/v1/hide", multipart(("photo", "a", jpeg()), ("photo", "b", jpeg()))[0], multipart()[1], 413,
     "too_many_photos"),
    ("/v1/hide", multipart(("photo", "a", jpeg()), ("cover", "c.png", b"no"))[0], multipart()[1],
     422, "bad_cover"),
    ("/v1/hide", jpeg(BUG), {}, 500, "internal"),
    ("/v1/detect", b"", {}, 400, "empty"),
    ("/v1/detect", b"no", {}, 415, "not_an_image"),
    ("/v1/cover", jpeg(), {}, 422, "bad_quads"),
    ("/v1/cover?quads=x", jpeg(), {}, 422, "bad_quads"),
    ("/v1/cover?quads=[[[1,1],[2,2],[3,3],[4,4]]]", jpeg(), {}, 422, "bad_quads"),
    ("/v1/cover?quads=[[[9e9,1],[2,2],[3,3],[4,4]]]", jpeg(), {}, 422, "bad_quads"),
    ("/v1/cover?quads=[[[0,0],[1e999,0],[9,9],[0,9]]]", jpeg(), {}, 422, "bad_quads"),
    ("/v1/cover?quads=[[[900,900],[990,900],[990,990],[900,990]]]", jpeg(), {}, 422, "unsure"),
    ("/v1/jobs", b"{}", {}, 400, "invalid_parameter"),
    ("/v1/jobs", b"{", {}, 400, "bad_request"),
    ("/nowhere", b"x", {}, 404, "not_found"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "headers", "status", "code"), BAD)
def test_refusals(
    service: Running, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = service.ask("POST", path, body, {"Content-Type": "image/jpeg", **headers})
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert service.ask("GET", "/healthz").status == 200


def test_work_that_takes_too_long_is_a_504() -> None:
    with Running(["--timeout", "0.5", "--queue-deadline", "0.5"]) as running:
        with running.held():
            answer = running.ask("POST", "/v1/hide", jpeg())
        assert (answer.status, answer.json["code"]) == (504, "timeout")
        assert answer.headers["content-type"] == "application/problem+json"
        running.until_metric("platehide_working", 0)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/hide"), ("PUT", "/v1/hide"), ("POST", "/metrics")]
)
def test_method_not_allowed(service: Running, method: str, path: str) -> None:
    answer = service.ask(method, path)
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert "allow" in answer.headers


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_head_is_get_without_the_body(service: Running, path: str) -> None:
    answer = service.ask("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


def test_request_id_is_kept_or_made(service: Running) -> None:
    assert (
        service.ask("GET", "/healthz", None, {"X-Request-Id": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    made = service.ask("GET", "/healthz", None, {"X-Request-Id": "no good!"}).headers
    assert len(made["x-request-id"]) == 32


def test_detect_paints_nothing(service: Running) -> None:
    row = service.ask("POST", "/v1/detect", jpeg(TWO)).json
    assert row["status"] == "hidden"
    assert row["painted"] == []
    assert len(row["plates"]) == 2
    assert service.ask("POST", "/v1/detect?conf=0.85", jpeg(TWO)).json["plates"][1:] == []
    unsure = service.ask("POST", "/v1/detect", jpeg(UNSURE))
    assert (unsure.status, unsure.json["status"]) == (200, "unsure")


def test_cover_by_hand_covers_exactly_the_marked_quads(service: Running) -> None:
    quads = "[[[40,40],[120,40],[120,60],[40,60]]]"
    answer = service.ask("POST", f"/v1/cover?quads={quads}", jpeg(UNSURE))
    assert answer.status == 200
    assert answer.headers["x-model-version"] == "manual@1"
    change = np.abs(picture(jpeg(UNSURE)).astype(int) - picture(answer.body)).max(axis=2)
    assert (change[44:56, 44:116] > 0).mean() > 0.9
    assert change[120:].max() < 40
    body, headers = multipart(("photo", "a.jpg", jpeg()), ("quads", None, b"[]"))
    none = service.ask("POST", "/v1/cover", body, headers)
    assert (none.status, none.headers["x-plate-status"]) == (200, "none")


def test_covers_differ_and_an_upload_is_used(service: Running) -> None:
    logo = io.BytesIO()
    Image.new("RGBA", (520, 110), (200, 30, 30, 255)).save(logo, "PNG")
    body, headers = multipart(("photo", "a.jpg", jpeg()), ("cover", "l.png", logo.getvalue()))
    red = picture(service.ask("POST", "/v1/hide", body, headers).body)[150, 160].astype(int)
    assert red[0] > red[1] + 60
    plain = service.ask("POST", "/v1/hide?style=solid", jpeg()).body
    dark = service.ask("POST", "/v1/hide?style=solid&variant=dark", jpeg()).body
    assert picture(plain)[150, 160].mean() > picture(dark)[150, 160].mean() + 40
    listed = service.ask("GET", "/v1/covers").json
    assert listed["default"] == "default"
    preview = service.ask("GET", "/" + listed["covers"][0]["preview"])
    assert Image.open(io.BytesIO(preview.body)).width > 100
    assert service.ask("GET", "/v1/covers/nope/preview").json["code"] == "unknown_cover"


def test_batch_answers_each_photo_for_itself(service: Running) -> None:
    body, headers = multipart(
        ("photo", "a.jpg", jpeg(PLATE)),
        ("photo", "../b.jpg", jpeg(UNSURE)),
        ("photo", "c.jpg", b"no photo"),
        ("photo", "a.jpg", jpeg(NONE)),
    )
    answer = service.ask("POST", "/v1/hide:batch", body, headers)
    results = answer.json["results"]
    assert [r["status"] for r in results] == ["hidden", "unsure", "error", "none"]
    assert ["image_base64" in r for r in results] == [True, False, False, True]
    assert results[2]["code"] == "not_an_image"
    assert answer.json["failed"] == 2
    packed = service.ask("POST", "/v1/hide:batch", body, headers | {"Accept": "application/zip"})
    archive = zipfile.ZipFile(io.BytesIO(packed.body))
    assert archive.namelist() == ["001-a.jpg", "004-a.jpg", "report.jsonl"]
    rows = [json.loads(line) for line in archive.read("report.jsonl").splitlines()]
    assert [r["output"] for r in rows] == ["001-a.jpg", None, None, "004-a.jpg"]
    body, headers = multipart(*[("photo", "a.jpg", jpeg())] * 5)
    assert service.ask("POST", "/v1/hide:batch", body, headers).json["code"] == "too_many_photos"


def test_pages_and_documents_come_from_here(service: Running) -> None:
    for path in ("/", "/docs", "/static/app.js", "/static/app.css", "/static/editor.js"):
        answer = service.ask("GET", path)
        assert answer.status == 200
        assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in answer.body
    policy = service.ask("GET", "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert service.ask("GET", "/static/..%2fapp.py").status == 404
    document = service.ask("GET", "/openapi.json").json
    assert {"/v1/hide", "/v1/detect", "/v1/hide:batch", "/v1/jobs", "/v1/cover", "/healthz",
            "/readyz", "/metrics"} <= document["paths"].keys()  # fmt: skip


def test_logs_have_ids_and_sizes_and_no_image_data(service: Running) -> None:
    service.ask("POST", "/v1/hide", jpeg(), {"X-Request-Id": "log-test-1"})

    def mine() -> list[dict[str, Any]]:
        return [e for e in service.events("request") if e["request_id"] == "log-test-1"]

    (line,) = service.until(mine, "the log line")  # written after the answer was sent
    assert line["outcome"] == "hidden"
    assert line["model"] == "fake@1"
    assert line["bytes_in"] == len(jpeg())
    assert line["status"] == 200
    assert max(len(line) for line in service.logged().encode().splitlines()) < LINE_BYTES
