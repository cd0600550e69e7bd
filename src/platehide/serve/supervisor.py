"""``platehide serve``: bind once, run one process or several, restart those that die."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from platehide.errors import PlateHideError, UsageError
from platehide.serve.logs import configure_logging, event
from platehide.serve.models import ModelSource
from platehide.serve.settings import Settings

BACKLOG = 2048
STABLE_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 30.0
STOP_SLACK_SECONDS = 10.0
IDLE_SECONDS = 5.0


def bind(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        UsageError: the address cannot be had.

    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def serve(settings: Settings, source: ModelSource) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit code.

    Raises:
        UsageError: a setting that cannot work (address, covers, key file, job store, model).
        WeightsError: the weights cannot be used.

    """
    configure_logging(settings.log_level)
    source.name(settings.model)  # a wrong name is told at once, not by a worker
    with tempfile.TemporaryDirectory(prefix="platehide-", ignore_cleanup_errors=True) as folder:
        private = Path(folder)
        store = settings.job_store or f"sqlite:///{private / 'jobs.sqlite'}"
        with _leave_on_sigterm(), bind(settings.host, settings.port) as listener:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"platehide serves http://{shown}:{port}", flush=True)
            event("listening", host=host, port=port, workers=settings.workers)
            if settings.workers == 1:
                from platehide.serve.server import run_server

                return run_server(settings, source, listener, job_store=store)
            from platehide.serve.jobstore import JobStore

            JobStore(store).close()  # the tables are there before the workers look
            return _Supervisor(settings, source, listener, private, store).run()


@contextlib.contextmanager
def _leave_on_sigterm() -> Iterator[None]:
    """Until the server has handlers of its own, a signal ends the process in good order."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Worker:
    process: SpawnProcess
    started: float = field(default_factory=time.monotonic)


class _Supervisor:
    """Keeps ``settings.workers`` processes alive on one shared listening socket.

    The socket is shared, not one per process: connections that wait in the kernel's queue are
    then served by the others when a worker is killed.
    """

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        listener: socket.socket,
        private: Path,
        store: str,
    ) -> None:
        self._settings = settings
        self._source = source
        self._listener = listener
        self._store = store
        self._buckets = private / "buckets"
        self._all_stop = private / "stopping"
        self._metrics = private / "metrics"
        self._metrics.mkdir()
        self._spawn = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._starting = True
        self._stopping = 0
        self._early_deaths = 0
        self._began = time.monotonic()
        # A signal handler that only counts does not end a wait; a byte in this pair does.
        self._signalled, self._signal_end = socket.socketpair()
        self._signalled.setblocking(False)
        self._signal_end.setblocking(False)

    def run(self) -> int:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._metrics)
        signal.set_wakeup_fd(self._signal_end.fileno(), warn_on_full_buffer=False)
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            for _ in range(self._settings.workers):
                self._start()
            self._starting = False
            code = 0
            while not code and not self._stopping:
                self._wait(IDLE_SECONDS)
                code = self._replace_dead()
            self._stop()
        finally:
            signal.set_wakeup_fd(-1)
            self._signalled.close()
            self._signal_end.close()
        return code

    def _wait(self, seconds: float) -> None:
        """Sleep until a worker has died, a signal has come or the time is over."""
        woken = wait([self._signalled, *(w.process.sentinel for w in self._workers)], seconds)
        if self._signalled in woken:
            with contextlib.suppress(BlockingIOError):
                self._signalled.recv(4096)

    def _replace_dead(self) -> int:
        for worker in [w for w in self._workers if w.process.exitcode is not None]:
            if not self._stopping and (code := self._bury(worker)):
                return code
        return 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping += 1

    def _start(self) -> None:
        # one that replaces another takes no connection before it can answer: the others do
        others = bool(self._workers) and not self._starting
        process = self._spawn.Process(
            target=_work,
            args=(self._settings, self._source, self._listener, self._store, self._buckets,
                  self._all_stop, others),
        )  # fmt: skip
        process.start()
        self._workers.append(_Worker(process))

    def _bury(self, worker: _Worker) -> int:
        """Replace a dead worker; a non-zero return means that starting again is no use.

        A model that cannot be loaded when the service starts ends it. Later (the job store is
        away while a worker is replaced) the other workers go on and it is tried again.
        """
        from platehide.serve.server import EXIT_MODEL_FAILED

        code = worker.process.exitcode
        self._workers.remove(worker)
        self._forget(worker)
        event("worker_died", logging.ERROR, worker=worker.process.pid, exitcode=code)
        starting = worker.started - self._began < STABLE_SECONDS
        if code == EXIT_MODEL_FAILED and (starting or not self._workers):
            return EXIT_MODEL_FAILED
        if time.monotonic() - worker.started < STABLE_SECONDS:
            self._early_deaths += 1
            pause = min(MAX_BACKOFF_SECONDS, 0.1 * 2.0**self._early_deaths)
            if not self._stopping:
                self._signal_or(pause)
        else:
            self._early_deaths = 0
        if not self._stopping:
            self._start()
        return 0

    def _signal_or(self, seconds: float) -> None:
        """Sleep until a signal has come or the time is over."""
        if wait([self._signalled], seconds):
            self._signalled.recv(4096)

    def _forget(self, worker: _Worker) -> None:
        """Drop the dead worker's gauges; its counters stay in the sums."""
        from prometheus_client import multiprocess

        if worker.process.pid is not None:
            forget: Callable[[int, str], None] = multiprocess.mark_process_dead
            forget(worker.process.pid, str(self._metrics))

    def _stop(self) -> None:
        self._all_stop.touch()
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()
        patience = self._settings.drain_delay + self._settings.drain_timeout + STOP_SLACK_SECONDS
        end = time.monotonic() + patience
        for worker in self._workers:
            while worker.process.exitcode is None and time.monotonic() < end:
                worker.process.join(0.1)
                if self._stopping > 1:  # asked twice: at once
                    end = 0.0
            if worker.process.exitcode is None:
                event("worker_killed", logging.ERROR, worker=worker.process.pid)
                worker.process.kill()
                worker.process.join()
        shutil.rmtree(self._metrics, ignore_errors=True)


def _work(
    settings: Settings,
    source: ModelSource,
    listener: socket.socket,
    store: str,
    buckets: Path,
    all_stop: Path,
    listen_when_ready: bool,
) -> None:
    """Body of a worker process."""
    from platehide.serve.server import run_server

    try:
        code = run_server(
            settings,
            source,
            listener,
            job_store=store,
            bucket_file=buckets,
            listen_when_ready=listen_when_ready,
            all_stop=all_stop.exists,
        )
    except PlateHideError as error:
        event("start_failed", logging.CRITICAL, error=str(error))
        code = 3
    raise SystemExit(code)
