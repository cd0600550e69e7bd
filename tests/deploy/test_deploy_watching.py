"""Rules, dashboards and the canary's queries against a Prometheus that watches the service."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from deploy_tools import (
    DEPLOY,
    ROOT,
    alerts,
    analysis_metrics,
    analysis_query,
    documents,
    metric_names,
    rule_expressions,
    succeeds,
)

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
TESTS = [f"tests/{name}_test.yml" for name in ("recording", "alerts", "drift")]
PATIENCE = 120.0
pytestmark = pytest.mark.timeout(1200)  # a loaded machine is no reason to fail
FAKES = ROOT / "tests" / "serve" / "serve_fakes.py"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def grafana() -> ModuleType:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk")
    return load(DEPLOY / "grafana" / "generate.py")


# ---------------------------------------------------------------- rules


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "recording.yml", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", *TESTS],
    ],
    ids=lambda a: " ".join(a[:2]),
)
def test_promtool(arguments: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_has_its_chapter() -> None:
    fired = {
        case["alertname"]
        for name in TESTS
        for document in documents(DEPLOY / "prometheus" / name)
        for test in document["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for rule in alerts():
        name = rule["alert"]
        assert name in fired
        assert f"### {name}\n" in runbook
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


# ---------------------------------------------------------------- dashboards


def test_committed_dashboards_are_the_generated_ones(grafana: ModuleType) -> None:
    folder = DEPLOY / "grafana" / "dashboards"
    made = {f"{board.uid}.json": grafana.build(board) for board in grafana.BOARDS}
    assert {p.name for p in folder.iterdir()} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, "run deploy/grafana/generate.py"


def test_dashboards_are_laid_out(grafana: ModuleType) -> None:
    for board in grafana.BOARDS:
        panels = json.loads(grafana.build(board))["panels"]
        taken: set[tuple[int, int]] = set()
        assert len({p["id"] for p in panels}) == len(panels)
        for panel in panels:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= grafana.COLUMNS and not cells & taken, panel["title"]
            taken |= cells
        for _, row in board.rows:
            assert sum(p.width for p in row) % grafana.COLUMNS == 0
            assert all(p.text.endswith(".") for p in row)


# ---------------------------------------------------------------- live


def own_port(process: subprocess.Popen[bytes], log: Path, pattern: str) -> int:
    """The port that the system gave to ``process``, as its log tells it."""
    end = time.monotonic() + PATIENCE
    while (found := re.search(pattern, log.read_text(errors="replace"))) is None:
        assert process.poll() is None, f"{process.args!r} ended:\n{log.read_text()}"
        assert time.monotonic() < end, f"{process.args!r} tells no port:\n{log.read_text()}"
        time.sleep(0.05)
    return int(found[1])


@dataclass(frozen=True)
class Watched:
    """Two services (shadow, split) and the Prometheus that has scraped them under load."""

    prometheus: int
    shadow: int
    split: int
    exposures: Path
    at: float | None = None
    """Unix time of all queries, so that a slow test does not look at an idle service."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        asked = {"query": expression} | ({} if self.at is None else {"time": f"{self.at:.3f}"})
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/query?" + urllib.parse.urlencode(asked)
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{expression}: {error.read().decode()}") from None
        result: list[dict[str, Any]] = body["data"]["result"]
        return result

    def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.shadow}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as got:
            return str(got.read().decode())

    def evaluated(self) -> float:
        """Unix time of the oldest last evaluation of the groups of rules."""
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/rules"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            groups = json.load(answer)["data"]["groups"]
        stamps = [group["lastEvaluation"][:19] + "+00:00" for group in groups]
        return min(datetime.fromisoformat(stamp).timestamp() for stamp in stamps)

    def caught_up(self, photos: int, more: Callable[[], None]) -> Watched:
        """Wait until all ``photos`` were scraped and the rules have read them.

        ``more`` goes on offering some load meanwhile: every query looks at a busy service.
        """
        count = "sum(platehide_http_requests_total{route='/v1/hide'})"
        watching = "min(up{job='platehide'})"
        end = time.monotonic() + PATIENCE
        while not (seen := self.query(count)) or float(seen[0]["value"][1]) < photos:
            assert time.monotonic() < end, f"{seen} of {photos} requests scraped"
            more()
        scraped = time.time()
        # a scrape that a loaded machine did not answer in time makes a gap: not now, then
        while self.evaluated() < scraped + 1 or finite(self.query(watching)) != [1.0]:
            assert time.monotonic() < end, "the rules are not evaluated"
            more()
        return replace(self, at=time.time())


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} did not answer within {seconds} s")


