"""Everything that the routes need, built once for a process, and who is asking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import Depends, Request

from platehide.annotate import schema
from platehide.annotate.auth import Caller, Role, authenticate
from platehide.annotate.db import Database, new_id
from platehide.annotate.derive import Deriver
from platehide.annotate.faults import AnnotateError, Denied, NotFound
from platehide.annotate.limits import Limits, client_of, secret_of
from platehide.annotate.media import PhotoStore
from platehide.annotate.projects import Projects
from platehide.annotate.work import WorkDesk

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Unauthorized(AnnotateError):  # noqa: N818
    """Nobody is signed in."""

    code = "unauthorized"
    status = 401


@dataclass
class Job:
    """Something long that runs beside the requests: an import, a ranking."""

    id: str
    project_id: str
    kind: str
    state: str = "running"
    result: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"id": self.id, "kind": self.kind, "state": self.state, "result": self.result}


class Jobs:
    """One long thing at a time, in its own thread; the newest hundred are remembered."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="job")
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def run(self, project_id: str, kind: str, work: Callable[[], dict[str, Any]]) -> Job:
        """Start ``work`` when its turn comes."""
        job = Job(new_id(), project_id, kind)
        with self._lock:
            self._jobs[job.id] = job
            for old in list(self._jobs)[:-100]:
                del self._jobs[old]

        def go() -> None:
            try:
                job.result = work()
                job.state = "done"
            except Exception as error:
                job.result = {"error": str(error) or type(error).__name__}
                job.state = "failed"

        self._pool.submit(go)
        return job

    def get(self, project_id: str, job_id: str) -> Job:
        """A job of a project."""
        job = self._jobs.get(job_id)
        if job is None or job.project_id != project_id:
            raise NotFound("no such job")
        return job

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class Context:
    """The parts of one server.

    Attributes:
        import_roots: folders and URL prefixes that the API may import from.
        https: the site is reached over HTTPS (cookies are then marked Secure).
        public_url: how people reach the site; links in answers begin with it.
    """

    db: Database
    photos: PhotoStore
    projects: Projects
    desk: WorkDesk
    deriver: Deriver
    limits: Limits
    jobs: Jobs
    import_roots: tuple[str, ...]
    https: bool
    public_url: str
    clock: Callable[[], float] = time.time

    def link(self, secret: str) -> str:
        """An invite link; the secret stays in the fragment."""
        return f"{self.public_url.rstrip('/')}/join#{secret}"


def build_context(
    url: str,
    data: Path,
    *,
    import_roots: tuple[str, ...] = (),
    https: bool = False,
    public_url: str = "",
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
) -> Context:
    """Open the store and put the parts together."""
    db = Database(url)
    photos = PhotoStore(data)
    deriver = Deriver(db)
    return Context(
        db=db,
        photos=photos,
        projects=Projects(db, photos, clock=clock),
        desk=WorkDesk(db, clock=clock, wake=deriver.wake),
        deriver=deriver,
        limits=limits or Limits(),
        jobs=Jobs(),
        import_roots=import_roots,
        https=https,
        public_url=public_url,
        clock=clock,
    )


def context_of(request: Request) -> Context:
    """The server's parts."""
    context: Context = request.app.state.context
    return context


Parts = Annotated[Context, Depends(context_of)]


def optional_caller(request: Request, context: Parts) -> Caller | None:
    """Who is asking, or ``None``. Checks the CSRF token of cookie sessions on unsafe methods.

    Raises:
        Denied: a cookie session without its CSRF token, or from another site.
        AnnotateError: too many wrong secrets from this address (429).
    """
    secret = secret_of(request.scope)
    if not secret:
        return None
    by_header = request.headers.get("authorization", "").lower().startswith("bearer ")
    with context.db.read() as connection:
        caller = authenticate(
            connection, secret, "api" if by_header else "session", context.clock()
        )
    if caller is None:
        if context.limits.attempts.take(f"secret {client_of(request.scope)}"):
            raise AnnotateError("too many wrong secrets", code="rate_limited", status=429)
        return None
    if not by_header and request.method not in _SAFE:
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).netloc != request.headers.get("host", ""):
            raise Denied("this request comes from another site", code="csrf")
        if request.headers.get("x-csrf-token", "") != caller.csrf:
            raise Denied("the CSRF token is missing or wrong; reload the page", code="csrf")
    return caller


MaybeCaller = Annotated[Caller | None, Depends(optional_caller)]


def signed_in(caller: MaybeCaller) -> Caller:
    """Whoever is signed in."""
    if caller is None:
        raise Unauthorized("sign in first: open your invite link")
    return caller


def _require(caller: Caller, *roles: Role) -> Caller:
    if caller.role not in roles:
        raise Denied(f"this is for a {' or '.join(roles)}; you are a {caller.role}")
    return caller


Anyone = Annotated[Caller, Depends(signed_in)]


def _worker(caller: Anyone) -> Caller:
    return _require(caller, "worker")


def _requester(caller: Anyone) -> Caller:
    return _require(caller, "requester")


def _expert(caller: Anyone) -> Caller:
    return _require(caller, "expert", "requester")


Worker = Annotated[Caller, Depends(_worker)]
Requester = Annotated[Caller, Depends(_requester)]
Expert = Annotated[Caller, Depends(_expert)]


def expert_project(context: Context, caller: Caller, key: str) -> str:
    """A project's id for an expert who belongs to it or for any requester."""
    project = context.projects.find(key)
    if caller.role != "requester":
        m = schema.members
        with context.db.read() as connection:
            member = connection.execute(
                sa.select(m.c.user_id).where(
                    m.c.project_id == project.id, m.c.user_id == caller.user_id
                )
            ).first()
        if member is None:
            raise NotFound(f"no project {key!r}")
    return str(project.id)
