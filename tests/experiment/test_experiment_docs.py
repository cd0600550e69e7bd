"""What the pages say is true: the config parses, the plan prints what is shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from platehide.cli import main
from platehide.experiment.config import parse_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiment.md"


def test_the_config_shown_is_a_config() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    config = parse_config(yaml.safe_load(block), "docs/experiment.md")
    assert config.units == 1432 and config.primary.covariate is not None
    assert [m.name for m in config.guardrails] == ["p95 latency", "complaint share"]
    defaults = parse_config(
        {k: v for k, v in yaml.safe_load(block).items() if k != "quality"}, "docs"
    )
    assert config.quality == defaults.quality


def test_the_plan_shown_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text[text.index("    $ platehide experiment plan") :].split("\n\n")[0]
    shown = "\n".join(line.removeprefix("    ") for line in shown.splitlines())
    command, output = re.split(r"(?<!\\)\n", shown, maxsplit=1)
    assert main(shlex.split(command.replace("\\\n", " "))[2:]) == 0
    assert capsys.readouterr().out.strip() == output.strip()
