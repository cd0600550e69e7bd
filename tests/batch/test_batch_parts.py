from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from platehide.batch import gallery
from platehide.batch.facts import RowFacts
from platehide.batch.listing import Entry, Grouping, Source, Spool
from platehide.batch.manifest import Manifest
from platehide.batch.plan import Redo, Unit, UnitPhoto, parse_model, plan_shard, without
from platehide.batch.stores import LocalStore, join_url, open_store
from platehide.batch.summary import Summary, confidence_class, width_class
from platehide.detection import Findings
from platehide.errors import PlateHideError, UsageError
from platehide.geometry import box_to_quad
from platehide.pixels import ArrayPixels, PixelSource
from platehide.types import Detection


def facts(key: str, status: str = "hidden", **changes: Any) -> RowFacts:
    row = {"key": key, "image": key, "status": status, "model": "m@1", "output": key} | changes
    return RowFacts.of(row)


def plan(keys: list[str], rows: dict[str, RowFacts], redo: Redo = Redo(), **options: Any) -> Any:  # noqa: B008
    grouping = options.get("grouping", Grouping())
    return plan_shard(0, map(Entry, keys), rows, grouping, redo)


def todo(found: Any) -> list[str]:
    return [p.entry.key for unit in found.units for p in unit.photos if p.known is None]


def test_nothing_listed_nothing_to_do() -> None:
    found = plan([], {})
    assert (found.units, found.todo, found.listed) == ([], 0, 0)


@pytest.mark.parametrize(
    ("row", "redo", "again"),
    [
        (facts("a.jpg"), Redo(), False),
        (facts("a.jpg", "none"), Redo(), False),
        (facts("a.jpg", "error", code="not_an_image"), Redo(), False),
        (facts("a.jpg", "unsure", code="unsure"), Redo(), False),
        (facts("a.jpg", "error", code="not_an_image"), Redo(failed=True), True),
        (facts("a.jpg", "unsure", code="unsure"), Redo(failed=True), True),
        (facts("a.jpg", "error", code="not_found"), Redo(), True),
        (facts("a.jpg", "error", code="worker_died"), Redo(), True),
        (facts("a.jpg"), Redo(missing=lambda key: True), True),
        (facts("a.jpg"), Redo(missing=lambda key: False), False),
        (facts("a.jpg"), Redo(older_than=("m", "1")), False),
        (facts("a.jpg"), Redo(older_than=("m", "1.0.1")), True),
        (facts("a.jpg"), Redo(older_than=("m", "10")), True),
        (facts("a.jpg", model="m@10"), Redo(older_than=("m", "9")), False),
        (facts("a.jpg"), Redo(older_than=("n", "0")), True),
        (facts("a.jpg"), Redo(older_than=("", "0.9")), False),
        (facts("a.jpg"), Redo(older_than=("", "2")), True),
        (facts("a.jpg", "unsure", code="unsure"), Redo(older_than=("m", "2")), True),
    ],
)
def test_what_is_done_again(row: RowFacts, redo: Redo, again: bool) -> None:
    assert todo(plan(["a.jpg"], {"a.jpg": row}, redo)) == (["a.jpg"] if again else [])


def test_units_are_ads_or_handfuls() -> None:
    keys = [f"ad/{n}.jpg" for n in range(5)] + [f"big/{n}.jpg" for n in range(70)]
    keys += [f"{n}.jpg" for n in range(20)] + ["ad/0.jpg"]
    found = plan(keys, {})
    assert sorted(todo(found)) == sorted(set(keys))
    assert found.listed == found.todo == 95
    groups = [(unit.group, len(unit.photos)) for unit in found.units]
    assert groups[0] == ("ad", 5)
    assert all(group is None and size <= 8 for group, size in groups[1:])


