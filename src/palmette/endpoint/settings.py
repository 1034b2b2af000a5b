"""The settings of an endpoint: server, model, API key variable, parameters of requests, limits and prices."""

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
        key_variable: NAME of the environment variable that holds the API key. No key is sent if None.
        parameters: parameters sent with every request, such as max_tokens, temperature and seed.
        concurrency: how many requests may be under way at once.
        requests_per_minute: limit on the requests sent in a minute, which are spaced evenly. No limit if None.
        timeout: seconds without a byte after which an attempt is given up. A complete response may take twice as long.
        max_retries: how many further attempts follow if the first one fails.
        first_backoff: the longest pause after the first failure, in seconds.
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
    """The parameters of every request.

    An assignment overrides the first two arguments. The value null removes a parameter.

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
    """Check a base URL, and return it without a slash at its end.

    Raises:
        EndpointError: the URL is not an HTTP URL, or a part of it could be a secret. These parts are the user, the
            password, the query and the fragment. They are refused because reports contain the URL.

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
    """Read the API key from the environment. None if no variable is given.

    Messages name the variable only if it looks like one, because the user may have given the key itself by mistake.

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
