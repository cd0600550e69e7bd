"""OpenTelemetry: one span a request, a child a stage, the caller's trace continued."""

from __future__ import annotations

import asyncio

import pytest

from platehide.serve.edge import Edge
from platehide.serve.telemetry import Telemetry
from platehide.serve.tracing import Tracing

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_spans_of_a_request() -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = trace_sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        note = scope["state"]["note"]
        note.update(model="m@1", outcome="hidden", plates=1, route="/v1/hide",
                    ms_by_stage={"decode": 2.0, "detect": 5.0, "total": 8.0})  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        pass

    edge = Edge(app, Telemetry("m@1"), Tracing(True, provider), access_log=False)
    headers = [(b"traceparent", CALLER.encode()), (b"x-request-id", b"r-1")]
    scope = {"type": "http", "method": "POST", "path": "/v1/hide", "headers": headers}
    asyncio.run(edge(scope, receive, send))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"/v1/hide", "decode", "detect"}
    root = spans["/v1/hide"]
    assert f"{root.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{root.parent.span_id:016x}" == CALLER.split("-")[2]
    assert root.attributes["platehide.model"] == "m@1"
    assert root.attributes["platehide.request_id"] == "r-1"
    assert spans["detect"].parent.span_id == root.context.span_id
    assert spans["detect"].end_time - spans["detect"].start_time == 5_000_000


def test_switched_off_it_does_nothing() -> None:
    tracing = Tracing(False)
    with tracing.request({"method": "GET"}, {}, "r") as span:
        assert span is None
        tracing.finish(span, "/", 200, {})
    tracing.close()