def test_known_photos_of_an_ad_come_along_when_it_gets_a_new_one() -> None:
    rows = {
        "ad/1.jpg": facts("ad/1.jpg", "none"),
        "ad/2.jpg": facts("ad/2.jpg"),
        "ad/3.jpg": facts("ad/3.jpg", "none", second_look=True),
        "other/1.jpg": facts("other/1.jpg", "none"),
    }
    found = plan(["ad/0.jpg", *rows], rows)
    (unit,) = found.units
    assert [(p.entry.key, p.known) for p in unit.photos] == [
        ("ad/0.jpg", None),
        ("ad/1.jpg", "none"),
    ]
    assert unit.plates_known
    assert (found.todo, len(found.kept)) == (1, 4)


def test_without() -> None:
    unit = Unit(0, tuple(UnitPhoto(Entry(f"{n}.jpg")) for n in range(3)))
    left = without(unit, frozenset({0, 2}))
    assert left is not None
    assert [p.entry.key for p in left.photos] == ["1.jpg"]
    assert without(unit, frozenset({0, 1, 2})) is None


def test_parse_model() -> None:
    assert parse_model("dense@1.2") == ("dense", "1.2")
    assert parse_model("dense") == ("dense", "")
    assert parse_model("0.2") == ("", "0.2")


def test_one_of_two_inputs_of_one_output_wins_in_whatever_order_they_are_listed() -> None:
    for keys in (["a.heic", "a.heic.jpg"], ["a.heic.jpg", "a.heic"]):
        found = plan(keys, {})
        assert todo(found) == ["a.heic"]
        assert [entry.key for entry in found.clashes] == ["a.heic.jpg"]


def test_spools_of_killed_drivers_are_removed(tmp_path: Path) -> None:
    abandoned, alive = tmp_path / "platehide-batch-999999999-x", tmp_path / "platehide-batch-1-x"
    for folder in (abandoned, alive, tmp_path / "platehide-batch-notes"):
        folder.mkdir()
    spool = Spool(Grouping(), None, str(tmp_path))
    spool.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [alive.name, "platehide-batch-notes"]


def test_photos_of_an_ad_and_of_one_output_share_a_shard() -> None:
    grouping = Grouping()
    shards = {grouping.shard(Entry(f"ad/{n}.jpg"), 97) for n in range(30)}
    assert len(shards) == 1
    assert grouping.shard(Entry("a.heic"), 97) == grouping.shard(Entry("a.heic.jpg"), 97)
    spread = {Grouping("off").shard(Entry(f"ad/{n}.jpg"), 97) for n in range(1000)}
    assert len(spread) == 97
    by_column = Grouping("column", "ad")
    assert by_column.group(Entry("x.jpg", None, {"ad": 5})) == "5"
    assert by_column.group(Entry("x.jpg")) is None


def test_spool_partitions_without_losing_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platehide.batch.listing.ROWS_PER_SHARD", 10)
    monkeypatch.setattr("platehide.batch.listing._BUFFERED_LINES", 7)
    entries = [Entry(f"ad{n // 4}/ü\n{n}.jpg", None, {"n": n}) for n in range(95)]
    spool = Spool(Grouping(), None, str(tmp_path))
    counts = list(spool.fill(entries))
    assert counts[-1] == spool.count == 95
    assert spool.shards == 10
    read = [entry for shard in range(10) for entry in spool.read(shard)]
    assert sorted(read, key=str) == sorted(entries, key=str)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_local_listing(tmp_path: Path) -> None:
    for name in ("a.jpg", "x/b.JPG", "x/y/c.txt", "dst/no.jpg"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_bytes(b"1")
    (tmp_path / "src/x/up").symlink_to(tmp_path / "src")
    (tmp_path / "src/x/self").symlink_to("self")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/d.jpg").write_bytes(b"1")
    (tmp_path / "src/out").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "src/x")
    source = Source(str(tmp_path / "src"))
    assert sorted(e.key for e in source.entries("dst")) == ["a.jpg", "out/d.jpg", "x/b.JPG"]
    assert source.left_out == 2


