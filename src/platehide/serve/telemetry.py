"""What an operations engineer sees: Prometheus metrics by model version.

The metric names and labels are a contract (dashboards, alert rules and the canary analysis use
them); docs/service.md lists them and a test compares the two. ``model`` is ``name@version``.

With several worker processes the client library keeps each process's values in files of
``PROMETHEUS_MULTIPROC_DIR`` (set by the supervisor before the workers start) and every worker
answers ``/metrics`` with the sum, so a scrape is right whichever worker it reaches.
"""

from __future__ import annotations

import os
from typing import Any

import prometheus_client as prom
from prometheus_client import multiprocess

from platehide import geometry
from platehide.types import HideResult

prom.disable_created_metrics()  # type: ignore[no-untyped-call]

OUTCOMES = ("hidden", "none", "unsure", "error")
STAGES = ("decode", "detect", "cover", "encode", "verify", "total")
REJECTIONS = (
    "busy", "queue_deadline", "memory", "draining", "rate_limited", "unauthorized", "too_large",
    "not_ready",
)  # fmt: skip
DROPS = ("client_gone", "timeout")
SHADOW_RESULTS = ("agree", "outcome", "count", "geometry", "error", "skipped")

_SECONDS = (
    0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25,
    0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip
_STAGE_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5,
    1.0, 2.5, 10.0,
)  # fmt: skip
_PLATES = (0, 1, 2, 3, 4, 5, 8, 12, 20)
_CONFIDENCE = tuple(round(0.05 * i, 2) for i in range(1, 21))
_SHARE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3.2e7)


