"""What every request passes before the application sees it.

The order is fixed. First the `Host` header must be on a list: a page of another site that made its own name point at
this machine (DNS rebinding) is stopped here, since the browser still names that site. Then a request that may change
something must come from a page of ours, and must carry a small body of JSON, or a file where an application takes
files. Browsers send such bodies across sites only after asking, and no answer here ever allows it: there are no CORS
headers at all.

Not covered: the connection is plain HTTP, so whoever can read the network reads the cookie too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024  # bytes
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READS = ("GET", "HEAD")
_OWN_PAGES = ("same-origin", "none")
# Makes a refusal of a status, a problem and a way out.
Refuse = Callable[[HTTPStatus, str, str], JSONResponse]


def refusal(status: HTTPStatus, problem: str, way_out: str) -> JSONResponse:
    """A refusal as pages and scripts read it: `problem` and `way_out`."""
    return JSONResponse({"problem": problem, "way_out": way_out}, status_code=status)


def host_names(names: Collection[str], port: int) -> frozenset[str]:
    """The `Host` headers under which a server is asked, for its names and addresses and its port.

    >>> sorted(host_names(["localhost", "::1"], 8765))
    ['[::1]:8765', 'localhost:8765']
    >>> sorted(host_names(["localhost"], 80))
    ['localhost', 'localhost:80']
    """
    bracketed = [f"[{name}]" if ":" in name else name.lower() for name in names]
    return frozenset(f"{name}:{port}" for name in bracketed) | (frozenset(bracketed) if port == 80 else frozenset())


class Gate:
    """An ASGI application that checks requests before another one sees them, and sets the headers of its answers.

    Args:
        app: the other application.
        hosts: the `Host` headers that are allowed, in lower case, with the port.
        max_body: the largest body, in bytes.
        shorten: the way out for a body that is larger.
        refuse: how refusals are written.
        check: what else refuses a request by its scope, before its body is read.
        files: the types of bodies that are taken beside JSON, by the path. None of them may be one that browsers send
            across sites without asking first.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        max_body: int = MAX_BODY,
        shorten: str = "Mark a shorter span.",
        refuse: Refuse = refusal,
        check: Callable[[Scope], JSONResponse | None] = lambda _: None,
        files: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._files = files
        self._app, self._hosts, self._max_body, self._shorten = app, frozenset(hosts), max_body, shorten
        self._refuse, self._check = refuse, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page opens a web socket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(scope) or self._check(scope)
        body = b""
        if refused is None and scope["method"] not in _READS:
            read = await self._read(receive)
            refused = self._too_large() if read is None else None
            body = read or b""
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        reads = scope["method"] in _READS
        await self._app(scope, receive if reads else _replayed(body, receive), send_guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return self._refuse(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server is not known under that name",
                "Use the address that it printed when it was started.",
            )
        if scope["method"] in _READS:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin is not None and origin.lower() != f"http://{hosts[0].lower()}") or (
            site is not None and site not in _OWN_PAGES
        ):
            return self._refuse(
                HTTPStatus.FORBIDDEN, "the request comes from a page of another site", "Use the page of this server."
            )
        # A DELETE has no body, and browsers send none across sites without asking first.
        kind, files = headers.get("content-type", "").partition(";")[0].strip().lower(), self._files.get(scope["path"])
        if scope["method"] != "DELETE" and kind != "application/json" and kind not in (files or ()):
            file = " Or send a file, with its own type." if files else ""
            return self._refuse(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "the body is not JSON",
                f"Send JSON, with the header Content-Type: application/json.{file}",
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            return self._too_large()
        return None

    def _too_large(self) -> JSONResponse:
        problem = f"the body is larger than {self._max_body:,} bytes"
        return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem, self._shorten)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body. None if it is too large, whatever its header said."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_body:
                return None
            more = message["type"] == "http.request" and message.get("more_body", False)
        return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read, and after it whatever comes."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
