"""What every request passes first: it gets an id, is counted, and leaves a line in the log without its contents."""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palmette.serving.metrics import Metrics

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_OWN = "/palmette/"
_GONE = 499  # the client closed the connection before it had a reply, as nginx logs it


def write_line(record: dict[str, Any]) -> None:
    """Write a line of the log on standard error."""
    print(json.dumps(record), file=sys.stderr, flush=True)


def note(scope: Scope, **fields: Any) -> None:
    """Add fields to the log line of a request. Never texts of people."""
    scope["state"].setdefault("noted", {}).update(fields)


def note_failure(scope: Scope, error: BaseException) -> None:
    """Add an error that nobody expected to the log line of a request: its kind and where it came up.

    Its message is left out, since it may hold texts of people.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{frame.filename.rpartition(_OWN)[2]}:{frame.lineno}" for frame in frames if _OWN in frame.filename]
    note(scope, error=type(error).__name__, at=own)


class Observed:
    """An ASGI application that watches the requests to another one.

    Args:
        app: the other application.
        metrics: counts the requests.
        log: takes a line for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        log: Callable[[dict[str, Any]], None] = write_line,
    ) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        id_ = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = id_
        started, status = time.perf_counter(), _GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = id_
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            if "noted" not in scope["state"] or "error" not in scope["state"]["noted"]:
                raise  # not one that the application has answered
        finally:
            seconds = time.perf_counter() - started
            # As the route has it. The paths that clients make up would fill the memory.
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.count("requests_total", path=path, status=str(status))
            self._metrics.took(seconds)
            self._log(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "request_id": id_,
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "seconds": round(seconds, 4),
                    **scope["state"].get("noted", {}),
                }
            )
