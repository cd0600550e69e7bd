"""Shared by the deployment tests: where things are, and expressions found in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
METRIC = re.compile(r"(?<![\w:.])platehide_[a-z_]+(?![\w:.])")


def documents(path: Path) -> list[Any]:
    """The YAML documents of ``path``."""
    return [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None]


def alerts() -> list[dict[str, Any]]:
    (rules,) = documents(DEPLOY / "prometheus" / "alerts.yml")
    return [rule for group in rules["groups"] for rule in group["rules"]]


def rule_expressions() -> Iterator[str]:
    for name in ("recording.yml", "alerts.yml"):
        (rules,) = documents(DEPLOY / "prometheus" / name)
        for group in rules["groups"]:
            for rule in group["rules"]:
                yield rule["expr"]


def metric_names(expressions: Iterator[str]) -> set[str]:
    """Names of the service's own metrics, without a histogram's suffixes."""
    found = {name for e in expressions for name in METRIC.findall(e)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def analysis_metrics() -> list[dict[str, Any]]:
    """What the canary analysis asks, in order."""
    path = DEPLOY / "kubernetes" / "overlays" / "canary" / "analysis.yaml"
    (template,) = documents(path)
    return list(template["spec"]["metrics"])


def analysis_query(metric: dict[str, Any], **arguments: str) -> str:
    """The PromQL of ``metric``; the template's own values where ``arguments`` has none."""
    path = DEPLOY / "kubernetes" / "overlays" / "canary" / "analysis.yaml"
    (template,) = documents(path)
    values = {a["name"]: a["value"] for a in template["spec"]["args"] if "value" in a} | arguments
    return fill(metric["provider"]["prometheus"]["query"], values)


def fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\{args\.([\w-]+)\}\}", lambda m: values[m[1]], text)


def succeeds(condition: str, result: list[float], values: dict[str, str]) -> bool:
    """Argo's success condition (Go's expr) for a Prometheus vector's values."""
    text = fill(condition, values).replace("&&", " and ").replace("||", " or ")
    text = re.sub(r"!(?!=)", " not ", text)
    names = {"result": result, "len": len, "isNaN": math.isnan, "isInf": math.isinf}
    try:
        return bool(eval(text, {"__builtins__": {}}, names))
    except IndexError:
        return False  # Argo: an error, and no error is allowed
