"""What the routes share: the parts of one running application, and the way of one photo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from platehide.serve import auth
from platehide.serve.admission import Gate, Place, Pool
from platehide.serve.intake import Limits, Upload, check_length, read_body
from platehide.serve.logs import event, log
from platehide.serve.models import Models, ModelSource, picture_size
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings
from platehide.serve.telemetry import Telemetry
from platehide.serve.tracing import Tracing
from platehide.serve.twomodels import TwoModels
from platehide.types import HideResult

if TYPE_CHECKING:
    from platehide.serve.jobs import Jobs

T = TypeVar("T")


class Service:
    """One process's state. Built before the event loop runs; ``start`` and ``stop`` inside it."""

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        *,
        bucket_file: Path | None = None,
        jobs: Jobs | None = None,
        listen_when_ready: bool = False,
    ) -> None:
        self.settings = settings
        self.models = Models(settings, source)
        names = self.models.current_name, self.models.candidate_name
        self.telemetry = Telemetry(*names)
        self.tracing = Tracing(settings.otel)
        keys = () if settings.api_keys is None else auth.read_keys(Path(settings.api_keys))
        self.guard = auth.Guard(
            keys,
            rate=settings.rate_limit,
            burst=settings.rate_burst,
            bucket_file=bucket_file,
        )
        self.keys_needed = bool(keys)
        self.two = TwoModels(settings, self.telemetry, *names)
        self.jobs = jobs
        self.gate = Gate(
            self.telemetry,
            threads=settings.thread_count,
            budget=settings.budget,
            limit=settings.in_flight,
            upload_memory=settings.upload_memory,
        )
        self.pool: Pool
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._listen_when_ready = listen_when_ready
        self._loading: asyncio.Task[None] | None = None

    @property
    def queue_deadline(self) -> float:
        """Longest wait for a thread, in seconds."""
        return self.settings.queue_deadline or max(1.0, 1.2 * self.settings.budget)

    async def start(self) -> None:
        """Start the threads and load the model in the background; ``ready`` follows.

        With ``listen_when_ready`` it has been loaded on return, before any connection is taken.
        """
        self.pool = Pool(self.telemetry, self.gate, self.settings.thread_count)
        self._loading = asyncio.create_task(self._load())
        if self._listen_when_ready:
            await asyncio.wait({self._loading})

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.models.load)
        except Exception as error:
            log.critical("model_failed", exc_info=error, extra={"fields": {"error": str(error)}})
            self.failure = error
            self.on_failure()
            return
        if self.jobs is not None:
            await self.jobs.start(self)
        self.gate.ready = True
        self.telemetry.ready.set(0 if self.gate.draining else 1)
        event("ready", models=list(self.models.loaded), threads=self.settings.thread_count)

    def drain(self) -> None:
        """Say not ready from now on; work goes on."""
        self.gate.draining = True
        self.telemetry.ready.set(0)
        event("draining")

    async def stop(self) -> None:
        """Finish what runs and let go of the threads."""
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
        if self.jobs is not None:
            await self.jobs.stop()
        await self.two.settled()
        await self.pool.drained()
        self.pool.close()
        await asyncio.to_thread(self.two.close)
        self.tracing.close()
        self.telemetry.processes.set(0)

    # -- the way of one photo

    def enter(self, request: Request, *, scope: str = "photos", photos: int = 1) -> auth.Caller:
        """Check key and rate on the headers alone; note the caller for the log."""
        try:
            caller = self.guard.caller(request, scope)
            self.guard.spend(caller, photos)
        except Problem as problem:
            reason = "rate_limited" if problem.code == "rate_limited" else "unauthorized"
            self.telemetry.rejections.labels(reason).inc()
            raise
        if caller.key is not None:
            request.state.note["key"] = caller.name
        return caller

    def admit(self, request: Request, max_body: int) -> tuple[Place, Upload]:
        """Give a place and an empty upload, decided on the headers alone."""
        try:
            check_length(request, max_body)
        except Problem:
            self.telemetry.rejections.labels("too_large").inc()
            raise
        return self.gate.admit(), Upload(self.gate)

    async def receive(self, request: Request, upload: Upload, max_body: int) -> None:
        """Read the body within its bounds."""
        s = self.settings
        await read_body(request, Limits(max_body, s.body_timeout, s.body_idle_timeout), upload)

    async def work(self, request: Request, call: Callable[[], T]) -> T:
        """Run ``call`` on a thread while watching the client; a gone client's work is dropped."""
        return await self.while_connected(
            request,
            self.pool.run(call, deadline=self.queue_deadline, timeout=self.settings.timeout),
        )

    async def while_connected(self, request: Request, work: Awaitable[T]) -> T:
        """Await ``work``, cancelling it when the client goes away.

        Raises:
            ClientDisconnect: the client went away first.

        """
        task = asyncio.ensure_future(work)
        gone = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.telemetry.dropped.labels("client_gone").inc()
                raise ClientDisconnect
            return task.result()
        finally:
            gone.cancel()
            task.cancel()

    def count(self, request: Request, route: str, result: HideResult, data: bytes) -> None:
        """Count and note one worked photo."""
        size = picture_size(data) if result.painted else None
        self.telemetry.photo(result, route, size)
        self.telemetry.photo_bytes.labels(route).observe(len(data))
        note: dict[str, Any] = request.state.note
        note.update(
            model=result.model,
            outcome=result.status,
            plates=len(result.plates),
            ms_by_stage={k: round(v, 1) for k, v in result.ms.items()},
        )


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
