"""The benchmark of reading and writing, on a small picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from jpeg_samples import scene, sequential

from platehide.evaluate import benchmark_io
from platehide.jpeg import AVAILABLE


@pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part (gcc)")
def test_the_table_compares_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_io, "SIZES", {"small": (640, 480)})
    photo, broken = tmp_path / "a.jpg", tmp_path / "broken.jpg"
    photo.write_bytes(sequential(scene(320, 240), "420"))
    broken.write_bytes(b"nothing")
    cache = tmp_path / "cache"
    report = benchmark_io.run([photo, broken], cache, repeats=1)
    assert list(report["skipped"]) == [str(broken)]
    (row,) = report["rows"]
    assert row["edit"] == "lossless"
    assert row["outside_psnr_db"]["platehide"] == float("inf")
    assert 30 < row["outside_psnr_db"]["simplejpeg"] < 90
    assert 30 < row["outside_psnr_db"]["opencv"] < 90
    assert abs(row["scan_change"]["platehide"]) < 0.2
    assert len(list(cache.iterdir())) == 1
    summary = report["summary"]["small"]
    ratio = row["cpu_ms"]["platehide"] / row["cpu_ms"]["simplejpeg"]
    assert summary["cpu_ratio_to"]["simplejpeg"] == pytest.approx(ratio)
    text = benchmark_io.table(report)
    assert "infinite" in text
    assert "1 of 1 photos lossless" in text
    assert str(broken) in text
