"""The trie of spans: every string has the tokens that it has alone."""

from __future__ import annotations

import functools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from palmette.decode.spans import Window, words
from palmette.decode.trie import span_trie
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import json_escape, load_prompt
from palmette.tree.chat import ChatTemplate
from palmette.tree.segments import TextEncoder, _cuts_cleanly
from tests.support.spans import plain_spans, texts
from tests.support.tokenizers import STYLES

LLAMA3_PATTERN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {
    "digits": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "split": [
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}


@settings(max_examples=150, deadline=None)
@given(text=texts, style=st.sampled_from([*sorted(STYLES), *PRE_TOKENIZERS]), inside=st.booleans())
def test_tokens_of_spans_are_those_they_have_alone(text: str, style: str, inside: bool) -> None:
    """Cut out of a longer encoding or not: every string of the trie has the tokens of its own content segment."""
    encoder = encoder_of(style)
    bounds = words(text, inside_words=inside)
    trie = span_trie(task_of(style, "plain"), text, Window(0, len(text), bounds, bounds), 5)
    expected = {tuple(encoder.content(json_escape(span))) for span in {"?", *plain_spans(text, 5, inside_words=inside)}}
    ends = {
        trie.end[node]: tuple(trie.token[n] for n in trie.path(node))
        for node in range(len(trie))
        if trie.end[node] >= 0
    }
    assert set(ends.values()) == expected
    for string, tokens in ends.items():
        assert tokens == tuple(encoder.content(json_escape(trie.strings[string])))


@settings(max_examples=150, deadline=None)
@given(text=texts, style=st.sampled_from([*sorted(STYLES), *PRE_TOKENIZERS]))
def test_a_bare_answer_has_the_blank_before_it(text: str, style: str) -> None:
    """A span is written with the blank that stands before it in the document, and once for each way it stands there.

    Templates that trim what the assistant says leave no blank; Llama 2's puts one before everything.
    """
    encoder, bounds = encoder_of(style), words(text)
    trie = span_trie(task_of(style, "echo"), text, Window(0, len(text), bounds, bounds), 3)
    before, blank = {"llama2": (" ", " "), "llama3": ("", ""), "gemma": ("", "")}.get(style, ("", " "))
    expected = {tuple(encoder.content(before + "?"))}
    for start, *_ in bounds:
        lead = blank if text[:start].endswith(" ") else before
        spans = {text[start:end] for begin, *ends in bounds if begin >= start for end in ends[-1:]}
        spans = {span for span in spans if len(words(span)) <= 3 and span != "?"}
        expected |= {tuple(encoder.content(lead + span)) for span in spans}
    found = {tuple(trie.token[n] for n in trie.path(node)) for node in range(len(trie)) if trie.end[node] >= 0}
    assert found == expected
    assert trie.has_twins == (len(set(trie.strings)) < len(trie.strings))


def test_bare_answers_are_tokens_of_the_document() -> None:
    """Where the tokenizer cuts cleanly: the very ids that the document has at that place."""
    text = "The ferry leaves at 7:40 from (pier 3) in London."
    for style in PRE_TOKENIZERS:
        task = task_of(style, "echo")
        encoding = task.template.encoder._content.encode(text, add_special_tokens=False)
        for span in ("London", "pier", "ferry leaves at 7"):
            start = text.index(span)
            lead = task.lead(text, start)
            assert lead == (" " if span != "pier" else "")
            inside = [
                token
                for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
                if begin < start + len(span) and end > start - len(lead)
            ]
            assert list(task.template.encoder.content(lead + span)) == inside


@functools.cache
def task_of(style: str, prompt: str) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer_of(style)), load_prompt(prompt))


@functools.cache
def tokenizer_of(style: str) -> Any:
    tokenizer = STYLES["smollm2" if style in PRE_TOKENIZERS else style]()
    if style in PRE_TOKENIZERS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[style])
    return tokenizer


@functools.cache
def encoder_of(style: str) -> TextEncoder:
    encoder = TextEncoder(tokenizer_of(style))
    assert encoder._cuts_cleanly or style not in PRE_TOKENIZERS
    return encoder


def test_some_tokenizers_cut_cleanly_and_some_do_not() -> None:
    """The property above meets both ways; a pattern that looks ahead, or a normalizer, is not trusted."""
    assert {encoder_of(style)._cuts_cleanly for style in STYLES} == {True, False}
    spec = json.loads(STYLES["smollm2"]().backend_tokenizer.to_str()) | {"added_tokens": [], "normalizer": None}
    unclean = (r"\w+(?=\.)|.", r"\bx|.", r"\w+$|.", r"(?>a|ab)c|.", r"\w+(?!\S)|.", r"\p{L}++|.", r"x{1,2}+|.", r"\X")
    for pattern, clean in ((LLAMA3_PATTERN, True), *((pattern, False) for pattern in unclean)):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        assert _cuts_cleanly({**spec, "pre_tokenizer": split}) is clean
    assert not _cuts_cleanly({**spec, "normalizer": {"type": "NFC"}})


# How SmolLM2 and Llama 3 split text.
