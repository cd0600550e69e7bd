"""From files to a verdict, through the command line as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from platehide.assignment import assign
from platehide.cli import main

START = pd.Timestamp("2026-11-02", tz="UTC")
VARIANTS = {"control": 0.5, "candidate": 0.5}
CONFIG: dict[str, Any] = {
    "experiment": "cover-fit",
    "variants": VARIANTS,
    "start": "2026-11-02",
    "horizon": {"days": 14, "units": 1800},
    "bootstrap": 200,
    "primary": {"name": "contact rate", "numerator": "contacts", "denominator": "views"},
    "guardrails": [
        {"name": "p95 latency", "quantile": 0.95, "column": "latency_ms", "max_harm": 0.15},
        {
            "name": "complaint share",
            "numerator": "complaints",
            "denominator": "views",
            "max_harm_absolute": 0.01,
        },
    ],
}


def world(
    *,
    seed: int = 0,
    n: int = 2000,
    lift: float = 1.25,
    latency: float = 1.0,
    complaints: float = 1.0,
    days: float = 13.5,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exposures and outcomes (before and after) of ``n`` sellers, several rows each."""
    rng = np.random.default_rng(seed)
    unit = np.array([f"s{i:05d}" for i in range(n)])
    variant = np.array([assign("cover-fit", u, VARIANTS) for u in unit])
    first = START + pd.to_timedelta(rng.uniform(0, days, n), unit="D")
    rate = rng.beta(8, 32, n)
    treated = variant == "candidate"
    exposures = pd.DataFrame(
        {
            "ts": first,
            "experiment": "cover-fit",
            "unit": unit,
            "arm": variant,
            "model": np.where(treated, "dense@2", "dense@1"),
        }
    )
    rows = []
    for hours, now in ((-48, False), (-24, False), (1, True), (5, True)):
        views = rng.integers(5, 40, n)
        lifted = rate * np.where(treated & now, lift, 1.0)
        rows.append(
            pd.DataFrame(
                {
                    "unit": unit,
                    "ts": (first if now else START) + pd.Timedelta(hours=hours),
                    "contacts": rng.binomial(views, np.minimum(1, lifted)),
                    "views": views,
                    "complaints": rng.binomial(
                        views, np.where(treated & now, 0.02 * complaints, 0.02)
                    ),
                    "latency_ms": rng.gamma(9, 14, n) * np.where(treated & now, latency, 1.0),
                }
            )
        )
    return exposures, pd.concat(rows, ignore_index=True)


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def go(
        exposures: pd.DataFrame, outcomes: pd.DataFrame, *, report: bool = False, **changes: Any
    ) -> tuple[int, dict[str, Any]]:
        exposures.to_parquet(tmp_path / "e.parquet")
        outcomes.to_parquet(tmp_path / "o.parquet")
        config = {k: v for k, v in (CONFIG | changes).items() if v is not None}
        (tmp_path / "exp.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        files = [str(tmp_path / n) for n in ("e.parquet", "o.parquet")]
        code = main(
            ["experiment", "analyze", *files, "--config", str(tmp_path / "exp.yaml"), "--json"]
            + ["--out", str(tmp_path), "--now", "2026-12-01"]
            + ([] if report else ["--no-report"])
        )
        out = capsys.readouterr()
        assert out.err == ""
        result: dict[str, Any] = json.loads(out.out)
        return code, result

    return go


def reasons(result: dict[str, Any]) -> str:
    return " | ".join(result["reasons"])


def test_ship(run: Run, tmp_path: Path) -> None:
    code, result = run(*world(), report=True)
    assert (code, result["verdict"]) == (0, "ship")
    primary, latency, complaints = result["metrics"]
    assert primary["finding"] == "better"
    assert primary["relative_low"] > 0.15 and primary["relative_high"] < 0.35
    assert latency["finding"] == complaints["finding"] == "within margin"
    assert latency["relative_low"] < 0 < latency["relative_high"] < 0.15
    assert result["units"]["control"] + result["units"]["candidate"] == 2000
    assert json.loads((tmp_path / "cover-fit.verdict.json").read_text()) == result
    page = (tmp_path / "cover-fit.report.html").read_text(encoding="utf-8")
    assert "<h2>ship</h2>" in page and page.count("<svg") >= 4
    # Self-contained: nothing is loaded from anywhere.
    for outside in ("<script", "<link", " src=", "@import", "url("):
        assert outside not in page.replace("url(#", "")


def test_the_same_files_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        run(*world(n=1900), report=True)
        pages.append((tmp_path / "cover-fit.report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lift": 1.0}, "contact rate (primary): not shown"),
        ({"lift": 0.7}, "contact rate (primary): worse"),
        ({"latency": 1.4}, "p95 latency (guardrail): harmed"),
        ({"complaints": 3.0}, "complaint share (guardrail): harmed"),
        ({"complaints": 1.5}, "complaint share (guardrail): not shown"),
    ],
)
def test_hold(run: Run, change: dict[str, float], says: str) -> None:
    code, result = run(*world(seed=1, **change))
    assert (code, result["verdict"]) == (0, "hold")
    assert says in reasons(result)


