"""API keys: the file that holds them, and the check of each request."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Scope

from palmette.errors import DataError, reason_of
from palmette.hosts import is_loopback
from palmette.serving.errors import ApiError

SHORTEST = 16  # characters
OPEN_PATHS = ("/health",)


def read_keys(path: Path | None, host: str) -> tuple[str, ...]:
    """The keys in a file, one a line. Blank lines are left out.

    Args:
        path: the file. None for no keys, with which everybody who reaches the server may use it.
        host: the address to listen at.

    Raises:
        DataError: the file cannot be read, holds no key, or a short one, or there is no file and others can reach the
            server.
    """
    if path is None:
        if not is_loopback(host):
            raise DataError(
                f"listening at {host} lets other machines in, and there is no API key",
                "Give --api-key-file FILE with a key a line, or leave out --host.",
            )
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the keys in {path}: {reason_of(error)}", "Give a text file.") from error
    keys = tuple(line.strip() for line in lines if line.strip())
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST or not key.isascii() or " " in key:
            raise DataError(
                f"key {number} in {path} is not {SHORTEST} or more ASCII characters without blanks",
                'Make one: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
    if not keys:
        raise DataError(f"{path} holds no API key", "Write a key into it, one a line.")
    return keys


class KeyCheck:
    """Refuses requests without a key.

    Args:
        keys: the keys. Without any, nothing is refused.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def __call__(self, scope: Scope) -> JSONResponse | None:
        """A refusal, or None."""
        if not self._keys or scope["path"] in OPEN_PATHS:
            return None
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = key.strip().encode("utf-8", "surrogateescape")
        # All are compared, so the time tells nothing about which was nearly right.
        if scheme.lower() == "bearer" and sum(hmac.compare_digest(given, one) for one in self._keys):
            return None
        return ApiError(
            HTTPStatus.UNAUTHORIZED,
            "the request has no API key of this server",
            "Send the header Authorization: Bearer KEY.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        ).reply()
