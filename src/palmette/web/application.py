"""The application: its rooms behind one gate, with one way to begin a session."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan

from palmette.errors import PalmetteError, RunError
from palmette.web.gate import Gate, refusal
from palmette.web.sessions import Session, Sessions

_log = logging.getLogger(__name__)
_STATIC = Path(str(resources.files("palmette.web").joinpath("static")))
_PAGE_STYLE = Path(str(resources.files("palmette.pages").joinpath("templates", "page.css")))
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("palmette.web"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)
MAX_SECONDS = 24 * 3600.0  # that somebody may look at one question
SESSION_SECONDS = 7 * 24 * 3600


class Body(BaseModel):
    """A body of JSON. Names that nobody knows are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Token(Body):
    """What begins a session."""

    token: Annotated[str, Field(max_length=200)]


class Refused(Exception):
    """A request that a room refuses, with its status."""

    def __init__(self, status: HTTPStatus, problem: str, way_out: str) -> None:
        super().__init__(problem)
        self.status, self.problem, self.way_out = status, problem, way_out


def current_session(request: Request) -> Session:
    """The session of a request.

    Raises:
        Refused: it has none.
    """
    state = request.app.state
    session: Session | None = state.sessions.find(request.cookies.get(state.cookie))
    if session is None:
        raise Refused(
            HTTPStatus.UNAUTHORIZED,
            "this browser has not been let in, or the server was started again",
            "Open the link that the server printed when it was started.",
        )
    return session


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Refuse in words what a store cannot take, since the disk is full, say. Nothing was stored then.

    Pages say so in their own words, so the reason is logged for whoever started the server.
    """
    try:
        yield
    except RunError as error:
        _log.error("%s", error)
        raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, error.problem, error.way_out) from error


CurrentSession = Annotated[Session, Depends(current_session)]


def build_application(
    rooms: Sequence[APIRouter],
    sessions: Sessions,
    hosts: Collection[str],
    *,
    port: int,
    lifespan: Lifespan[FastAPI] | None = None,
) -> Gate:
    """The application.

    Args:
        rooms: the rooms, each a router.
        sessions: who may come in.
        hosts: the `Host` headers that are allowed.
        port: the port, which is part of the cookie's name. Browsers send the cookies of a machine to all of its ports.
        lifespan: what happens at its start and at its end.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.sessions, app.state.cookie = sessions, f"palmette-{port}"
    app.mount("/static", _Static(directory=_STATIC), name="static")
    app.add_api_route("/page.css", _page_style, methods=["GET"])
    app.add_api_route("/api/session", _begin, methods=["POST"])
    for room in rooms:
        app.include_router(room)
    handlers: dict[Any, Any] = {
        Refused: _on_refused,
        PalmetteError: _on_mistake,
        RequestValidationError: _on_invalid,
        HTTPException: _on_http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return Gate(app, hosts=hosts)


class _Static(StaticFiles):
    """Files that browsers ask about each time, so no page mixes those of two versions."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _page_style() -> Response:
    """The style of all pages of the project."""
    return Response(_PAGE_STYLE.read_bytes(), media_type="text/css", headers={"Cache-Control": "no-cache"})


def _begin(token: Token, request: Request) -> JSONResponse:
    """Exchange a token for a cookie."""
    state = request.app.state
    begun = state.sessions.begin(token.token)
    if begun is None:
        return refusal(
            HTTPStatus.FORBIDDEN,
            "the link is not one of this server",
            "Open the link that the server printed when it was last started.",
        )
    cookie, session = begun
    response = JSONResponse({"annotator": session.annotator})
    response.set_cookie(state.cookie, cookie, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict")
    return response


def _on_refused(_request: Request, error: Refused) -> JSONResponse:
    return refusal(error.status, error.problem, error.way_out)


def _on_mistake(_request: Request, error: PalmetteError) -> JSONResponse:
    return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.problem, error.way_out)


def _on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}", "Reload the page.")


def _on_http(_request: Request, error: HTTPException) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    return refusal(status, status.phrase.lower(), "Open the page at its address, /.")
