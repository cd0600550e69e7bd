"""The application: routes, errors as problem documents, health, metrics, pages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from platehide import __version__
from platehide.serve import routes_jobs, routes_photos, schemas
from platehide.serve.edge import Edge
from platehide.serve.problems import Problem
from platehide.serve.routes_photos import PROBLEM, ServiceDep
from platehide.serve.service import Service

_STATIC = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "editor.js": "text/javascript; charset=utf-8",
    "zip.js": "text/javascript; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HTTP_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
pages = APIRouter(include_in_schema=False)
operations = APIRouter(tags=["operations"])


def create_app(service: Service) -> FastAPI:
    """Return the application around ``service``; ``app.state.edge`` is its outermost layer."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="platehide",
        version=__version__,
        description="Hides licence plates on photos of cars.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        root_path=service.settings.root_path,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(routes_photos.router)
    if service.jobs is not None:
        app.include_router(routes_jobs.router)
    app.include_router(operations)
    app.include_router(pages)
    _handle_errors(app)
    app.openapi = lambda: _openapi(app, keys=service.keys_needed)  # type: ignore[method-assign]
    return app


def wrap(app: FastAPI) -> Edge:
    """Put the outermost layer round ``app``."""
    service: Service = app.state.service
    settings = service.settings
    return Edge(
        app,
        service.telemetry,
        service.tracing,
        access_log=settings.access_log,
        gate=service.gate,
        max_body=settings.max_body,
    )


def _handle_errors(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        request.state.note["code"] = problem.code
        return problem.response(request.state.request_id)

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _HTTP_CODES.get(error.status_code, "bad_request")
        return answer(request, Problem(code, str(error.detail), headers=error.headers))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = [
            {"parameter": ".".join(map(str, e["loc"][1:])), "message": e["msg"]}
            for e in error.errors()
        ]
        detail = "; ".join(f"{w['parameter']}: {w['message']}" for w in wrong)
        return answer(request, Problem("invalid_parameter", detail, extra={"errors": wrong}))

    async def on_gone(request: Request, error: Exception) -> Response:
        del request, error
        return Response(status_code=499)  # nobody reads it

    async def on_bug(request: Request, error: Exception) -> Response:
        del error  # the edge logs it
        return answer(request, Problem("internal", "an internal error; see the log"))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ClientDisconnect, on_gone)
    app.add_exception_handler(Exception, on_bug)


def _openapi(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    models = components.setdefault("schemas", {})
    for model in (schemas.ProblemDocument, schemas.ReportRow, schemas.JobRequest):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        models.update(schema.pop("$defs", {}))
        models[model.__name__] = schema
    if keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        }
        for path, methods in document["paths"].items():
            if path.startswith("/v1/") and not path.startswith(("/v1/covers", "/v1/models")):
                for operation in methods.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
    app.openapi_schema = document
    return document


@operations.head("/healthz", include_in_schema=False)
@operations.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    """Answer as long as the event loop turns."""
    return {"status": "ok"}


@operations.head("/readyz", include_in_schema=False)
@operations.get("/readyz", summary="The process should get traffic", responses={503: PROBLEM})
async def readyz(service: ServiceDep) -> dict[str, Any]:
    """Yes once the model has answered a real photo, no while draining."""
    if service.gate.draining:
        raise Problem("draining", "shutting down")
    if not service.gate.ready:
        raise Problem("not_ready", "the model is not loaded yet", headers={"Retry-After": "2"})
    return {"status": "ready", "models": list(service.models.loaded)}


@operations.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: ServiceDep) -> Response:
    """Answer the sum over all worker processes."""
    body, content_type = service.telemetry.exposition()
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


@operations.get("/v1/models", summary="The loaded models", response_model=schemas.ModelsOut)
async def models(service: ServiceDep) -> dict[str, Any]:
    """Answer which models are loaded and how the candidate is used."""
    return {
        "current": service.models.current_name,
        "candidate": service.models.candidate_name,
        "mode": service.settings.candidate_mode,
        "service": __version__,
        "keys_needed": service.keys_needed,
        "jobs": service.jobs is not None,
    }


@operations.get("/openapi.json", summary="This document", response_class=JSONResponse)
async def openapi_json(request: Request) -> JSONResponse:
    """Answer the OpenAPI document."""
    app: FastAPI = request.app
    return JSONResponse(app.openapi(), headers={"Cache-Control": "no-cache"})


def _file(name: str) -> Response:
    media = _STATIC.get(name)
    if media is None:
        raise Problem("not_found", "no such file")
    data = resources.files("platehide.serve").joinpath("static", name).read_bytes()
    return Response(data, 200, {"Cache-Control": "no-cache"}, media_type=media)


@pages.api_route("/", methods=["GET", "HEAD"])
async def index() -> Response:
    """Answer the page."""
    return _file("index.html")


@pages.api_route("/docs", methods=["GET", "HEAD"])
async def docs() -> Response:
    """Answer the page that shows the OpenAPI document; nothing comes from elsewhere."""
    return _file("docs.html")


@pages.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str) -> Response:
    """Answer a file of the page."""
    return _file(name)


@pages.get("/favicon.ico")
async def favicon() -> Response:
    """Answer the icon for browsers that ask for it by this name."""
    return _file("icon.svg")