def test_not_worse_is_enough_with_a_margin(run: Run) -> None:
    primary = CONFIG["primary"] | {"margin": 0.08}
    code, result = run(*world(seed=2, lift=1.0), primary=primary)
    assert (code, result["verdict"]) == (0, "ship")
    assert result["metrics"][0]["finding"] == "within margin"


def test_lower_can_be_better(run: Run) -> None:
    primary = {"name": "cost", "numerator": "contacts", "denominator": "views", "better": "lower"}
    assert run(*world(seed=1, lift=0.7), primary=primary)[1]["verdict"] == "ship"
    assert run(*world(seed=1, lift=1.3), primary=primary)[1]["verdict"] == "hold"


def test_cuped_narrows_the_interval_and_keeps_the_effect(run: Run) -> None:
    data = world(seed=3)
    plain = run(*data)[1]["metrics"][0]
    cuped = run(*data, primary=CONFIG["primary"] | {"cuped": "pre_period"})[1]["metrics"][0]
    assert cuped["variance_reduction"] > 0.15
    assert cuped["high"] - cuped["low"] < 0.95 * (plain["high"] - plain["low"])
    assert abs(cuped["difference"] - plain["difference"]) < plain["high"] - plain["low"]


def test_cuped_by_columns_equals_cuped_by_period(run: Run) -> None:
    exposures, outcomes = world(seed=3)
    by_period = run(exposures, outcomes, primary=CONFIG["primary"] | {"cuped": "pre_period"})[1]
    before = outcomes[outcomes["ts"] < START].groupby("unit")[["contacts", "views"]].sum()
    joined = outcomes.join(before.add_prefix("pre_"), on="unit")
    cuped = {"numerator": "pre_contacts", "denominator": "pre_views"}
    by_column = run(exposures, joined, primary=CONFIG["primary"] | {"cuped": cuped})[1]
    for key in ("difference", "low", "high"):
        assert by_column["metrics"][0][key] == pytest.approx(by_period["metrics"][0][key], rel=1e-9)
    changing = joined.assign(pre_views=np.arange(len(joined)))
    code, result = run(exposures, changing, primary=CONFIG["primary"] | {"cuped": cuped})
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "changes within seller" in reasons(result)


# ---------------------------------------------------------------- no verdict


def test_broken_sample_ratio(run: Run) -> None:
    exposures, outcomes = world()
    treated = exposures["arm"] == "candidate"
    lost = exposures[treated].sample(frac=0.2, random_state=0).index
    code, result = run(exposures.drop(lost), outcomes, horizon={"days": 14})
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "the sample ratio is broken" in reasons(result)


def test_zero_variance(run: Run) -> None:
    exposures, outcomes = world()
    code, result = run(exposures, outcomes.assign(contacts=0))
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "contact rate: zero variance" in reasons(result)
    code, result = run(exposures, outcomes.assign(contacts=outcomes["views"]))
    assert (code, result["verdict"]) == (3, "no verdict")
    code, result = run(exposures, outcomes.assign(latency_ms=100.0))
    assert "p95 latency: zero variance" in reasons(result)
    code, result = run(exposures, outcomes.assign(complaints=0))
    assert "complaint share: zero variance" in reasons(result)


def test_missing_outcomes(run: Run) -> None:
    exposures, outcomes = world()
    code, result = run(exposures, outcomes.iloc[:0])
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "missing outcomes" in reasons(result)
    variant = outcomes["unit"].map(exposures.set_index("unit")["arm"])
    code, result = run(exposures, outcomes[variant == "control"])
    assert code == 3 and "missing outcomes: none for candidate" in reasons(result)
    some = outcomes["unit"].str[-1].isin(["0", "1"])
    code, result = run(exposures, outcomes[~some])
    assert code == 3 and "sellers without any outcome" in reasons(result)
    # a few lost sellers are fine if both arms lose alike, not if one of them does
    few = outcomes["unit"].str[-2:].isin(["00", "01", "02", "03"])
    assert run(exposures, outcomes[~few])[1]["verdict"] == "ship"
    code, result = run(exposures, outcomes[~(few & (variant == "candidate"))])
    assert code == 3 and "differs between the arms" in reasons(result)


