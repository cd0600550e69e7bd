"""Asynchronous jobs: take photos from the store, work on them, tell the caller."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from platehide.serve.fetch import Fetcher, FetchError, Policy
from platehide.serve.jobstore import MAX_ATTEMPTS, Claim, Delivery, JobStore
from platehide.serve.logs import event
from platehide.serve.models import PhotoOptions
from platehide.serve.problems import Problem
from platehide.serve.settings import Settings
from platehide.types import HideResult

if TYPE_CHECKING:
    from platehide.serve.service import Service

T = TypeVar("T")

RUNNERS = 4
LEASE_SECONDS = 60.0
POLL_SECONDS = 1.0
IDLE_SECONDS = 30.0
PURGE_SECONDS = 30.0
WEBHOOK_SECONDS = 10.0
SIGNATURE_HEADER = "X-Platehide-Signature"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature header: ``t=UNIX,v1=HEX`` over ``b"UNIX." + body`` (HMAC-SHA256)."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


class Jobs:
    """The job side of one process. ``call`` runs store operations off the event loop."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self.settings = settings
        self.store = store
        self.policy = Policy.of(settings)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="jobs")
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._busy: set[int] = set()
        self._stopping = False
        self._fetcher: Fetcher | None = None
        self._service: Service | None = None

    async def call(self, function: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """Run a blocking store operation on a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **keywords))

    async def start(self, service: Service) -> None:
        """Start the runners (the model is loaded)."""
        self._service = service
        self._fetcher = Fetcher(self.policy)
        # One runner looks for the work of other processes; the others follow when there is some.
        loops = [self._run(POLL_SECONDS), *(self._run(IDLE_SECONDS) for _ in range(RUNNERS - 1))]
        loops += [self._deliver(), self._tidy()]
        self._tasks = [asyncio.create_task(self._forever(work)) for work in loops]

    async def stop(self) -> None:
        """Stop claiming, let claimed photos finish, close the store."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEASE_SECONDS / 2)
            for task in late:
                task.cancel()
        if self._fetcher is not None:
            await self._fetcher.close()
        await self.call(self.store.close)
        self._threads.shutdown(wait=False)

    def wake(self) -> None:
        """There is something new to do."""
        self._wake.set()

    async def _forever(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logging.getLogger("platehide.serve").exception("job_runner_failed")
            if self._service is not None:
                self._service.on_failure()

    async def _pause(self, seconds: float) -> None:
        if self._stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.01)
        if not self._stopping:
            self._wake.clear()

    async def _run(self, poll: float) -> None:
        while not self._stopping:
            claim = await self._guarded(self.store.claim, LEASE_SECONDS)
            if claim is None:
                await self._pause(poll)
                continue
            self._wake.set()
            await self._one(claim)

    async def _guarded(self, function: Callable[..., T], *args: Any, **keywords: Any) -> T | None:
        """Run a store operation; a store that is away is logged and tried again later."""
        try:
            return await self.call(function, *args, **keywords)
        except Exception as error:  # any driver's error: the service itself must go on
            event("job_store_failed", logging.ERROR, error=repr(error))
            await asyncio.sleep(POLL_SECONDS)
            return None

    async def _one(self, claim: Claim) -> None:
        keeper = asyncio.create_task(self._keep(claim))
        try:
            result = await self._work(claim)
        finally:
            keeper.cancel()
        row = result.row(claim.name, None)
        finished = await self._guarded(
            self.store.finish,
            claim,
            row,
            result=result.data,
            media_type=result.media_type,
            suffix=result.suffix,
            ttl=self.settings.job_ttl,
        )
        event(
            "job_photo",
            job=claim.job,
            index=claim.idx,
            outcome=result.status,
            code=result.code,
            model=result.model,
        )
        if finished and self._service is not None:
            self._service.telemetry.jobs.labels("done").inc()
            self._wake.set()

    async def _keep(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._guarded(self.store.renew, claim, LEASE_SECONDS)

    async def _work(self, claim: Claim) -> HideResult:
        service, fetcher = self._service, self._fetcher
        assert service is not None
        assert fetcher is not None
        model = service.models.current_name
        if claim.attempts > MAX_ATTEMPTS:
            return _failed(model, "internal", "the work was interrupted too often")
        try:
            data = claim.upload
            if data is None:
                data = await fetcher.get(claim.url or "", self.settings.max_body)
            named = claim.options.get("model")
            model = service.models.find(named)
            call = service.models.hide_call(model, data, job_options(claim.options))
            result = await service.pool.run(
                call, background=True, timeout=self.settings.timeout + LEASE_SECONDS
            )
        except FetchError as error:
            return _failed(model, "fetch_failed", f"{claim.url}: {error}")
        except Problem as problem:
            return _failed(model, problem.code, problem.detail)
        except Exception as error:  # a bug must not stop the other jobs
            logging.getLogger("platehide.serve").exception("job_photo_failed")
            return _failed(model, "internal", f"an internal error ({type(error).__name__})")
        service.telemetry.photo(result, "/v1/jobs")
        return result

    async def _deliver(self) -> None:
        while not self._stopping:
            due = await self._guarded(self.store.due_webhook, 3 * WEBHOOK_SECONDS)
            if due is None:
                await self._pause(POLL_SECONDS)
                continue
            await self._send(due)

    async def _send(self, due: Delivery) -> None:
        assert self._fetcher is not None
        assert self._service is not None
        owner = await self.call(self.store.owner_of, due.job)
        status = None if owner is None else await self.call(self.store.get, due.job, owner)
        if status is None:
            return
        states = [item["state"] for item in status["items"]]
        body = json.dumps(
            {
                "event": "job.finished",
                "job": due.job,
                "photos": len(states),
                "done": states.count("done"),
                "failed": states.count("failed"),
            }
        ).encode()
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign(self.settings.webhook_secret or "", now, body),
            "X-Platehide-Delivery": f"{due.job}.{due.attempts}",
        }
        try:
            answer = await self._fetcher.post(due.url, body, headers, WEBHOOK_SECONDS)
            problem = None if 200 <= answer < 300 else f"answered {answer}"
        except FetchError as error:
            problem = str(error)
        if problem is None:
            state, again = "delivered", None
        elif due.attempts >= self.settings.webhook_attempts:
            state, again = "failed", None
        else:
            state, again = "retrying", time.time() + min(600.0, 2.0**due.attempts)
        self._service.telemetry.webhooks.labels(state).inc()
        event("webhook", job=due.job, state=state, attempt=due.attempts, error=problem)
        await self._guarded(self.store.webhook_result, due.job, state, again)

    async def _tidy(self) -> None:
        last = 0.0
        while not self._stopping:
            if time.monotonic() - last > PURGE_SECONDS:
                last = time.monotonic()
                gone = await self._guarded(self.store.purge)
                if gone:
                    event("jobs_expired", count=gone)
            pending = await self._guarded(self.store.pending)
            if self._service is not None:
                self._service.telemetry.jobs_pending.set(pending or 0)
            await self._pause(5 * POLL_SECONDS)


def job_options(options: dict[str, Any]) -> PhotoOptions:
    """Return a job's stored options for the pipeline."""
    known = {
        k: options[k]
        for k in ("conf", "verify", "keep_metadata", "style", "text", "variant")
        if k in options
    }
    return PhotoOptions(cover_id=options.get("cover"), **known)


def _failed(model: str, code: str, message: str) -> HideResult:
    return HideResult("error", None, (), (), model, {}, error=message, code=code)
