"""The web application: routes, pages, error answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from platehide import __version__
from platehide.annotate import routes_people, routes_projects, routes_review, routes_work
from platehide.annotate.context import Context
from platehide.annotate.faults import AnnotateError
from platehide.annotate.limits import Guard
from platehide.errors import ImageError, PlateHideError, UsageError

STATIC = Path(__file__).parent / "static"
PAGES = {
    "/": "join.html",
    "/join": "join.html",
    "/work": "work.html",
    "/projects": "admin.html",
    "/review": "review.html",
}


def create_app(context: Context) -> FastAPI:
    """The application over a store. The deriver runs in a thread while the app is up."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        context.deriver.start()
        yield
        context.deriver.stop()
        context.jobs.close()
        context.db.close()

    app = FastAPI(
        title="platehide annotate",
        version=__version__,
        description="Crowd annotation of licence plates. Sign in by session cookie (with the "
        "header X-CSRF-Token on unsafe methods) or by `Authorization: Bearer TOKEN`.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.context = context
    for part in (routes_people, routes_work, routes_projects, routes_review):
        app.include_router(part.router)
    app.add_exception_handler(PlateHideError, _known_error)

    @app.get("/health", include_in_schema=False)
    def health() -> dict[str, str]:
        with context.db.read():
            return {"status": "ok"}

    def page(path: str, name: str) -> None:
        @app.get(path, include_in_schema=False)
        def show() -> FileResponse:
            return FileResponse(STATIC / name, headers={"cache-control": "no-cache"})

    for path, name in PAGES.items():
        page(path, name)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, limits=context.limits, https=context.https)
    return app


def _known_error(request: Request, error: Exception) -> Response:
    del request
    status = 500
    code = "internal"
    if isinstance(error, AnnotateError):
        status = error.status
    elif isinstance(error, UsageError | ImageError):
        status = 422
    if isinstance(error, PlateHideError):
        code = error.code
    return JSONResponse({"error": str(error), "code": code}, status_code=status)