def test_missing_values(run: Run) -> None:
    exposures, outcomes = world()
    holes = outcomes["latency_ms"].mask(np.arange(len(outcomes)) % 10 == 0)
    code, result = run(exposures, outcomes.assign(latency_ms=holes))
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "p95 latency: 10" in reasons(result) and "have no value" in reasons(result)
    relaxed = run(exposures, outcomes.assign(latency_ms=holes), quality={"max_missing": 0.2})
    assert relaxed[1]["verdict"] == "ship"


def test_no_denominator(run: Run) -> None:
    exposures, outcomes = world()
    code, result = run(exposures, outcomes.assign(views=0))
    assert code == 3 and "no views to divide by" in reasons(result)


@pytest.mark.parametrize("horizon", [{"days": 14}, {"end": "2026-11-16"}, {"units": 5000}])
def test_too_early(run: Run, horizon: dict[str, Any]) -> None:
    code, result = run(*world(days=8.0, lift=2.0), horizon=horizon)
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "too early" in reasons(result)
    assert not result["horizon_reached"]


def test_without_times_the_clock_decides(run: Run) -> None:
    exposures, outcomes = world()
    outcomes = outcomes[outcomes["ts"] >= START]
    bare = exposures.drop(columns="ts"), outcomes.drop(columns="ts")
    code, result = run(*bare)
    assert (code, result["verdict"]) == (0, "ship")
    assert "carry no times" in result["notes"][0]
    code, result = run(*bare, horizon={"end": "2026-12-24"})
    assert code == 3 and "today is 2026-12-01" in reasons(result)


def test_too_few_sellers(run: Run) -> None:
    code, result = run(*world(n=120), horizon={"days": 14})
    assert code == 3 and "sellers in the smaller arm" in reasons(result)


def test_sellers_in_both_variants(run: Run) -> None:
    exposures, outcomes = world()
    twice = exposures.iloc[:100].assign(
        arm=lambda e: e["arm"].map({"control": "candidate", "candidate": "control"})
    )
    code, result = run(pd.concat([exposures, twice]), outcomes)
    assert code == 3 and "100 sellers" in reasons(result)
    result = run(pd.concat([exposures, twice.iloc[:10]]), outcomes)[1]
    assert result["verdict"] == "ship"
    assert result["left_out"]["outcomes of units in several variants"] == 40


def test_assignment_and_models_are_checked(run: Run) -> None:
    exposures, outcomes = world()
    assert run(exposures, outcomes, check_assignment=True)[1]["verdict"] == "ship"
    code, result = run(exposures, outcomes, check_assignment=True, salt="other")
    assert code == 3 and "not in the variant that the assignment" in reasons(result)
    models = {"control": "dense@1", "candidate": "dense@2"}
    assert run(exposures, outcomes, models=models)[1]["verdict"] == "ship"
    code, result = run(exposures, outcomes, models=models | {"candidate": "dense@3"})
    assert code == 3 and "dense@2" in reasons(result)


# ---------------------------------------------------------------- what counts


def test_rows_before_the_exposure_and_after_the_end_do_not_count(run: Run) -> None:
    exposures, outcomes = world()
    base = run(exposures, outcomes)[1]
    first = outcomes["unit"].map(exposures.set_index("unit")["ts"])
    noise = outcomes[outcomes["ts"] >= START].assign(contacts=outcomes["views"])
    ahead = noise.assign(ts=first - pd.Timedelta(minutes=1))
    ahead = ahead[ahead["ts"] >= START]
    late = noise.assign(ts=START + pd.Timedelta(days=15))
    stranger = noise.assign(unit="x" + noise["unit"])
    noisy = run(exposures, pd.concat([outcomes, ahead, late, stranger]))[1]
    assert noisy["metrics"] == base["metrics"]
    assert noisy["left_out"]["outcomes before the unit's first exposure"] == len(ahead)
    assert noisy["left_out"]["outcomes after the end"] == len(late)
    assert noisy["left_out"]["outcomes of units never exposed"] == len(stranger)


