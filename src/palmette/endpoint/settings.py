"""Settings of an endpoint: the server, the model, the API key's variable, the parameters of requests, limits and
prices.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from palmette.endpoint.errors import EndpointError

PATH = "/chat/completions"
RESERVED = frozenset({"model", "messages", "stream", "n", "tools", "functions"})
_URL = f"Give the base URL, to which {PATH} is added, such as http://localhost:8080/v1."
_PARAMETER = "Give NAME=JSON, such as top_p=0.9 or reasoning_effort='\"low\"'."
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,39}")


@dataclass(frozen=True)
class Endpoint:
    """A model on a server, and how to ask it.

    Attributes:
        url: base URL, such as http://localhost:8080/v1.
        model: the model's name on the server.
        key_variable: NAME of the environment variable that holds the API key. None sends no key.
        parameters: sent with every request: max_tokens, temperature, seed and the like.
        concurrency: requests under way at once.
        requests_per_minute: limit on the requests sent, spaced evenly. None for no limit.
        timeout: seconds without a byte after which an attempt is given up. A complete response may take twice as long.
        max_retries: further attempts after the first one failed.
        first_backoff: seconds, the longest pause after a first failure.
        price_in, price_out: price of a million prompt and completion tokens, in any currency. None if unknown.
    """

    url: str
    model: str
    key_variable: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 4
    requests_per_minute: float | None = None
    timeout: float = 120.0
    max_retries: int = 6
    first_backoff: float = 1.0
    price_in: float | None = None
    price_out: float | None = None


def request_parameters(max_tokens: int, temperature: float, assignments: Iterable[str] = ()) -> dict[str, Any]:
    """Parameters of every request. An assignment wins over the first two arguments, and null removes a parameter.

    Args:
        max_tokens: where the server cuts a completion, in tokens.
        temperature: sampling temperature. 0 is greedy.
        assignments: further parameters, each as NAME=JSON.

    Raises:
        EndpointError: an assignment has no name, or its value is not JSON.

    >>> request_parameters(9, 0.0, ["temperature=null", "stop=[\\"x\\"]"])
    {'max_tokens': 9, 'stop': ['x']}
    """
    chosen: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise EndpointError(f"the parameter {text!r} has no name or no value", _PARAMETER)
        try:
            chosen[name.strip()] = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise EndpointError(f"the value of the parameter {name!r} is not JSON: {value!r}", _PARAMETER) from error
    return {name: value for name, value in chosen.items() if value is not None}


def check_url(url: str) -> str:
    """A base URL without a slash at its end.

    Raises:
        EndpointError: it is not an HTTP URL, or it has a part that could be a secret: a user, a password, a query, a
            fragment. Reports contain the URL.

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
    if parts.username is not None or parts.password is not None or "?" in url or "#" in url:
        raise EndpointError(
            "the endpoint's URL contains a user, a password, a query or a fragment, which could be a secret",
            "Give the URL alone, and the key in an environment variable.",
        )
    if parts.scheme not in ("http", "https") or not host or not (url.isascii() and url.isprintable()) or " " in url:
        raise EndpointError(f"{url!r} is not an HTTP URL", _URL)
    return url.rstrip("/").removesuffix(PATH).rstrip("/")


def read_key(variable: str | None) -> str | None:
    """The API key from the environment, or None without a variable.

    Messages name the variable only if it looks like one, because somebody may have given the key itself.

    Raises:
        EndpointError: the variable is not set, or its value cannot be an API key.
    """
    if variable is None:
        return None
    named = f"variable {variable}" if _VARIABLE.fullmatch(variable) else "variable given for the API key"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EndpointError(
            f"the environment {named} is not set", "Set it to the key, and give its name instead of the key."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise EndpointError(
            f"the environment {named} holds no API key: its value has spaces or unusual characters",
            "Set it to the key alone.",
        )
    return key
