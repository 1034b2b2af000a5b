"""The trie of spans: every string has the tokens that it has alone."""

from __future__ import annotations

import functools
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from palmette.decode.spans import Window, words
from palmette.decode.trie import span_trie
from palmette.tasks.qa_prompt import json_escape
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
    trie = span_trie(encoder, text, Window(0, len(text), bounds, bounds), 5)
    expected = {tuple(encoder.content(json_escape(span))) for span in {"?", *plain_spans(text, 5, inside_words=inside)}}
    ends = {
        trie.end[node]: tuple(trie.token[n] for n in trie.path(node))
        for node in range(len(trie))
        if trie.end[node] >= 0
    }
    assert set(ends.values()) == expected
    for string, tokens in ends.items():
        assert tokens == tuple(encoder.content(json_escape(trie.strings[string])))


@functools.cache
def encoder_of(style: str) -> TextEncoder:
    tokenizer = STYLES["smollm2" if style in PRE_TOKENIZERS else style]()
    if style in PRE_TOKENIZERS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[style])
    encoder = TextEncoder(tokenizer)
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
