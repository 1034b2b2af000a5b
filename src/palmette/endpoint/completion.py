"""Reads a server's response: a chat completion, a temporary failure, or a permanent one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from palmette.endpoint.errors import EndpointError, RequestError, TransientError
from palmette.endpoint.transport import Response

# Timeout, conflict, too early, and too many requests. Of the server's own errors, two are permanent: not implemented,
# and HTTP version not supported.
_TRANSIENT = {408, 409, 425, 429}
_PERMANENT = {501, 505}
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT_PARTS = ("text", "output_text")
_MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion.

    Attributes:
        text: what the model wrote.
        finish_reason: why it ended, as the server says: "stop", "length" (cut at max_tokens), "content_filter" and
            others.
        refusal: the refusal in the server's own field for it. "" if there is none.
        prompt_tokens, completion_tokens: how many tokens were used. None if the server does not count them.
        model: the name under which the server ran the model.
        from_cache: whether it was read from the cache.
        first: the likeliest first tokens with their log-probabilities (nats), where the request asked for them
            (`logprobs`, `top_logprobs`) and the server gives them.
    """

    text: str
    finish_reason: str
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    from_cache: bool = False
    first: tuple[tuple[str, float], ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether the completion was cut at max_tokens."""
        return self.finish_reason == "length"


def read_response(response: Response, url: str, model: str) -> Completion:
    """Read the completion in a response.

    Args:
        response: what the server sent.
        url: base URL, for messages.
        model: the model that was asked, for messages.

    Raises:
        TransientError: the same request may succeed later. There were too many requests, the server had an error, or
            the body is not a chat completion.
        RequestError: the server refuses this request.
        EndpointError: the server refuses every request like this one.
    """
    if 200 <= response.status < 300:
        return read_completion(response.body)
    code, message = _error(response.body)
    found = f"status {response.status}" + (f": {message}" if message else "")
    if code == "insufficient_quota" or response.status == 402:
        raise EndpointError(f"{url}: no credit is left: {found}", "Add credit, or use another key.")
    if response.status in (401, 403):
        raise EndpointError(f"{url} refuses the API key, or needs one: {found}", "Check the key in --key-variable.")
    if response.status in (404, 405) or 300 <= response.status < 400:
        location = response.headers.get("location")
        raise EndpointError(
            f"{url} has no model {model!r}, or no chat completions: {found}"
            + (f" (redirects to {plain_line(location)})" if location else ""),
            "Check --model-name, and that --endpoint is the base URL, which often ends in /v1.",
        )
    if response.status in _TRANSIENT or (response.status >= 500 and response.status not in _PERMANENT):
        raise TransientError(found, retry_after=response.headers.get("retry-after"))
    raise RequestError(
        f"the server refuses the request: {found}", "Read its message. --parameter changes what is sent.", refused=True
    )


def read_completion(body: bytes) -> Completion:
    """Read a chat completion from the JSON body of a successful response.

    Only the text has to be well formed. A malformed token count, refusal or log-probability counts as missing.

    Raises:
        TransientError: the body is not JSON, or not a chat completion.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message, usage = choice["message"], value.get("usage")
        text, refusal = _content(message.get("content"))
        marked = message.get("refusal")
        counts = usage if isinstance(usage, dict) else {}
        return Completion(
            text=_SURROGATE.sub("\ufffd", text),
            finish_reason=str(choice.get("finish_reason") or ""),
            refusal=_SURROGATE.sub("\ufffd", marked if marked and isinstance(marked, str) else refusal),
            prompt_tokens=_count(counts.get("prompt_tokens")),
            completion_tokens=_count(counts.get("completion_tokens")),
            model=str(value.get("model") or ""),
            first=_first(choice.get("logprobs")),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        found = _error(body)[1] or f"it starts with {plain_line(body[:80].decode('utf-8', 'replace'))!r}"
        raise TransientError(f"the response is no chat completion: {found}") from error


def _content(content: Any) -> tuple[str, str]:
    """The text and the refusal in a message's content. The content is a string, a list of parts, or null."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise TypeError("neither text nor parts")
    text = "".join(part["text"] or "" for part in content if part.get("type") in _TEXT_PARTS)
    return text, "".join(part["refusal"] or "" for part in content if part.get("type") == "refusal")


def _first(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """The first token's alternatives. () where the server gives none, or what cannot be read."""
    try:
        listed = logprobs["content"][0]["top_logprobs"]
        return tuple((_SURROGATE.sub("\ufffd", str(one["token"])), float(one["logprob"])) for one in listed)
    except (KeyError, IndexError, TypeError, ValueError):
        return ()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _error(body: bytes) -> tuple[str, str]:
    """The code and the message in the body of an error.

    The body is {"error": {"message": ..., "code": ...}}, a variant of it, or any text.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "", plain_line(body.decode("utf-8", "replace"))
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", plain_line(str(error))
    message = error.get("message") or error.get("detail") or ""
    return str(error.get("code") or error.get("type") or ""), plain_line(str(message))


def plain_line(text: str) -> str:
    """A server's message on one line, without control characters, cut at 300 characters.

    >>> plain_line("no\\x1b[31m such\\n  model")
    'no [31m such model'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 3] + "..."
