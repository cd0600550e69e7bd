"""Schema of the Argo Rollouts objects used here, as far as their fields are used.

Written after the project's documentation of Rollout and AnalysisTemplate (v1alpha1); closed, so
that a field which is misspelt or not known here fails.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h))+$"}
PERCENT_OR_COUNT = {"anyOf": [COUNT, {"type": "string", "pattern": r"^\d+%$"}]}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


METADATA = closed(["name"], name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
ARGUMENT = closed(
    ["name"],
    name=TEXT,
    value=TEXT,
    valueFrom=closed([], podTemplateHashValue={"enum": ["Latest", "Stable"]}),
)
ANALYSIS = closed(
    ["templates"],
    templates={
        "type": "array",
        "minItems": 1,
        "items": closed(["templateName"], templateName=TEXT),
    },
    args={"type": "array", "items": ARGUMENT},
    startingStep=COUNT,
)
STEP = {
    "oneOf": [
        closed(["setWeight"], setWeight={"type": "integer", "minimum": 0, "maximum": 100}),
        closed(["pause"], pause=closed([], duration=DURATION)),
        closed(["analysis"], analysis=ANALYSIS),
    ]
}
ROLLOUT = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "argoproj.io/v1alpha1"},
    kind={"const": "Rollout"},
    metadata=METADATA,
    spec=closed(
        ["selector", "workloadRef", "strategy"],
        revisionHistoryLimit=COUNT,
        progressDeadlineSeconds=COUNT,
        progressDeadlineAbort={"type": "boolean"},
        selector=closed(["matchLabels"], matchLabels=TEXTS),
        workloadRef=closed(
            ["apiVersion", "kind", "name"],
            apiVersion={"const": "apps/v1"},
            kind={"const": "Deployment"},
            name=TEXT,
            scaleDown={"enum": ["never", "onsuccess", "progressively"]},
        ),
        strategy=closed(
            ["canary"],
            canary=closed(
                ["steps", "stableService", "canaryService", "trafficRouting"],
                stableService=TEXT,
                canaryService=TEXT,
                trafficRouting=closed(
                    ["nginx"],
                    nginx=closed(["stableIngress"], stableIngress=TEXT),
                ),
                maxUnavailable=PERCENT_OR_COUNT,
                maxSurge=PERCENT_OR_COUNT,
                abortScaleDownDelaySeconds=COUNT,
                canaryMetadata=closed([], labels=TEXTS, annotations=TEXTS),
                stableMetadata=closed([], labels=TEXTS, annotations=TEXTS),
                steps={"type": "array", "minItems": 1, "items": STEP},
                analysis=ANALYSIS,
            ),
        ),
    ),
)
MEASUREMENT = closed(
    ["name", "provider", "successCondition"],
    name=TEXT,
    initialDelay=DURATION,
    interval=DURATION,
    count=COUNT,
    failureLimit=COUNT,
    inconclusiveLimit=COUNT,
    consecutiveErrorLimit=COUNT,
    successCondition=TEXT,
    failureCondition=TEXT,
    provider=closed(
        ["prometheus"],
        prometheus=closed(["address", "query"], address=TEXT, query=TEXT, timeout=COUNT),
    ),
)
ANALYSIS_TEMPLATE = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "argoproj.io/v1alpha1"},
    kind={"const": "AnalysisTemplate"},
    metadata=METADATA,
    spec=closed(
        ["metrics"],
        args={"type": "array", "items": ARGUMENT},
        metrics={"type": "array", "minItems": 1, "items": MEASUREMENT},
    ),
)
SCHEMAS = {"Rollout": ROLLOUT, "AnalysisTemplate": ANALYSIS_TEMPLATE}
