"""Settings: one source for options, environment, help and documentation."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from platehide.cli import main
from platehide.errors import UsageError
from platehide.serve import settings
from platehide.serve.settings import Settings, parse_size
from platehide.serve.telemetry import Telemetry

DOCS = Path(__file__).parents[2] / "docs" / "service.md"


def parsed(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    return settings.from_arguments(vars(parser.parse_args(arguments)))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("1k", 1024),
        ("32MiB", 32 << 20),
        (" 2 GB ", 2 << 30),
        ("3m", 3 << 20),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5M", "1T", "ten"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATEHIDE_PORT", "8101")
    monkeypatch.setenv("PLATEHIDE_MAX_BODY", "1MiB")
    monkeypatch.setenv("PLATEHIDE_ACCESS_LOG", "false")
    assert (parsed().port, parsed().max_body, parsed().access_log) == (8101, 1 << 20, False)
    assert parsed("--port", "8102", "--access-log").port == 8102
    assert parsed("--access-log").access_log is True


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "99999"], "--port / PLATEHIDE_PORT"),
        (["--conf", "2"], "--conf"),
        (["--fetch-schemes", "file"], "only http and https"),
        (["--candidate-mode", "shadow"], "needs a candidate"),
        (["--max-body", "much"], "not a size"),
    ],
)
def test_wrong_values_name_the_option(arguments: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        parsed(*arguments)


def test_help_and_docs_have_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    docs = DOCS.read_text()
    for name in Settings.model_fields:
        option = "--" + name.replace("_", "-")
        assert option in shown
        assert f"PLATEHIDE_{name.upper()}" in shown
        assert f"`{option}`" in docs, f"docs/service.md does not tell of {option}"


def test_docs_have_every_metric_and_no_other() -> None:
    docs = DOCS.read_text()
    text = Telemetry("a@1", "b@2").exposition()[0].decode()
    real = set(re.findall(r"# TYPE (platehide_\w+)", text))
    told = set(re.findall(r"`(platehide_\w+)`", docs))
    assert real - told == set()
    assert told - real == set()
