"""Texts cut into pieces: every token is learned once, and what stands before it is what stood there in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from palmette.errors import TemplateError
from palmette.tasks.text_pieces import TextPieces, beginning, end_of_text
from tests.support.tokenizers import byte_level_tokenizer

TEXT = "The ferry leaves at 7:40 from pier 3. Question: what is it built of?"


@given(st.text(alphabet="abc .\né<|im_end|>", min_size=1, max_size=60), st.integers(2, 12))
def test_every_token_is_learned_once_after_the_one_before_it(text: str, size: int) -> None:
    """The tokens are those of the tokenizer itself, which knows no control tokens in text."""
    tokenizer = byte_level_tokenizer(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>")
    pieces = TextPieces(tokenizer, size)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    given_tokens, learned = [], []
    for tree in pieces.trees("source", text):
        first, rest = tree.root.segments
        assert (len(first.tokens), first.learn, rest.learn) == (1, 0.0, 1.0)
        assert 1 <= len(rest.tokens) <= size - 1
        given_tokens.append(first.tokens[0])
        learned.append(rest.tokens)
    whole = [token for piece in learned for token in piece]
    assert whole[-1] == end
    assert end not in whole[:-1]
    assert tokenizer.decode(whole[:-1]) == text
    assert given_tokens == [end, *(piece[-1] for piece in learned[:-1])]
    lengths = {len(piece) for piece in learned}
    assert max(lengths) - min(lengths) <= 1


def test_a_cut_text_keeps_its_first_piece(tokenizer: PreTrainedTokenizerFast) -> None:
    (cut,) = TextPieces(tokenizer, 8, "cut").trees("source", TEXT)
    assert cut.root.segments[1].tokens == tuple(tokenizer(TEXT)["input_ids"][:7])


def test_a_tokenizer_that_begins_texts_with_bos_begins_pieces_so() -> None:
    from tokenizers.processors import TemplateProcessing

    made = byte_level_tokenizer(["<s>", "</s>"], eos="</s>", bos="<s>")
    assert beginning(made) == ()
    assert TextPieces(made, 8).opening == made.eos_token_id
    bos = made.bos_token_id
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    assert TextPieces(made, 8).opening == bos


@pytest.mark.parametrize(
    ("special", "eos", "end"),
    [
        (["<|im_end|>", "<|endoftext|>"], "<|im_end|>", "<|endoftext|>"),
        (["<|eot_id|>", "<|end_of_text|>"], "<|eot_id|>", "<|end_of_text|>"),
        (["</s>"], "</s>", "</s>"),
    ],
)
def test_texts_end_as_base_models_end_them(special: list[str], eos: str, end: str) -> None:
    made = byte_level_tokenizer(special, eos=eos)
    assert end_of_text(made) == made.convert_tokens_to_ids(end)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    made = byte_level_tokenizer(["<x>"], eos="<x>")
    made.eos_token = None
    with pytest.raises(TemplateError, match="no token that ends a text"):
        end_of_text(made)