def test_names_below_a_store() -> None:
    bases = (".", "in/", "/", "s3://bucket/cars", "../x")
    assert [join_url(base, "a/b.jpg") for base in bases] == [
        "a/b.jpg",
        "in/a/b.jpg",
        "/a/b.jpg",
        "s3://bucket/cars/a/b.jpg",
        "../x/a/b.jpg",
    ]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "gone"))
    assert list(store.walk()) == []
    assert store.unreadable == [(str(tmp_path / "gone") + "/", "No such file or directory")]


def test_a_damaged_manifest_is_not_guessed_at(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"manifest\.json"):
        manifest.state()
    folder = tmp_path / "shard-00000"
    folder.mkdir()
    (folder / "part-000001.jsonl").write_text('{"key": "a"}\n{"key": "b\n{"key": "c"}\n')
    with pytest.raises(PlateHideError, match="line 2"):
        manifest.load(0, dict)


def test_without_the_extra_there_is_a_clear_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fsspec", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"platehide\[batch\]"):
        open_store("s3://bucket/x")
    with pytest.raises(UsageError, match=r"platehide\[batch\]"):
        list(Source(str(tmp_path / "list.parquet")).entries(None))


def test_summary_figures() -> None:
    summary = Summary()
    quad = [[0, 0], [60, 0], [60, 20], [0, 20]]
    plates = [{"quad": quad, "confidence": 0.83}]
    for n in range(40):
        summary.add(facts(f"{n}.jpg", plates=plates, ms={"cpu": 50.0}))
    summary.add(facts("least.jpg", plates=[{"quad": quad, "confidence": 0.31}]))
    summary.add(facts("u.jpg", "unsure", code="unsure", output=None))
    summary.add(facts("n.jpg", "none"))
    assert [f.key for f in summary.doubtful()][:2] == ["u.jpg", "least.jpg"]
    assert len(summary.doubtful()) == 24
    assert summary.widths == {"32–64": 41}
    assert summary.failed == 1
    assert summary.cpu_seconds() == pytest.approx(2.0)
    assert summary.cost_a_million(0.36) == pytest.approx(2.0 / 43 * 1e6 / 3600 * 0.36)
    assert [width_class(w) for w in (31.9, 32, 64, 128, 128.1)] == [
        "<32",
        "32–64",
        "64–128",
        "64–128",
        ">128",
    ]
    assert [confidence_class(c) for c in (0.0, 0.3, 0.99, 1.0)] == [
        "0.0–0.1",
        "0.3–0.4",
        "0.9–1.0",
        "0.9–1.0",
    ]


class _Spots:
    """Finds every box whose corners lie in the picture it is shown."""

    model = "spots@1"

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes, self.looked = boxes, 0

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        self.looked += 1
        assert conf == 0.25
        x, y = source.box[:2] if isinstance(source, gallery.RegionPixels) else (0, 0)
        width, height = source.size_wh
        found = []
        for x0, y0, x1, y1 in self.boxes:
            cut = max(x0 - x, 0), max(y0 - y, 0), min(x1 - x, width), min(y1 - y, height)
            if cut[0] < cut[2] and cut[1] < cut[3]:
                found.append(Detection(box_to_quad(cut), 0.3))
        return Findings(tuple(found))


@pytest.mark.parametrize("box", [(20, 30, 60, 50), (380, 200, 440, 230), (0, 0, 40, 20)])
def test_closer_look_finds_each_plate_once_and_whole(box: tuple[int, int, int, int]) -> None:
    spots = _Spots(box)
    found = gallery.CloserDetector(spots, 0.25).detect(
        ArrayPixels(np.zeros((480, 800, 3), np.uint8))
    )
    assert spots.looked == 5
    assert [d.quad.tolist() for d in found.plates] == [box_to_quad(box).tolist()]
    assert found.doubtful == ()


def test_tiles_cover_the_picture_and_small_ones_have_none() -> None:
    assert gallery.tiles(100, 800) == []
    seen = np.zeros((481, 801), int)
    for x0, y0, x1, y1 in gallery.tiles(801, 481):
        assert 0 <= x0 < x1 <= 801
        assert 0 <= y0 < y1 <= 481
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
