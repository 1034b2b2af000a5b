"""What all routes work with: the models, the documents, and the forms of replies."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from palmette.errors import DataError, PackingError, TemplateError, TooLongError
from palmette.serving.documents import Documents
from palmette.serving.errors import ApiError
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread, ServedModel
from palmette.serving.waiting import check_ready

IGNORED = "X-Palmette-Ignored"  # lists the fields of a request that were not looked at
# What a request can cause. Any other error is a fault of the server or of its model.
MISTAKES = (DataError, PackingError, TemplateError, TooLongError)


@dataclass(frozen=True)
class Served:
    """What the routes work with.

    Attributes:
        thread: the models.
        documents: the documents that clients have sent.
        metrics: counts what happens.
        started: when the server started, in seconds since 1970.
    """

    thread: ModelThread
    documents: Documents
    metrics: Metrics
    started: int

    def model(self, name: str | None) -> tuple[str, ServedModel]:
        """A model by its name. It may be left out if there is one.

        Raises:
            ApiError: the models are not loaded, or there is no such model.
        """
        check_ready(self.thread)
        models = self.thread.models
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name is None or name not in models:
            problem = "the request names no model" if name is None else f"there is no model {name[:80]!r}"
            way_out = f"Served are: {', '.join(models)}."
            raise ApiError(HTTPStatus.NOT_FOUND, problem, way_out, param="model", code="model_not_found")
        return name, models[name]


def failure(error: Exception) -> ApiError:
    """An error as a refusal. One that is no mistake of the client says nothing of what happened inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MISTAKES):
        return ApiError(HTTPStatus.BAD_REQUEST, error.problem, error.way_out)
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed", "Its log has the reason, under the id of the request."
    )


def json_reply(value: dict[str, Any], names: list[str]) -> JSONResponse:
    """A reply of JSON, with the header that lists ignored fields."""
    return JSONResponse(value, headers=ignored_header(names))


def ignored_header(names: list[str]) -> dict[str, str]:
    """The header that lists ignored fields, if there are any. Names that no header holds are left out."""
    shown = [name for name in dict.fromkeys(names) if name.isascii() and name.isprintable() and "," not in name]
    return {IGNORED: ", ".join(shown)[:1000]} if shown else {}