def test_exposures_of_other_experiments_are_left_out(run: Run) -> None:
    exposures, outcomes = world()
    other = exposures.assign(experiment="another", arm="control")
    result = run(pd.concat([exposures, other]), outcomes)[1]
    assert result["verdict"] == "ship"
    assert result["left_out"]["exposures of another experiment"] == 2000


def test_repeated_exposures_change_nothing(run: Run) -> None:
    exposures, outcomes = world()
    again = exposures.assign(ts=exposures["ts"] + pd.Timedelta(hours=3))
    twice = run(pd.concat([again, exposures]), outcomes)[1]
    assert twice["metrics"] == run(exposures, outcomes)[1]["metrics"]


def test_a_report_for_every_verdict(run: Run, tmp_path: Path) -> None:
    """Where there is little to draw the page is still written."""
    exposures, outcomes = world(n=60)
    bare = exposures.drop(columns="ts"), outcomes.drop(columns="ts")
    for data in ((exposures, outcomes.iloc[:0]), (exposures.iloc[:0], outcomes), bare):
        assert run(*data, report=True)[0] == 3
        page = (tmp_path / "cover-fit.report.html").read_text(encoding="utf-8")
        assert "<h2>no verdict</h2>" in page
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"e.parquet", "o.parquet", "exp.yaml", "cover-fit.report.html",
                     "cover-fit.verdict.json"}  # fmt: skip


def test_three_variants_compare_two_and_check_all(run: Run) -> None:
    exposures, outcomes = world(n=3000)
    third = exposures.index % 3 == 0
    exposures.loc[third, "arm"] = "other"
    variants = {"control": 1 / 3, "candidate": 1 / 3, "other": 1 / 3}
    result = run(exposures, outcomes, variants=variants, treatment="candidate")[1]
    assert result["verdict"] == "ship"
    assert sum(result["units"].values()) == 3000
    skewed = variants | {"control": 0.4, "candidate": 0.4, "other": 0.2}
    result = run(exposures, outcomes, variants=skewed, treatment="candidate")[1]
    assert result["verdict"] == "no verdict"


def test_secondary_metrics_never_decide(run: Run) -> None:
    second = [
        {"name": "views a seller", "numerator": "views"},
        {"name": "nothing", "numerator": "contacts", "denominator": "zero"},
    ]
    exposures, outcomes = world()
    code, result = run(exposures, outcomes.assign(zero=0), secondary=second)
    assert (code, result["verdict"]) == (0, "ship")
    views, nothing = result["metrics"][1:3]
    assert views["finding"] is None and views["p_adjusted"] == pytest.approx(views["p_value"])
    assert "no zero to divide by" in nothing["problem"]


# ---------------------------------------------------------------- peeking


def test_peeking_ships_early_on_a_clear_effect(run: Run) -> None:
    data = world(days=8.0, lift=1.6)
    changes = {"peeking": True, "horizon": {"days": 14, "units": 3000}}
    code, result = run(*data, **changes)
    assert (code, result["verdict"]) == (0, "ship")
    assert not result["horizon_reached"] and "Waudby-Smith" in result["method"]


def test_peeking_goes_on_while_nothing_is_shown(run: Run) -> None:
    changes = {"peeking": True, "horizon": {"days": 14, "units": 3000}}
    code, result = run(*world(days=8.0, lift=1.02), **changes)
    assert (code, result["verdict"]) == (3, "no verdict")
    assert "too early" in reasons(result) and "go on" in reasons(result)


def test_peeking_holds_early_on_harm(run: Run) -> None:
    changes = {"peeking": True, "horizon": {"days": 14, "units": 3000}}
    code, result = run(*world(days=8.0, lift=1.0, latency=1.6), **changes)
    assert (code, result["verdict"]) == (0, "hold")
    assert "p95 latency (guardrail): harmed" in reasons(result)


def test_peeking_at_the_horizon_is_final(run: Run) -> None:
    result = run(*world(lift=1.0), peeking=True)[1]
    assert result["verdict"] == "hold" and result["horizon_reached"]


def test_peeking_intervals_are_wider(run: Run) -> None:
    data = world()
    fixed, valid = run(*data)[1], run(*data, peeking=True)[1]
    for a, b in zip(fixed["metrics"], valid["metrics"], strict=True):
        assert b["high"] - b["low"] > 1.3 * (a["high"] - a["low"])
