"""Refusals in the shape of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "server_error",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
}


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: the status of the reply.
        problem: what is wrong.
        way_out: how to put it right.
        param: the field of the body that is at fault.
        code: a short name of the fault for programs.
        headers: headers of the reply.
    """

    def __init__(
        self,
        status: HTTPStatus,
        problem: str,
        way_out: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status, self.message = status, f"{problem.rstrip('.')}. {way_out}"
        self.param, self.code, self.headers = param, code, dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON of the reply."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def reply(self) -> JSONResponse:
        """The reply."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def refuse(status: HTTPStatus, problem: str, way_out: str) -> JSONResponse:
    """A refusal of the gate."""
    return ApiError(status, problem, way_out).reply()
