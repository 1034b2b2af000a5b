"""What a server sends back is read in all its shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palmette.endpoint.completion import read_completion
from palmette.endpoint.errors import TransientError
from tests.support.chat_server import completion


def test_shapes_of_completions() -> None:
    parts = completion(None)
    parts["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_completion(json.dumps(parts).encode()).text == "ab"
    filtered = completion(None, usage={"prompt_tokens": True, "completion_tokens": -1})
    filtered["choices"][0] |= {"finish_reason": "content_filter", "message": {"content": None, "refusal": "no"}}
    found = read_completion(json.dumps(filtered).encode())
    assert (found.text, found.refusal, found.finish_reason) == ("", "no", "content_filter")
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)
    assert read_completion(json.dumps(completion("half \ud83d")).encode()).text == "half \ufffd"
    for body in (
        b"[]",
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]}',
        b"[" * 100_000,
        b"\xff",
    ):
        with pytest.raises(TransientError, match="no chat completion"):
            read_completion(body)


@pytest.mark.parametrize("usage", [7, "many", [11, 7], True, {"prompt_tokens": "11", "completion_tokens": 7.0}, {}])
def test_odd_usage_does_not_throw_a_completion_away(usage: Any) -> None:
    found = read_completion(json.dumps(completion("fine", usage=usage)).encode())
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("fine", None, None)


@pytest.mark.parametrize(
    ("content", "text", "refusal"),
    [
        (None, "", ""),
        ([], "", ""),
        ([{"type": "text", "text": None}], "", ""),
        ([{"type": "text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}], "ab", ""),
        ([{"type": "output_text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}], "a", ""),
        ([{"type": "refusal", "refusal": "I must not."}], "", "I must not."),
    ],
)
def test_content_may_be_null_or_parts(content: Any, text: str, refusal: str) -> None:
    found = read_completion(json.dumps(completion(content)).encode())
    assert (found.text, found.refusal) == (text, refusal)


@pytest.mark.parametrize("refusal", [None, False, 0, {}, ["no"]])
def test_an_odd_refusal_counts_as_none(refusal: Any) -> None:
    value = completion("fine")
    value["choices"][0]["message"]["refusal"] = refusal
    found = read_completion(json.dumps(value).encode())
    assert (found.text, found.refusal) == ("fine", "")
