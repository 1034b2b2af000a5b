"""What a server's reply means: a completion, a failure that may pass, or one that stays."""

from __future__ import annotations

import json
import re
from typing import Any

from palmette.endpoint.cache import Completion
from palmette.endpoint.transport import Broken, EndpointError, HttpReply, RequestError

# Statuses that may pass: timeout, conflict, too early, too many requests; and a server's own errors but for the two that stay.
_PASSING = {408, 409, 425, 429}
_STAYING = {501, 505}
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_LONGEST_WORDS = 300


class Passing(Exception):
    """A failure that may pass.

    Args:
        problem: what happened, in words.
        retry_after: the server's Retry-After header.
    """

    def __init__(self, problem: str, retry_after: str | None = None) -> None:
        self.problem, self.retry_after = problem, retry_after
        super().__init__(problem)


def completion_in(reply: HttpReply, url: str, model: str) -> Completion:
    """The completion in a reply.

    Args:
        reply: what the server replied.
        url: the base URL.
        model: the model that was asked.

    Raises:
        Passing: the request may be tried again as it is: too many requests, the server's own errors, a reply that is not what it should be.
        RequestError: the server will not answer this request.
        EndpointError: the server will answer no request of this kind.
    """
    if 200 <= reply.status < 300:
        return read_completion(reply.body)
    code, said = _error(reply.body)
    words = f"status {reply.status}" + (f": {said}" if said else "")
    if code == "insufficient_quota" or reply.status == 402:
        raise EndpointError(f"{url}: nothing is left to spend: {words}", "Add credit, or give another key.")
    if reply.status in (401, 403):
        raise EndpointError(f"{url} refuses the API key, or its absence: {words}", "Check the key in --key-variable.")
    if reply.status in (404, 405) or 300 <= reply.status < 400:
        to = f" (redirects to {reply.headers['location']})" if "location" in reply.headers else ""
        raise EndpointError(
            f"{url} has no model {model!r}, or no chat completions: {words}{to}",
            "Check --model-name, and that --endpoint ends where /chat/completions follows (often in /v1).",
        )
    if reply.status in _PASSING or (reply.status >= 500 and reply.status not in _STAYING):
        raise Passing(words, reply.headers.get("retry-after"))
    raise RequestError(f"the server will not answer: {words}", "Look at what it says; --parameter changes the request.")


def read_completion(body: bytes) -> Completion:
    """A chat completion from the JSON of a reply with status 200.

    Raises:
        Passing: it is no JSON, or no chat completion.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message, usage = choice["message"], value.get("usage") or {}
        return Completion(
            text=_HALF_PAIR.sub("\ufffd", _text(message.get("content"))),
            finish_reason=str(choice.get("finish_reason") or ""),
            refusal=_HALF_PAIR.sub("\ufffd", _text(message.get("refusal"))),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            model=str(value.get("model") or ""),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        words = _error(body)[1] or "it begins " + repr(plain_words(body[:80].decode("utf-8", "replace")))
        raise Passing(f"the reply is no chat completion: {words}") from error


def _text(content: Any) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if part.get("type") == "text")
    if not (content is None or isinstance(content, str)):
        raise TypeError
    return content or ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _error(body: bytes) -> tuple[str, str]:
    """The code and the words of an error's body: {"error": {"message": ..., "code": ...}}, its like, or any text."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "", plain_words(body.decode("utf-8", "replace"))
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", plain_words(str(error))
    words = error.get("message") or error.get("detail") or ""
    return str(error.get("code") or error.get("type") or ""), plain_words(str(words))


def plain_words(text: str) -> str:
    """A server's words on one line, without control characters, cut where they grow long.

    >>> plain_words("no\\x1b[31m such\\n  model")
    'no [31m such model'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 3] + "..."


def unlikely_to_start(broken: Broken, url: str) -> EndpointError:
    """The error for a server that was never there."""
    return EndpointError(f"cannot reach {url}: {broken.problem}", "Start the server, or check --endpoint.")