def multiprocess_dir() -> str | None:
    """The folder of the per-process metric files, or ``None`` with a single process."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None


class Telemetry:
    """All metrics of one application, in a registry of its own.

    ``model`` is the current model, ``name@version``: the label of everything that was answered
    before a model was chosen (a refusal, a page). ``candidate`` is the second model, if any.
    """

    def __init__(self, model: str, candidate: str | None = None) -> None:
        self.model = model
        self.registry = prom.CollectorRegistry()
        r = self.registry
        self.requests = prom.Counter(
            "platehide_http_requests",
            "Answered HTTP requests.",
            ["route", "method", "status", "model"],
            registry=r,
        )
        self.request_seconds = prom.Histogram(
            "platehide_http_request_duration_seconds",
            "From the request's headers to the last byte handed to the connection.",
            ["route", "model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.photos = prom.Counter(
            "platehide_photos",
            "Photos that were worked on, by outcome.",
            ["outcome", "route", "model"],
            registry=r,
        )
        self.errors = prom.Counter(
            "platehide_errors",
            "Problem documents that were answered, by stable code.",
            ["code", "route", "model"],
            registry=r,
        )
        self.photo_seconds = prom.Histogram(
            "platehide_photo_duration_seconds",
            "Admission to finished answer of one photo (queueing and work, no upload).",
            ["route", "model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.stage_seconds = prom.Histogram(
            "platehide_stage_duration_seconds",
            "Work on one photo by stage; 'total' is the whole pipeline.",
            ["stage", "model"],
            buckets=_STAGE_SECONDS,
            registry=r,
        )
        self.plates = prom.Histogram(
            "platehide_photo_plates",
            "Plates found on a photo.",
            ["model"],
            buckets=_PLATES,
            registry=r,
        )
        self.confidence = prom.Histogram(
            "platehide_plate_confidence",
            "Confidence of the plates that were covered (drift).",
            ["model"],
            buckets=_CONFIDENCE,
            registry=r,
        )
        self.covered_share = prom.Histogram(
            "platehide_covered_share",
            "Painted area as a share of the photo's, photos with status hidden.",
            ["model"],
            buckets=_SHARE,
            registry=r,
        )
        self.photo_bytes = prom.Histogram(
            "platehide_photo_bytes",
            "Size of the photos that came in.",
            ["route"],
            buckets=_BYTES,
            registry=r,
        )
        self.queue_seconds = prom.Histogram(
            "platehide_queue_wait_seconds",
            "Wait of a complete photo for a worker thread.",
            buckets=_SECONDS,
            registry=r,
        )
        gauge = self._gauge
        self.queue_depth = gauge("platehide_queue_depth", "Photos waiting for a worker thread.")
        self.in_flight = gauge(
            "platehide_in_flight", "Requests that hold a place (uploading, waiting or worked on)."
        )
        self.in_flight_limit = gauge(
            "platehide_in_flight_limit", "Places there are; above it requests are refused."
        )
        self.working = gauge("platehide_working", "Worker threads at work.")
        self.threads = gauge("platehide_worker_threads", "Worker threads.")
        self.buffered = gauge("platehide_buffered_bytes", "Uploads held in memory.")
        self.ready = gauge(
            "platehide_ready", "Processes that answer /readyz with yes (not while draining)."
        )
        self.processes = gauge("platehide_processes", "Running service processes.")
        self.resident = gauge("platehide_resident_memory_bytes", "Resident memory.")
        self.jobs_pending = gauge(
            "platehide_job_items_pending", "Photos of jobs that wait or run (whole store).", "max"
        )
        self.rejections = prom.Counter(
            "platehide_rejections",
            "Requests refused before any work, by reason.",
            ["reason"],
            registry=r,
        )
        self.dropped = prom.Counter(
            "platehide_dropped",
            "Accepted work that was dropped: the client had gone, or the time was up.",
            ["reason"],
            registry=r,
        )
        self.shadow = prom.Counter(
            "platehide_shadow_comparisons",
            "Photos on which the candidate ran beside the current model, by what differed.",
            ["result", "model", "candidate"],
            registry=r,
        )
        self.shadow_iou = prom.Histogram(
            "platehide_shadow_iou",
            "IoU of the plates on which both models agree (at least 0.5).",
            ["model", "candidate"],
            buckets=(0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0),
            registry=r,
        )
        self.shadow_seconds = prom.Histogram(
            "platehide_shadow_duration_seconds",
            "Pipeline time of the candidate in shadow.",
            ["model", "candidate"],
            buckets=_STAGE_SECONDS,
            registry=r,
        )
        self.exposures = prom.Counter(
            "platehide_exposures",
            "Requests assigned to an arm while two models are split.",
            ["arm", "model"],
            registry=r,
        )
        self.jobs = prom.Counter(
            "platehide_jobs", "Asynchronous jobs by what became of them.", ["state"], registry=r
        )
        self.webhooks = prom.Counter(
            "platehide_webhooks", "Webhook deliveries by result.", ["result"], registry=r
        )
        self.info = prom.Gauge(
            "platehide_model_info",
            "1 for each model that is loaded, by role (current, candidate).",
            ["model", "role"],
            registry=r,
            multiprocess_mode="livemax",
        )
        self._start_at_zero(model, candidate)
        self._exposed = self._exposed_registry()

    def _gauge(self, name: str, text: str, mode: str = "livesum") -> prom.Gauge:
        modes: Any = mode
        return prom.Gauge(name, text, registry=self.registry, multiprocess_mode=modes)

    def _start_at_zero(self, model: str, candidate: str | None) -> None:
        """A series that starts at 0 lets ``rate`` see its first event."""
        for name in filter(None, (model, candidate)):
            for outcome in OUTCOMES:
                self.photos.labels(outcome, "/v1/hide", name)
            for stage in STAGES:
                self.stage_seconds.labels(stage, name)
            self.plates.labels(name)
            self.confidence.labels(name)
            self.covered_share.labels(name)
            self.photo_seconds.labels("/v1/hide", name)
            self.request_seconds.labels("/v1/hide", name)
        for reason in REJECTIONS:
            self.rejections.labels(reason)
        for reason in DROPS:
            self.dropped.labels(reason)
        self.info.labels(model, "current").set(1)
        if candidate is not None:
            self.info.labels(candidate, "candidate").set(1)
            for result in SHADOW_RESULTS:
                self.shadow.labels(result, model, candidate)
        self.processes.set(1)
        self.ready.set(0)

    def _exposed_registry(self) -> prom.CollectorRegistry:
        if multiprocess_dir() is not None:
            summed = prom.CollectorRegistry()
            multiprocess.MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
            return summed
        prom.ProcessCollector(registry=self.registry)
        return self.registry

    def photo(self, result: HideResult, route: str, size_wh: tuple[int, int] | None = None) -> None:
        """Count one photo that a model worked on; ``size_wh`` (px) is for the covered share."""
        model = result.model
        self.photos.labels(result.status, route, model).inc()
        for stage, ms in result.ms.items():
            if stage in STAGES:
                self.stage_seconds.labels(stage, model).observe(ms / 1e3)
        if result.status in {"hidden", "none"}:
            self.plates.labels(model).observe(len(result.plates))
        for plate in result.plates:
            self.confidence.labels(model).observe(plate.confidence)
        if size_wh is not None and result.painted:
            total = float(size_wh[0] * size_wh[1])
            share = min(1.0, sum(geometry.area(p) for p in result.painted) / total)
            self.covered_share.labels(model).observe(share)

    def exposition(self) -> tuple[bytes, str]:
        """Body and content type of ``/metrics``."""
        self.resident.set(resident_bytes())
        return prom.generate_latest(self._exposed), prom.CONTENT_TYPE_LATEST


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
