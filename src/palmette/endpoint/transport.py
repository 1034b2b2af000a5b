"""One exchange with a server over HTTP, on the standard library, and the errors of talking to one.

Redirects are not followed: they would turn a POST into a GET and carry the API key to another host. A server on this very machine is
reached without a proxy, any other through the one that the environment names (HTTPS_PROXY), if any.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from palmette import __version__
from palmette.errors import PalmetteError

MAX_BODY_BYTES = 32 * 2**20
_PATH = "/chat/completions"
_URL = "Give the base URL that ends where /chat/completions follows, such as http://localhost:8080/v1."


class EndpointError(PalmetteError):
    """A server that cannot be used: missing, refusing the key or the model, or failing again and again."""


class RequestError(EndpointError):
    """A request that the server would not answer; others may fare better."""


class Broken(Exception):
    """An exchange that broke off; another try may succeed.

    Args:
        problem: what happened, in words.
        absent: whether nobody was there at all, so that another try makes sense only if somebody was there before.
    """

    def __init__(self, problem: str, *, absent: bool = False) -> None:
        self.problem, self.absent = problem, absent
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a server replied.

    Attributes:
        status: the HTTP status.
        headers: the headers, with names in small letters.
        body: the body's bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def check_url(url: str) -> str:
    """A base URL without a slash at its end.

    Raises:
        EndpointError: it is no HTTP URL, or holds what could be a secret (a user, a password, a query): URLs are written into reports.

    >>> check_url(" http://localhost:8080/v1/ "), check_url("https://host/v1/chat/completions")
    ('http://localhost:8080/v1', 'https://host/v1')
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except (ValueError, UnicodeError) as error:
        raise EndpointError(f"the endpoint's URL cannot be read: {error}", _URL) from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise EndpointError(
            "the endpoint's URL holds a user, a password, a query or a fragment, which could be a secret",
            "Give the URL alone, and the key through an environment variable.",
        )
    if parts.scheme not in ("http", "https") or not host or not (url.isascii() and url.isprintable()) or " " in url:
        raise EndpointError(f"{url!r} is not an HTTP URL", _URL)
    return url.rstrip("/").removesuffix(_PATH).rstrip("/")


def post_json(url: str, body: bytes, *, key: str | None, timeout: float) -> HttpReply:
    """Post JSON to a base URL's chat completions.

    Args:
        url: as `check_url` returned it.
        body: the JSON text.
        key: the API key, sent as a bearer token.
        timeout: seconds of silence after which the exchange is given up; the whole reply may take twice as long.

    Raises:
        Broken: no reply came, or it broke off.
        EndpointError: the server's certificate is not trusted.
    """
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": f"palmette/{__version__}",
    }
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url + _PATH, body, headers, method="POST")
    deadline = time.monotonic() + 2 * timeout
    try:
        with _opener(url).open(request, timeout=timeout) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return HttpReply(response.status, found, _read_body(response, deadline))
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            way_out = "Check the URL, or make the server's certificate known (SSL_CERT_FILE)."
            raise EndpointError(f"{url}: the certificate is not trusted: {reason.verify_message}", way_out) from None
        raise _broken(reason, timeout) from None  # the request, which holds the key, stays out of tracebacks


def _broken(reason: object, timeout: float) -> Broken:
    if isinstance(reason, TimeoutError):
        return Broken(f"no reply within {timeout:g} s")
    if isinstance(reason, ConnectionRefusedError):
        return Broken("connection refused: nothing listens there", absent=True)
    if isinstance(reason, socket.gaierror):
        return Broken("no server of that name is known", absent=True)
    words = (reason.strerror if isinstance(reason, OSError) else "") or str(reason)
    return Broken(f"the connection broke off: {words or type(reason).__name__}")


def _read_body(response: Any, deadline: float) -> bytes:
    """The body, up to a limit of bytes and of time: a server that sends a byte now and then never falls silent."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Broken(f"a reply of more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:  # `read1` does not tell an early end from the end
        raise Broken(f"the reply broke off, {response.length} bytes before its end")
    return b"".join(parts)


class _AsItComes(urllib.request.HTTPErrorProcessor):
    """Takes every status as a reply: no exceptions for errors, no redirects."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:  # noqa: ARG002
        """The reply itself."""
        return response

    https_response = http_response


def _opener(url: str) -> urllib.request.OpenerDirector:
    local = urllib.request.ProxyHandler({}) if _is_loopback(urlsplit(url).hostname or "") else None
    return urllib.request.build_opener(_AsItComes, *([local] if local else []))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
