"""The app: which address is answered by what, around one worker.

Assembly only. `create` is what uvicorn calls in every worker process; tests give a worker of their
own to `app_of`.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from mlops_assets import declared
from mlops_assets.platform import Platform
from mlops_assets.serving import experimenting, invocations, operate, outcomes, predict, v2
from mlops_assets.serving.bodies import answer, refused
from mlops_assets.serving.examples import Examples
from mlops_assets.serving.limits import Guard
from mlops_assets.serving.metrics import CONTENT_TYPE
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.schemas import document
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings

_V2 = "/v2/models/{model}"
_VERSION = _V2 + "/versions/{version}"


def create() -> ASGIApp:
    """The app of a worker process, as the environment says."""
    from threadpoolctl import threadpool_limits

    options, settings = ServeOptions(), Settings()
    specs = declared.specs(settings)
    # Several workers with several threads each would only wait for each other.
    threadpool_limits(1)
    # A look at the registry shall hold a request up for a tenth of Python's usual 5 ms.
    sys.setswitchinterval(0.0005)
    return app_of(Worker(Platform(settings), specs, options, parent=os.getppid()))


def app_of(worker: Worker) -> ASGIApp:
    """The app around a worker."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with worker.running():
            yield

    app = FastAPI(title="mlops-assets", lifespan=lifespan, openapi_url=None)
    app.state.worker, app.state.examples = worker, Examples(worker)
    # Routes of Starlette: bodies are read and checked by our own code, which is ten times quicker
    # than a model of pydantic for every row, and says what was found and what was expected.
    for path, handler in {
        "/models/{model}/predict": predict.predict,
        _V2 + "/infer": v2.infer,
        _VERSION + "/infer": v2.infer,
        "/invocations": invocations.invocations,
        "/models/{model}/invocations": invocations.invocations,
        "/models/{model}/outcomes": outcomes.outcomes,
        "/models/{model}/rollback": operate.rollback,
        "/models/{model}/rollout/start": operate.start,
        "/models/{model}/rollout/{verb}": operate.move,
        "/models/{model}/experiment/start": experimenting.start,
        "/models/{model}/experiment/stop": experimenting.stop,
    }.items():
        app.router.routes.append(_Declared(path, handler, methods=["POST"]))
    for path, handler in {
        "/v2/health/live": v2.live,
        "/v2/health/ready": v2.ready,
        "/v2": v2.server,
        _V2: v2.metadata,
        _VERSION: v2.metadata,
        _V2 + "/ready": v2.model_ready,
        _VERSION + "/ready": v2.model_ready,
        "/models/{model}/rollout": operate.look,
        "/models/{model}/experiment": experimenting.look,
        "/ping": invocations.ping,
        "/health": invocations.ping,
        "/version": invocations.version,
        "/metrics": _metrics,
        "/openapi.json": _openapi,
        "/docs": _docs,
        "/docs/files/{name}": _docs_file,
    }.items():
        app.router.routes.append(_Declared(path, handler, methods=["GET"]))
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _no_such_address)
    app.add_exception_handler(Exception, _broken)
    return Guard(app, worker)


class _Declared(Route):
    """A route that leaves in the scope which one it is, for whoever counts requests."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found, told = super().matches(scope)
        return found, {**told, "route": self}


async def _openapi(request: Request) -> Response:
    worker, examples = request.app.state.worker, request.app.state.examples
    return answer(await to_thread.run_sync(document, worker, examples))


async def _docs(request: Request) -> Response:
    """The page of the interfaces, which needs nothing from anywhere else."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="mlops-assets",
        swagger_js_url="/docs/files/swagger-ui-bundle.js",
        swagger_css_url="/docs/files/swagger-ui.css",
        swagger_favicon_url="/docs/files/favicon.png",
    )


async def _docs_file(request: Request) -> Response:
    return await _docs_files().get_response(request.path_params["name"], request.scope)


@cache
def _docs_files() -> StaticFiles:
    """The program of the page, out of a package that brings nothing else of use."""
    found = find_spec("fastapi_offline")
    return StaticFiles(directory=Path(str(found and found.origin)).parent / "static")


async def _metrics(request: Request) -> Response:
    worker: Worker = request.app.state.worker
    return Response(worker.metrics.page(), media_type=CONTENT_TYPE)


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101
    return refused(error)


def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    found = refused(
        Refusal(
            f"{request.method} {request.url.path[:200]!r}",
            expected="an address and a method of this server; see /docs",
            do="correct the address",
            status=error.status_code,
        )
    )
    found.headers.update(error.headers or {})
    return found


def _broken(request: Request, error: Exception) -> Response:
    return refused(
        Refusal("an error of the server", expected="an answer", do="tell the operator", status=500)
    )