def post(port: int, body: bytes, unit: str = "", route: str = "/v1/hide") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", route, body, {"X-Unit-Id": unit} if unit else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus")
    pytest.importorskip("prometheus_client", reason="needs the extra serve")
    fakes = load(FAKES)
    folder = tmp_path_factory.mktemp("watched")
    exposures = folder / "exposures.jsonl"
    two = ["--candidate", "next@2", "--experiment", "canary"]
    services = [
        ["--candidate-mode", "shadow", "--candidate-share", "1"],
        ["--candidate-mode", "split", "--candidate-share", ".5", "--exposure-log", str(exposures)],
    ]
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], pattern: str) -> tuple[int, Any]:
            log = folder / f"{name}.log"
            out = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
            return own_port(process, log, pattern), process

        ports = []
        common = ["--port", "0", "--drain-delay", "0", "--queue-deadline", "100", *two]
        for number, extra in enumerate(services):
            command = [sys.executable, str(FAKES), *common, *extra]
            port, process = start(f"service{number}", command, r"serves http://\S+:(\d+)\n")
            wait_for(f"http://127.0.0.1:{port}/readyz", process)
            ports.append(port)
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"pod_template_hash": version}}
            for port, version in zip(ports, ("old", "new"), strict=True)
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [
                str(DEPLOY / "prometheus" / name) for name in ("recording.yml", "alerts.yml")
            ],
            "scrape_configs": [{"job_name": "platehide", "static_configs": targets}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        prometheus, process = start("prometheus", command, r'"Listening on" address=\S+:(\d+)\n')
        wait_for(f"http://127.0.0.1:{prometheus}/-/ready", process)
        photos = [fakes.jpeg(width) for width in (fakes.PLATE, fakes.NONE, fakes.UNSURE, fakes.TWO)]
        sent = itertools.count()

        def offer() -> None:
            number = next(sent)
            for port in ports:
                post(port, photos[number % len(photos)], unit=f"seller-{number}")
            time.sleep(0.02)

        begin = time.monotonic()
        rounds = refused = 0
        # enough for the sample ratio, and long enough for several scrapes
        while rounds < 90 or time.monotonic() < begin + 8:
            assert time.monotonic() < begin + 600, f"only {rounds} rounds in 600 s"
            offer()
            if rounds % 10 == 0:
                assert post(ports[0], b"not a photo") in {400, 415, 422}
                refused += 1
            rounds += 1
        watching = Watched(prometheus, *ports, exposures)
        yield watching.caught_up(2 * rounds + refused, offer)


def finite(rows: list[dict[str, Any]]) -> list[float]:
    return [v for v in (float(row["value"][1]) for row in rows) if math.isfinite(v)]


def test_every_panel_shows_something(watched: Watched, grafana: ModuleType) -> None:
    empty = []
    for board in grafana.BOARDS:
        for panel in json.loads(grafana.build(board))["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"]
                expression = expression.replace("$__rate_interval", "30s").replace("$model", ".*")
                if not finite(watched.query(expression)):
                    empty.append(f"{board.uid}: {panel['title']}: {expression}")
    assert not empty, "\n".join(empty)


def test_dashboards_show_what_was_sent(watched: Watched) -> None:
    outcomes = {
        (row["metric"]["model"], row["metric"]["outcome"]): float(row["value"][1])
        for row in watched.query("sum by (model, outcome) (platehide_photos_total)")
    }
    assert outcomes["fake@1", "hidden"] > outcomes["fake@1", "unsure"] > 0
    assert outcomes["next@2", "hidden"] > 0
    (unsure,) = finite(watched.query('model:platehide_unsure:ratio_rate30m{model="fake@1"}'))
    assert 0.1 < unsure < 0.4
    (plates,) = finite(watched.query("platehide:plates_per_photo:mean1h"))
    assert 0.7 < plates < 1.3
    assert finite(watched.query("platehide:availability_bad:ratio_rate5m")) == [0.0]


def test_every_metric_in_rules_and_dashboards_is_served(
    watched: Watched, grafana: ModuleType
) -> None:
    served = set(re.findall(r"^# TYPE (\w+) ", watched.metrics(), re.MULTILINE))

    def dashboards() -> Iterator[str]:
        for board in grafana.BOARDS:
            for _, panels in board.rows:
                for panel in panels:
                    yield from (q.expr for q in panel.queries)

    used = metric_names(rule_expressions()) | metric_names(dashboards())
    assert len(used) > 20
    assert not used - served


def test_canary_analysis_on_live_data(watched: Watched) -> None:
    """Two versions that answer alike pass; a version that Prometheus knows nothing of fails."""
    values = {"stable": "old", "window": "1m", "least-photos": "20"}
    for metric in analysis_metrics():
        condition = metric["successCondition"]
        rows = watched.query(analysis_query(metric, canary="new", **values))
        result = [float(row["value"][1]) for row in rows]
        assert len(result) == 1 and math.isfinite(result[0]), metric["name"]
        if metric["name"] != "p95":  # the time is this machine's
            assert succeeds(condition, result, values), (metric["name"], result)
        rows = watched.query(analysis_query(metric, canary="unknown", **values))
        assert not succeeds(condition, [float(row["value"][1]) for row in rows], values)


def test_no_alert_fires_on_a_healthy_service(watched: Watched) -> None:
    for rule in alerts():
        if rule["alert"] in {"PlatehideUnsureHigh", "PlatehideSlow"}:
            continue  # the load is unsure about every fourth photo; the time is this machine's
        assert watched.query(rule["expr"]) == [], rule["alert"]


def test_rules_are_evaluated_without_an_error(watched: Watched) -> None:
    url = f"http://127.0.0.1:{watched.prometheus}/api/v1/rules"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        groups = json.load(answer)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 40
    assert [r["name"] for r in rules if r["health"] != "ok"] == []


def test_the_services_exposure_log_is_what_the_verdict_reads(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Log of the running service → assignment check and sample ratio of ``analyze``."""
    pytest.importorskip("pandas", reason="needs the extra experiment")
    from platehide.cli import main

    lines = watched.exposures.read_text(encoding="utf-8").splitlines()
    units = {json.loads(line)["unit"] for line in lines}
    assert len(units) > 60
    outcomes = tmp_path / "outcomes.csv"
    rows = [f"{u},{hash_of(u) % 7},10\n" for u in sorted(units)]
    outcomes.write_text("unit,contacts,views\n" + "".join(rows), encoding="utf-8")
    config = {
        "experiment": "canary",
        "variants": {"control": 0.5, "treatment": 0.5},
        "horizon": {"units": 50},
        "primary": {"numerator": "contacts", "denominator": "views"},
        "check_assignment": True,
        "models": {"control": "fake@1", "treatment": "next@2"},
        "quality": {"min_units": 20},
    }
    path = tmp_path / "exp.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    files = [str(watched.exposures), str(outcomes), "--config", str(path)]
    assert main(["experiment", "analyze", *files, "--json", "--no-report"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert all(check["passed"] for check in result["checks"])
    assert sum(result["units"].values()) == len(units)
    assert result["verdict"] == "hold"


def hash_of(text: str) -> int:
    return sum(map(ord, text))
