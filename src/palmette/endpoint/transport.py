"""Sends a POST request over HTTP with httpx2, with limits on the size and time of the response.

Redirects are not followed, because they would carry the API key to another host. A server on this machine is reached
directly. All other servers are reached through the proxy in the environment (HTTPS_PROXY, NO_PROXY), if there is one.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2

from palmette import __version__
from palmette.endpoint.errors import EndpointError, TransientError
from palmette.endpoint.settings import PATH
from palmette.hosts import is_loopback

MAX_BODY_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response.

    Attributes:
        status: the status code.
        headers: the headers, with names in lower case.
        body: the decoded bytes of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def open_http(url: str, key: str | None, timeout: float, concurrency: int) -> httpx2.AsyncClient:
    """Open an HTTP client for one server. It is an asynchronous context manager.

    Args:
        url: base URL, as `check_url` returned it.
        key: the API key, sent as a bearer token.
        timeout: seconds to wait for a connection, and for each part of a response.
        concurrency: how many connections may be open at once. They stay open from one request to the next.

    Raises:
        EndpointError: the environment names a proxy or a certificate file that cannot be used.
    """
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # so that the size limit holds for the decoded body
        "User-Agent": f"palmette/{__version__}",
        **({} if key is None else {"Authorization": f"Bearer {key}"}),
    }
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        base = httpx2.URL(url)
        direct = httpx2.AsyncHTTPTransport(limits=limits) if is_loopback(base.host) else None
        return httpx2.AsyncClient(base_url=base, headers=headers, timeout=timeout, limits=limits, transport=direct)
    except (OSError, ValueError, ImportError, httpx2.InvalidURL):  # the message may contain a proxy's password
        raise EndpointError(
            f"no connection to {url} can be set up: a proxy or a certificate file that the environment names cannot be "
            "used",
            "Check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE. Proxies start with http:// or https://.",
        ) from None


async def post(http: httpx2.AsyncClient, body: bytes) -> Response:
    """Post JSON to the server's chat completions.

    Args:
        http: the client, from `open_http`.
        body: the JSON text.

    Raises:
        TransientError: there was no response, or only a part of it.
        EndpointError: the server's certificate is not trusted.
    """
    try:
        async with http.stream("POST", PATH, content=body) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise TransientError(f"a response of more than {MAX_BODY_BYTES} bytes")
            return Response(response.status_code, dict(response.headers), b"".join(parts))
    except httpx2.RequestError as error:
        raise failure(error, http) from None  # the request contains the key and must not appear in a traceback


def failure(error: httpx2.RequestError, http: httpx2.AsyncClient | httpx2.Client) -> TransientError | EndpointError:
    """Translate an error of httpx2. Its causes say why a connection failed."""
    if isinstance(error, httpx2.TimeoutException):
        return TransientError(f"no response within {http.timeout.read:g} s")
    words = str(error) or type(error).__name__
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = f"{http.base_url}: the certificate is not trusted: {cause.verify_message}"
            return EndpointError(words, "Check the URL, or name a file with the server's certificate in SSL_CERT_FILE.")
        if isinstance(cause, ConnectionRefusedError):
            return TransientError("connection refused: nothing listens there", unreachable=True)
        if isinstance(cause, socket.gaierror):
            return TransientError("the host name is not known", unreachable=True)
        if isinstance(cause, OSError) and cause.strerror:
            words = cause.strerror
    return TransientError(f"the connection failed: {words}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):  # one error for each address of the host
            for part in error.exceptions:
                yield from _causes(part)
        error = error.__cause__ or error.__context__
