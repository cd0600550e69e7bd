"""Bad files, bad configs, formats and the two small commands."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from platehide.cli import main
from platehide.errors import UsageError
from platehide.experiment.config import load_config, parse_config
from platehide.experiment.data import DataError, prepare, read_table

CONFIG: dict[str, Any] = {
    "experiment": "e",
    "variants": {"control": 0.5, "candidate": 0.5},
    "horizon": {"units": 2},
    "primary": {"numerator": "contacts", "denominator": "views"},
}
EXPOSURES = [
    {"unit": "007", "variant": "control", "time": "2026-11-02T10:00:00Z"},
    {"unit": "8", "variant": "candidate", "time": "2026-11-02T11:00:00+01:00"},
]
OUTCOMES = [
    {"unit": "007", "contacts": 1, "views": 10, "time": "2026-11-03"},
    {"unit": "007", "contacts": 2, "views": 20, "time": "2026-11-04"},
    {"unit": "8", "contacts": 4, "views": 10, "time": "2026-11-03"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv", ".parquet"])
def test_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    data = prepare(
        read_table(write(tmp_path / f"e{suffix}", EXPOSURES)),
        read_table(write(tmp_path / f"o{suffix}", OUTCOMES)),
        parse_config(CONFIG),
    )
    assert data.units["variant"].to_dict() == {"007": "control", "8": "candidate"}
    assert data.units["first"].dt.hour.tolist() == [10, 10]  # both in UTC
    sums = data.rows.groupby("unit")[["contacts", "views"]].sum()
    assert sums.loc["007"].tolist() == [3, 30] and sums.loc["8"].tolist() == [4, 10]


def test_a_folder_of_exposures_is_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the service writes it: Parquet with timestamps, and lines that are not Parquet yet."""
    folder = tmp_path / "log"
    folder.mkdir()
    frame = pd.DataFrame(EXPOSURES[:1])
    frame.assign(time=pd.to_datetime(frame["time"])).to_parquet(folder / "a.parquet")
    write(folder / "a.open.jsonl", EXPOSURES[:1])  # just being converted: counts once
    write(folder / "b.open.jsonl", EXPOSURES[1:])
    (folder / "c.open.jsonl").touch()
    (folder / "d.tmp").write_bytes(b"half")
    o = write(tmp_path / "o.jsonl", OUTCOMES)
    table = read_table(folder)
    assert table.frame["unit"].tolist() == ["007", "8"]
    data = prepare(table, read_table(o), parse_config(CONFIG))
    assert data.units["variant"].to_dict() == {"007": "control", "8": "candidate"}
    assert data.units["first"].dt.hour.tolist() == [10, 10]
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    asked = ["experiment", "analyze", str(folder), str(o), "--config", str(config), "--json"]
    assert main([*asked, "--no-report"]) == 3  # too few sellers for a verdict
    hashes = json.loads(capsys.readouterr().out)["inputs"]
    assert len(hashes[str(folder)]) == 64
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.parquet files"):
        read_table(tmp_path / "empty")


def test_numeric_ids_unix_times_and_words(tmp_path: Path) -> None:
    e = write(tmp_path / "e.jsonl", [{"unit_id": 7, "arm": "control", "ts": 1793000000}])
    o = tmp_path / "o.csv"
    o.write_text("unit,contacts,views\n7,true,\n7,FALSE,3\n\n", encoding="utf-8")
    data = prepare(read_table(e), read_table(o), parse_config(CONFIG))
    assert data.units.index.tolist() == ["7"]
    assert data.rows["contacts"].tolist() == [1.0, 0.0]
    assert data.rows["views"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.jsonl", '{"unit": "a", "variant": "control"}\n{"unit": \n', "e.jsonl:2: not JSON"),
        ("e.jsonl", '\n\n[1]\n', "e.jsonl:3: a row is an object, got list"),
        ("e.jsonl", '{"unit": "a", "variant": "control"}\n{"unit": "b"}\n', "e.jsonl:2: variant"),
        ("e.jsonl", '{"unit": "", "variant": "control"}\n', "e.jsonl:1: unit is empty"),
        ("e.jsonl", '{"unit": 1.5, "variant": "control"}\n', "e.jsonl:1: unit is an id, got 1.5"),
        ("e.jsonl", '{"unit": "a", "variant": "x"}\n', "e.jsonl:1: variant 'x' is not one of"),
        ("e.jsonl", '{"seller": "a", "variant": "x"}\n', "no column unit or unit_id (there are"),
        ("e.jsonl", '{"unit":"a","variant":"control","time":"soon"}\n', "e.jsonl:1: time is"),
        ("e.csv", "unit,variant\na,control\nb,control,3\n", "e.csv: "),
        ("e.csv", "unit,variant\na,control\n\n,control\n", "e.csv:4: unit is empty"),
        ("o.csv", "unit,contacts,views\na,1,2\na,many,2\n", "o.csv:3: contacts is a number"),
        ("o.csv", "unit,contacts,views\na,1,inf\n", "o.csv:2: views is a number, got 'inf'"),
        ("o.csv", "unit,contacts\na,1\n", "o.csv: no column views (there are: unit, contacts)"),
        ("o.jsonl", '{"unit": "a", "contacts": [1], "views": 1}\n', "o.jsonl:1: contacts is a nu"),
        ("o.parquet", "PAR1 and nothing else", "o.parquet: not Parquet"),
        ("o.jsonl", b"\xff\xfe{}", "o.jsonl: not UTF-8"),
        ("o.csv", b"unit\n\xff", "o.csv: not UTF-8"),
    ],
)  # fmt: skip
def test_bad_files_name_their_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | bytes,
    says: str,
) -> None:
    e = write(tmp_path / "e.jsonl", EXPOSURES)
    o = write(tmp_path / "o.jsonl", OUTCOMES)
    bad = tmp_path / name
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    e, o = (bad, o) if name.startswith("e") else (e, bad)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    code = main(
        ["experiment", "analyze", str(e), str(o), "--config", str(config), "--out", str(tmp_path)]
    )
    assert code == 1
    captured = capsys.readouterr()
    assert says in captured.err and captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["none.jsonl", "o.xlsx", "folder.csv"])  # the folder is empty
