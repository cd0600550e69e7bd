"""Every overlay is built and checked strictly; what belongs together is checked together."""

from __future__ import annotations

import copy
import functools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from argo_schema import SCHEMAS
from deploy_tools import DEPLOY, ROOT, analysis_metrics, documents, succeeds

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("staging", "production", "canary")
VALUES = {"least-photos": "300"}


def program(name: str) -> str | None:
    """A program beside this interpreter (from a wheel), or on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


@functools.cache
def built(overlay: str) -> str:
    kubectl = program("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()
    return done.stdout


def objects(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(built(overlay)))


def one(overlay: str, kind: str, name: str = "platehide") -> dict[str, Any]:
    (found,) = (
        o for o in objects(overlay) if o["kind"] == kind and o["metadata"]["name"].startswith(name)
    )
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_are_valid(overlay: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    schema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    seen = set()
    for item in objects(overlay):
        seen.add(item["kind"])
        if item["apiVersion"].startswith("argoproj.io/"):
            schema.validate(item, SCHEMAS[item["kind"]])
        else:
            validate.validate(item, "1.33", strict=True)
    wanted = {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    wanted |= {"Ingress"} if overlay != "staging" else set()
    wanted |= {"Rollout", "AnalysisTemplate"} if overlay == "canary" else set()
    assert seen == wanted


def test_the_checks_see_mistakes() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    schema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    wrong = copy.deepcopy(one("canary", "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.33", strict=True)
    rollout = one("canary", "Rollout")
    for path, value in (
        (("strategy", "canary", "steps", 0, "setWeight"), 500),
        (("strategy", "canary", "stepz"), []),
        (("workloadRef", "kind"), "Pod"),
    ):
        broken = copy.deepcopy(rollout)
        at = broken["spec"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        with pytest.raises(schema.ValidationError):
            schema.validate(broken, SCHEMAS["Rollout"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_locked_down(overlay: str) -> None:
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    writable = [m for m in container["volumeMounts"] if not m.get("readOnly")]
    assert [m["mountPath"] for m in writable] == ["/tmp"]
    name, _, tag = container["image"].rpartition(":")
    assert "/" in name and tag and tag != "latest"
    namespace = one(overlay, "Namespace")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_and_drain_fit_the_service(overlay: str) -> None:
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    settings = one(overlay, "ConfigMap")["data"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1].split("sleep(")[1][:-1])
    drain = float(settings["PLATEHIDE_DRAIN_DELAY"]) + float(settings["PLATEHIDE_DRAIN_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 5
    # readiness is seen to be false before the listener closes
    probe = container["readinessProbe"]
    assert pause >= probe["periodSeconds"] * probe["failureThreshold"]
    assert settings["PLATEHIDE_THREADS"] == container["resources"]["limits"]["cpu"]
    uses = {e["configMapRef"]["name"] for e in container["envFrom"]}
    assert uses == {one(overlay, "ConfigMap")["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_exist_and_are_accepted(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydantic_settings", reason="needs the extra serve")
    from platehide.serve.settings import Settings, from_arguments

    data = one(overlay, "ConfigMap")["data"]
    known = {f"PLATEHIDE_{name.upper()}" for name in Settings.model_fields}
    assert set(data) <= known
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    chosen = from_arguments({})
    assert chosen.drain_timeout == 30 and chosen.max_body == 32 << 20
    if overlay == "staging":
        assert (chosen.candidate_mode, chosen.candidate_share) == ("shadow", 0.2)


def test_settings_in_the_runbook_exist() -> None:
    pytest.importorskip("pydantic_settings", reason="needs the extra serve")
    from platehide.serve.settings import Settings

    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bPLATEHIDE_(\w+)", text))
    assert len(named) > 8
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_their_pods(overlay: str) -> None:
    template = one(overlay, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    ports = {p["name"]: p["containerPort"] for p in template["spec"]["containers"][0]["ports"]}
    services = [o for o in objects(overlay) if o["kind"] == "Service"]
    assert len(services) == (2 if overlay == "canary" else 1)
    for service in services:
        assert service["spec"]["selector"].items() <= labels
        assert [p["targetPort"] for p in service["spec"]["ports"]] == list(ports)
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert one(overlay, kind)["spec"][key]["matchLabels"].items() <= labels
    (ingress,) = one(overlay, "NetworkPolicy")["spec"]["ingress"]
    assert [p["port"] for p in ingress["ports"]] == list(ports.values())
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])
    target = one(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["kind"] == ("Rollout" if overlay == "canary" else "Deployment")
    assert one(overlay, target["kind"])["apiVersion"] == target["apiVersion"]


def test_canary_steps_and_references() -> None:
    canary = one("canary", "Rollout")["spec"]["strategy"]["canary"]
    shape = [(next(iter(s)), s.get("setWeight")) for s in canary["steps"]]
    assert shape == [
        ("setWeight", 5),
        ("pause", None),
        ("setWeight", 25),
        ("analysis", None),
        ("setWeight", 50),
        ("pause", None),
        ("setWeight", 100),
    ]
    names = {o["metadata"]["name"] for o in objects("canary") if o["kind"] == "Service"}
    assert names == {canary["stableService"], canary["canaryService"]}
    assert (
        canary["trafficRouting"]["nginx"]["stableIngress"]
        == (one("canary", "Ingress")["metadata"]["name"])
    )
    template = one("canary", "AnalysisTemplate")
    analysis = canary["steps"][3]["analysis"]
    assert [t["templateName"] for t in analysis["templates"]] == [template["metadata"]["name"]]
    given = {a["name"] for a in analysis["args"]}
    declared = {a["name"] for a in template["spec"]["args"]}
    filled = given | {a["name"] for a in template["spec"]["args"] if "value" in a}
    used = set(re.findall(r"\{\{args\.([\w-]+)\}\}", json.dumps(template)))
    assert used <= filled and given <= declared


GOOD = {
    "enough-photos": 300,
    "p95": 0.2,
    "error-share": 0.0,
    "plates-a-photo": 1.0,
    "unsure-share": 0.0,
}
BAD = {
    "enough-photos": [299],
    "p95": [0.26],
    "error-share": [0.006],
    "plates-a-photo": [0.89, 1.26],
    "unsure-share": [0.021],
}


@pytest.mark.parametrize("metric", analysis_metrics(), ids=lambda m: m["name"])
def test_analysis_judges_and_missing_data_fail(metric: dict[str, Any]) -> None:
    condition, name = metric["successCondition"], metric["name"]
    assert succeeds(condition, [GOOD[name]], VALUES)
    for value in BAD[name]:
        assert not succeeds(condition, [value], VALUES)
    for nothing in ([], [math.nan], [GOOD[name], GOOD[name]]):
        assert not succeeds(condition, nothing, VALUES)
    # What does not succeed fails, at once and not as "inconclusive"; an error is not forgiven.
    assert "failureCondition" not in metric
    assert metric["consecutiveErrorLimit"] == 0
    assert metric["failureLimit"] < metric["count"]
    assert "{{args.canary}}" in metric["provider"]["prometheus"]["query"]


def test_scraping_keeps_the_version() -> None:
    path = KUBERNETES / "monitoring" / "prometheus-pods.yml"
    (config,) = documents(path)
    (job,) = config["scrape_configs"]
    rules = {r["target_label"]: r for r in job["relabel_configs"] if "target_label" in r}
    rule = rules["pod_template_hash"]
    for labels, expected in ((("abc", ""), "abc"), (("abc", "xyz"), "abc"), (("", "xyz"), "xyz")):
        match = re.fullmatch(rule["regex"], ";".join(labels))
        assert match is not None
        assert "".join(g or "" for g in match.groups()) == expected
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("needs promtool")
    # Debian's Prometheus is built without Kubernetes discovery; the rest is checked by it.
    del job["kubernetes_sd_configs"]
    done = subprocess.run(
        [promtool, "check", "config", "/dev/stdin"],
        input=yaml.safe_dump(config),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- image and compose


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.train"])
def test_dockerfile_is_clean(name: str) -> None:
    hadolint = program("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint")
    done = subprocess.run(
        [hadolint, str(DEPLOY / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_dockerfile_copies_what_there_is_and_drops_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in allowed
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    assert lines.index("USER 10001:10001") < next(
        i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT")
    )
    deployment = documents(KUBERNETES / "base" / "deployment.yaml")[0]
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001


def test_constraints_fit_the_requirements() -> None:
    packaging = pytest.importorskip("packaging.requirements", reason="needs packaging")
    out = subprocess.run(
        [
            sys.executable,
            str(DEPLOY / "requirements.py"),
            str(ROOT / "pyproject.toml"),
            "serve",
            "heif",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[re.sub(r"[-_.]+", "-", name).lower()] = version
    assert len(pins) > 25
    for line in out.splitlines():
        requirement = packaging.Requirement(line)
        pinned = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(pinned), line


def test_compose_mounts_what_there_is() -> None:
    (compose,) = documents(DEPLOY / "compose.yml")
    services = compose["services"]
    assert set(services) == {"platehide", "prometheus", "grafana"}
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert all(p.startswith("127.0.0.1:") for p in service["ports"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_dir() and volume.endswith(":ro")
            else:
                assert source in compose["volumes"]
        for network in service["networks"]:
            assert network in compose["networks"]
    service = services["platehide"]
    assert service["read_only"] is True and service["tmpfs"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    environment = service["environment"]
    threads = int(environment["PLATEHIDE_WORKERS"]) * int(environment["PLATEHIDE_THREADS"])
    assert threads == service["cpus"]
    (scrape,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    assert scrape["scrape_configs"][0]["dns_sd_configs"][0]["names"] == ["platehide"]
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = documents(provisioning / "datasources" / "prometheus.yml")
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    (provider,) = documents(provisioning / "dashboards" / "platehide.yml")
    path = provider["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{path}:ro" in services["grafana"]["volumes"]
    assert (
        "${GRAFANA_PASSWORD:?" in services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    )
