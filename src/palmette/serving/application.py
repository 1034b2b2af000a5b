"""The application: routes behind the gate and the check of keys, with every request counted and logged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from palmette import __version__
from palmette.errors import PalmetteError
from palmette.serving.errors import ApiError, refuse
from palmette.serving.keys import KeyCheck
from palmette.serving.native import DOCUMENTS, document_routes, reading_routes, state_routes
from palmette.serving.observed import Observed, note_failure, write_line
from palmette.serving.openai_routes import openai_routes
from palmette.serving.served import Served, failure
from palmette.serving.uploads import FILE_TYPES
from palmette.serving.waiting import ClientGoneError
from palmette.web.gate import Gate

MAX_BODY = 32 * 2**20  # bytes
_GONE = 499  # nobody reads it


def build_api(served: Served) -> FastAPI:
    """The API, without what stands before it."""
    app = FastAPI(title="Palmette", version=__version__, docs_url=None, redoc_url=None)
    for routes in (state_routes, openai_routes, document_routes, reading_routes):
        app.include_router(routes(served))
    handlers: Mapping[Any, Any] = {
        ApiError: _on_error,
        PalmetteError: _on_error,
        RequestValidationError: _on_invalid,
        HTTPException: _on_http,
        ClientGoneError: _on_gone,
        Exception: _on_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


def build_application(
    served: Served,
    *,
    hosts: Collection[str],
    keys: Collection[str] = (),
    log: Callable[[dict[str, Any]], None] = write_line,
) -> Observed:
    """The application that is served.

    Args:
        served: the models and the documents.
        hosts: the `Host` headers that are allowed.
        keys: the API keys. Without any, everybody may come in.
        log: takes a line for each request.
    """
    api = build_api(served)
    gate = Gate(
        api,
        hosts=hosts,
        max_body=MAX_BODY,
        shorten="Send a shorter document.",
        refuse=refuse,
        check=KeyCheck(keys),
        files={DOCUMENTS: FILE_TYPES},
    )
    return Observed(gate, served.metrics, log)


def _on_error(request: Request, error: Exception) -> JSONResponse:
    refused = failure(error)
    if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        note_failure(request.scope, error)
    return refused.reply()


def _on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return ApiError(
        HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}", "Correct it.", param=where, code="invalid_value"
    ).reply()


def _on_http(_request: Request, error: HTTPException) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    way_out = "See the reference of the HTTP API."
    return ApiError(status, status.phrase.lower(), way_out, headers=error.headers).reply()


def _on_gone(_request: Request, _error: ClientGoneError) -> Response:
    return Response(status_code=_GONE)
