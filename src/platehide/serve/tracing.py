"""OpenTelemetry traces where the packages are installed and ``--otel`` is given; else nothing.

A request continues the caller's ``traceparent`` and has one child span a pipeline stage. No image
data and no addresses go into a span.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.types import Scope

from platehide.errors import UsageError

_STAGE_ORDER = ("decode", "detect", "cover", "encode", "verify")


class Tracing:
    """Traces requests, or does nothing when ``enabled`` is false.

    Raises:
        UsageError: enabled, but opentelemetry is not installed.

    """

    def __init__(self, enabled: bool, provider: Any = None) -> None:
        self._tracer: Any = None
        if not enabled:
            return
        try:
            from opentelemetry import trace
        except ModuleNotFoundError:
            raise UsageError("--otel needs opentelemetry: pip install 'platehide[otel]'") from None
        if provider is None:
            provider = _provider_from_environment()
        self._provider = provider
        self._trace = trace
        self._tracer = provider.get_tracer("platehide.serve")

    @contextlib.contextmanager
    def request(self, scope: Scope, headers: Mapping[str, str], request_id: str) -> Iterator[Any]:
        """Open the request's span."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(dict(headers))
        with self._tracer.start_as_current_span(
            f"{scope['method']}", context=context, kind=self._trace.SpanKind.SERVER
        ) as span:
            span.set_attribute("http.request.method", scope["method"])
            span.set_attribute("platehide.request_id", request_id)
            yield span

    def finish(self, span: Any, route: str, status: int, note: Mapping[str, Any]) -> None:
        """Name the span and add what the answer was, with one child a stage."""
        if span is None:
            return
        span.update_name(f"{route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        for key in ("model", "outcome", "plates", "code"):
            if key in note:
                span.set_attribute(f"platehide.{key}", note[key])
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        self._stages(span, note.get("ms_by_stage") or {})

    def _stages(self, span: Any, ms: Mapping[str, float]) -> None:
        context = self._trace.set_span_in_context(span)
        at = time.time_ns() - int(sum(ms.get(name, 0.0) for name in _STAGE_ORDER) * 1e6)
        for name in _STAGE_ORDER:
            if name in ms:
                child = self._tracer.start_span(name, context=context, start_time=at)
                at += int(ms[name] * 1e6)
                child.end(end_time=at)

    def close(self) -> None:
        """Send what is still held back."""
        if self._tracer is not None and hasattr(self._provider, "shutdown"):
            self._provider.shutdown()


def _provider_from_environment() -> Any:
    from opentelemetry import trace

    try:
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        return trace.get_tracer_provider()
    provider = TracerProvider(resource=Resource.create({"service.name": "platehide"}))
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    return provider
