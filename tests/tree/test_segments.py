"""The copies of a tokenizer that encode template text and content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palmette.tree.segments import TextEncoder
from tests.support.tokenizers import STYLES


def unigram() -> PreTrainedTokenizerFast:
    """Unigram with a normalizer and a leading blank, as T5 and XLM-R have them."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁a", -1.5), *((letter, -3.0) for letter in "abc")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.add_tokens(["<think>", "  "])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def word_piece() -> PreTrainedTokenizerFast:
    """WordPiece without a decoder, and with a control token inside the vocabulary."""
    words = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "a", "##b", "c"])}
    backend = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[SEP]")


TOKENIZERS = {**STYLES, "unigram": unigram, "word piece": word_piece}


def rewritten(backend: Any, drop: set[int]) -> dict[str, Any]:
    """What a copy is to be, made by rewriting the whole of the serialized backend."""
    spec = json.loads(backend.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["id"] not in drop]
    spec["post_processor"] = spec["truncation"] = spec["padding"] = None
    for stage in [spec["pre_tokenizer"], *(spec["pre_tokenizer"] or {}).get("pretokenizers", [])]:
        if stage and stage["type"] == "ByteLevel":
            stage["add_prefix_space"] = False
        if stage and stage["type"] == "Metaspace":
            stage["prepend_scheme"] = "never"
    normalizer = spec["normalizer"]
    if normalizer and normalizer["type"] == "Prepend":
        spec["normalizer"] = None
    elif normalizer and normalizer["type"] == "Sequence":
        normalizer["normalizers"] = [one for one in normalizer["normalizers"] if one["type"] != "Prepend"]
    return dict(json.loads(Tokenizer.from_str(json.dumps(spec)).to_str()))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_copies_are_the_tokenizer_without_what_they_leave_out(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    encoder, backend = TextEncoder(tokenizer), tokenizer.backend_tokenizer
    assert json.loads(encoder._template.to_str()) == rewritten(backend, set())
    dropped = {*encoder.control_tokens}
    expected = rewritten(backend, dropped)
    if any(token["id"] != backend.token_to_id(token["content"]) for token in expected["added_tokens"]):
        expected = rewritten(backend, {*backend.get_added_tokens_decoder()})
    assert json.loads(encoder._content.to_str()) == expected
    assert tokenizer.backend_tokenizer.to_str() == backend.to_str()
