"""Replies in the form of OpenAI's API: whole, and in pieces."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from palmette.serving.jobs import Completion, Scored

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """What all parts of a reply have in common.

    Attributes:
        model: the name of the model.
        kind: a conversation, or the continuation of a text.
        extra: fields of our own beside OpenAI's.
    """

    model: str
    kind: Literal["chat", "text"]
    extra: dict[str, Any] = field(default_factory=dict)
    id: str = field(init=False)
    created: int = field(init=False)

    def __post_init__(self) -> None:
        prefix = "chatcmpl" if self.kind == "chat" else "cmpl"
        object.__setattr__(self, "id", f"{prefix}-{secrets.token_hex(12)}")
        object.__setattr__(self, "created", int(time.time()))

    def whole(self, completion: Completion, *, with_logprobs: bool = False) -> dict[str, Any]:
        """The reply as one object."""
        logprobs = _logprobs(completion.scored) if with_logprobs else None
        said: dict[str, Any] = {"text": completion.text}
        if self.kind == "chat":
            said = {"message": {"role": "assistant", "content": completion.text, "refusal": None}}
        choice = {"index": 0, **said, "logprobs": logprobs, "finish_reason": completion.finish}
        return {**self._head(), "choices": [choice], "usage": usage(completion), **self.extra}

    def first(self) -> bytes:
        """The event that begins a stream, if this kind has one."""
        return self._event([self._choice({"role": "assistant", "content": ""})]) if self.kind == "chat" else b""

    def piece(self, text: str, scored: Sequence[Scored], *, with_logprobs: bool = False) -> bytes:
        """The event for a piece of text."""
        return self._event([self._choice({"content": text}, _logprobs(scored) if with_logprobs else None)])

    def last(self, completion: Completion, *, with_usage: bool = False) -> bytes:
        """The events that end a stream."""
        end = self._event([self._choice({}, None, completion.finish)], **self.extra)
        counted = self._event([], usage=usage(completion)) if with_usage else b""
        return end + counted + DONE

    def _choice(self, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        said = {"delta": delta} if self.kind == "chat" else {"text": delta.get("content", "")}
        return {"index": 0, **said, "logprobs": logprobs, "finish_reason": finish}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head(chunk=self.kind == "chat"), "choices": choices, **more})

    def _head(self, *, chunk: bool = False) -> dict[str, Any]:
        form = "text_completion" if self.kind == "text" else "chat.completion.chunk" if chunk else "chat.completion"
        return {"id": self.id, "object": form, "created": self.created, "model": self.model}


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def usage(completion: Completion) -> dict[str, int]:
    """The numbers of tokens."""
    prompt, reply = completion.num_prompt_tokens, completion.num_tokens
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}


def _logprobs(scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "content": [
            {
                **_token(one.token, one.logprob),
                "top_logprobs": [_token(text, logprob) for text, logprob in one.likeliest],
            }
            for one in scored
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