def test_no_such_file_is_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    e = write(tmp_path / "e.jsonl", EXPOSURES)
    (tmp_path / "folder.csv").mkdir()
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    files = [str(e), str(tmp_path / name)]
    assert main(["experiment", "analyze", *files, "--config", str(config)]) == 2
    assert name in capsys.readouterr().err


def test_the_folder_of_the_report_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write(tmp_path / "e.csv", EXPOSURES)), str(write(tmp_path / "o.csv", OUTCOMES))]
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    out = tmp_path / "reports" / "today"
    asked = ["experiment", "analyze", *files, "--config", str(config), "--out"]
    assert main([*asked, str(out)]) == 3  # too few sellers for a verdict
    assert {p.name for p in out.iterdir()} == {"e.report.html", "e.verdict.json"}
    assert main([*asked, str(config)]) == 2
    assert "--out" in capsys.readouterr().err


def test_no_exposure_of_this_experiment(tmp_path: Path) -> None:
    rows = [r | {"experiment": "other"} for r in EXPOSURES]
    tables = [read_table(write(tmp_path / n, r)) for n, r in (("e.csv", rows), ("o.csv", OUTCOMES))]
    with pytest.raises(DataError, match="no exposure of experiment 'e'"):
        prepare(tables[0], tables[1], parse_config(CONFIG))


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    e = write(tmp_path / "e.csv", [{"seller": "a", "unit": "no", "group": "control"}])
    o = write(tmp_path / "o.csv", [{"seller": "a", "contacts": 1, "views": 2}])
    config = parse_config(CONFIG | {"columns": {"unit": "seller", "variant": "group"}})
    data = prepare(read_table(e), read_table(o), config)
    assert data.units.index.tolist() == ["a"] and len(data.rows) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": 1}, "unknown key colour"),
        ({"experiment": None}, "experiment is a text"),
        ({"variants": {"control": 0.5}}, "two or more"),
        ({"control": "x"}, "control 'x' is not a variant"),
        ({"treatment": "control"}, "treatment 'control'"),
        ({"variants": {"control": 0.0, "candidate": 1.0}}, "control has no share"),
        ({"variants": {"control": 0.2, "a": 0.4, "b": 0.4}}, "treatment is a text"),
        ({"horizon": {}}, "horizon needs end, days or units"),
        ({"horizon": {"days": 3}}, "days needs a start"),
        ({"horizon": {"units": 1}}, "at least 2"),
        ({"horizon": {"until": 1}}, "unknown key until"),
        ({"start": "2026-02-01", "horizon": {"end": "2026-01-01"}}, "before its start"),
        ({"start": "soon"}, "start is a date"),
        ({"alpha": 0.6}, "alpha lies in"),
        ({"alpha": True}, "alpha is a number"),
        ({"peeking": "yes"}, "peeking is true or false"),
        ({"peeking": True, "horizon": {"end": "2027-01-01"}}, "peeking needs horizon: units"),
        ({"primary": None}, "primary is a mapping"),
        ({"primary": {"name": "x"}}, "needs numerator"),
        ({"primary": {"quantile": 0.95}}, "needs numerator"),
        ({"primary": {"column": "x"}}, "go together"),
        ({"primary": {"quantile": 1.0, "column": "x"}}, "between 0 and 1"),
        ({"primary": {"numerator": "a", "better": "up"}}, "higher or lower"),
        ({"primary": {"numerator": "a", "margin": -1}}, "margin lies in"),
        ({"primary": {"numerator": "a", "margin": 1, "margin_absolute": 1}}, "not both"),
        ({"primary": {"numerator": "a", "cuped": "pre_period"}}, "needs a start"),
        ({"primary": {"numerator": "a", "cuped": {"numerator": "b", "x": 1}}}, "unknown key x"),
        ({"guardrails": [{"numerator": "a"}]}, "needs max_harm"),
        ({"guardrails": {"numerator": "a"}}, "is a list"),
        ({"secondary": [{"numerator": "contacts", "name": "contacts"}]}, "two metrics"),
        ({"quality": {"min_units": 0}}, "at least 2"),
        ({"columns": {"who": "x"}}, "unknown key who"),
        ({"models": {"x": "m@1"}}, "models names a variant"),
        ({"bootstrap": 5}, "at least 100"),
        ({"salt": 5}, "salt is a text"),
    ],
)  # fmt: skip
def test_bad_configs_name_their_key(change: dict[str, Any], says: str) -> None:
    config = {k: v for k, v in (CONFIG | change).items() if v is not None}
    with pytest.raises(UsageError, match=r"exp\.yaml|variants") as error:
        parse_config(config, "exp.yaml")
    assert says in str(error.value)


def test_config_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: [1\nb: 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"not YAML \(line 2\)"):
        load_config(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a mapping"):
        load_config(path)
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    path.write_text(
        yaml.safe_dump(CONFIG | {"start": "2026-11-02T01:00:00+01:00", "horizon": {"days": 7}}),
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.start is not None and config.start.isoformat() == "2026-11-02T00:00:00+00:00"
    assert config.end is not None and config.end.isoformat() == "2026-11-09T00:00:00+00:00"


def test_assign(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["experiment", "assign", "--experiment", "e1", "--variants", "control=.5,candidate=.5"]
    assert main([*base, "seller-0", "seller-1"]) == 0
    assert capsys.readouterr().out == "seller-0\tcontrol\nseller-1\tcandidate\n"
    units = tmp_path / "units.txt"
    units.write_text("".join(f"seller-{i}\n" for i in range(1000)), encoding="utf-8")
    assert main([*base, "--units", str(units), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == {"experiment": "e1", "unit": "seller-1", "variant": "candidate"}
    assert main([*base, "--units", str(units), "--summary", "--traffic", "0.5"]) == 0
    table = dict(line.split("\t")[:2] for line in capsys.readouterr().out.splitlines())
    assert 400 < int(table["takes no part"]) < 600
    assert sum(map(int, table.values())) == 1000


def test_assign_from_stdin_and_config(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"experiment": "e1"}), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("seller-0\nseller-1\n"))
    assert main(["experiment", "assign", "--config", str(path), "--units", "-"]) == 0
    assert capsys.readouterr().out == "seller-0\tcontrol\nseller-1\tcandidate\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--experiment", "e", "u"], "needs --config"),
        (["--experiment", "e", "--variants", "a=1", "u"], "two or more"),
        (["--experiment", "e", "--variants", "a=x,b=1", "u"], "NAME=SHARE"),
        (["--experiment", "e", "--variants", "a=.5,a=.5", "u"], "twice"),
        (["--experiment", "e", "--variants", "a=.5,b=.5"], "no unit"),
        (["--experiment", "e", "--variants", "a=.5,b=.5", "--units", "/none"], "No such file"),
        (["--experiment", "e", "--variants", "a=.5,b=.5", "--traffic", "2", "u"], "traffic"),
    ],
)
def test_assign_refuses(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["experiment", "assign", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["experiment", "plan", "--effect-relative", "0.1"]
    known = ["--baseline", "0.2", "--photos-per-seller", "20", "--icc", "0.05"]
    assert main([*base, *known, "--sellers-per-day", "100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["units"] == 2 * plan["units_control"] and plan["days"] == 14
    assert main([*base, *known, "--sellers-per-day", "100"]) == 0
    assert f"horizon: {{units: {plan['units']}, days: 14}}" in capsys.readouterr().out
    pilot = tmp_path / "pilot.csv"
    rows = "".join(f"s{i % 50},{i % 7},10,2026-10-{1 + i % 20:02}\n" for i in range(400))
    pilot.write_text("unit,contacts,views,time\n" + rows, encoding="utf-8")
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {"peeking": True}), encoding="utf-8")
    assert main([*base, "--pilot", str(pilot), "--config", str(config), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["peeking"] and plan["source"] == "pilot of 50 sellers" and plan["days"] % 7 == 0


def test_plan_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["experiment", "plan", "--effect", "0.1"]
    assert main([*base, "--baseline", "0.2"]) == 2
    assert "--photos-per-seller, --icc" in capsys.readouterr().err
    pilot = tmp_path / "pilot.csv"
    pilot.write_text("unit,contacts\na,1\n", encoding="utf-8")
    assert main([*base, "--pilot", str(pilot)]) == 2
    assert "--numerator" in capsys.readouterr().err
    assert main([*base, "--pilot", str(pilot), "--numerator", "contacts"]) == 2
    assert "at least 30" in capsys.readouterr().err
    assert main([*base, "--pilot", str(pilot), "--numerator", "clicks"]) == 1
    assert "no column clicks" in capsys.readouterr().err
