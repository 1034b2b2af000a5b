"""Texts with blanks: what may change, and to which words."""

from __future__ import annotations

import pytest
import torch

from palmette.encoders.blanks import allowed_words, read_blanks, words_of
from palmette.encoders.masked import MaskedModel
from palmette.encoders.way import Pull, read_way
from palmette.errors import DataError
from tests.support.masked import tiny_bert, tiny_roberta

MODEL, ROBERTA = tiny_bert(), tiny_roberta()
ALLOWED = "fill the tower ferry is was high red in on a pier cafe 3 don t walk"


def test_only_whole_words_are_allowed() -> None:
    """No special token, no piece of a word, no punctuation, and nothing that the tokenizer would read otherwise."""
    allowed = [token for token, yes in enumerate(allowed_words(MODEL).tolist()) if yes]
    assert " ".join(words_of(MODEL, allowed)) == ALLOWED


def test_blanks_may_change_and_nothing_else() -> None:
    blanks = read_blanks(MODEL, "Fill ____ in __.")
    assert words_of(MODEL, blanks.space.row) == ["[CLS]", "fill", "[MASK]", "in", "[MASK]", ".", "[SEP]"]
    assert blanks.space.free == (2, 4)
    assert blanks.space.counted == (1, 2, 3, 4, 5)
    assert blanks.start_F is None
    assert blanks.text(["towers", "red"]) == "Fill towers in red."


def test_a_text_without_blanks_starts_from_its_words() -> None:
    """ "walking" has two pieces, and "don't" is three words to the tokenizer and one to a reader: both stay."""
    blanks = read_blanks(MODEL, "The tower don't walking, is Red.", keep=["THE"])
    assert blanks.start_F is not None
    assert words_of(MODEL, blanks.start_F.tolist()) == ["tower", "is", "red"]
    assert blanks.kept == ("don't", "walking")
    assert blanks.words == ("tower", "is", "Red")
    assert blanks.text(["cafe", "was", "high"]) == "The cafe don't walking, was high."
    assert [blanks.space.row[column] for column in blanks.space.free] == blanks.start_F.tolist()


def test_every_word_of_a_text_may_change_with_robertas_tokens() -> None:
    """The first word, and one behind a bracket, are other tokens than behind a space."""
    blanks = read_blanks(ROBERTA, "The tower is (red) walking.")
    assert blanks.start_F is not None
    assert ROBERTA.tokenizer.convert_ids_to_tokens(blanks.space.row) == (
        ["<s>", "The", "Ġtower", "Ġis", "Ġ(", "red", ")", "Ġwalk", "ing", ".", "</s>"]
    )
    assert blanks.words == ("The", "tower", "is", "red")
    assert blanks.kept == ("walking",)
    assert blanks.space.free == (1, 2, 3, 5)
    assert ROBERTA.tokenizer.convert_ids_to_tokens(blanks.start_F.tolist()) == ["The", "Ġtower", "Ġis", "red"]


def test_a_piece_is_no_word_at_the_beginning_either() -> None:
    """ "ing" is one token there, and only words have one behind a space too. "high" has one there and nowhere else."""
    here, spaced = (
        {word for word, yes in zip(words_of(ROBERTA, range(len(ROBERTA.tokenizer))), allowed, strict=True) if yes}
        for allowed in (allowed_words(ROBERTA, "").tolist(), allowed_words(ROBERTA).tolist())
    )
    assert {"The", "the", "tower", "walk", "red", "a"} <= here
    assert not {"ing", "high", "(", "<mask>"} & here
    assert {"The", "the", "tower", "walk", "red", "is", "high"} <= spaced


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (MODEL, "____ is '____' ____, ____."),
        (ROBERTA, "____ is (____) ____, ____."),
        (ROBERTA, " ____ is\n____ 's ____."),
        (ROBERTA, "The tower is (red)\nThe tower."),
    ],
)
def test_every_allowed_word_is_read_back_as_its_token(model: MaskedModel, text: str) -> None:
    """At every place, every text that a chain may visit is the row of tokens that the tokenizer makes of it."""
    blanks = read_blanks(model, text)
    row, free = list(blanks.space.row), blanks.space.free
    first = [int(allowed_V.int().argmax()) for allowed_V in blanks.space.allowed_FV]
    for place, (column, allowed_V) in enumerate(zip(free, blanks.space.allowed_FV, strict=True)):
        chosen = torch.nonzero(allowed_V)[:, 0].tolist()
        assert len(chosen) > 4
        for token in chosen:
            tokens = [*first[:place], token, *first[place + 1 :]]
            written = blanks.text(words_of(model, tokens))
            expected = row.copy()
            for at, value in zip(free, tokens, strict=True):
                expected[at] = value
            assert model.row(model.content(written)) == expected, (column, written)


@pytest.mark.parametrize(
    ("text", "keep", "message"),
    [
        ("", [], "the text is empty"),
        ("The ____.", ["the"], "keeps all its words, and words to keep were given too"),
        ("The tow__.", [], "'w__' is a blank in a word"),
        ("The __3 towers.", [], "'__3' is a blank in a word"),
        ("The tower.", ["cafe"], "the text has no word 'cafe' to keep"),
        ("walking", [], "no word of 'walking' may change"),
        ("The zebra is ____.", [], "has no token for a part of 'The zebra is ____.'"),
    ],
)
def test_texts_that_make_no_sense_are_explained(text: str, keep: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_blanks(MODEL, text, keep)
    assert "\n" not in str(caught.value)


def test_a_way_leads_over_the_words_that_differ() -> None:
    blanks, goal_F = read_way(MODEL, "The tower is red.", "The cafe is high.")
    assert blanks.start_F is not None
    assert (words_of(MODEL, blanks.start_F.tolist()), words_of(MODEL, goal_F.tolist())) == (
        ["tower", "red"],
        ["cafe", "high"],
    )
    assert blanks.text(["pier", "a"]) == "The pier is a."


def test_the_pull_of_a_way() -> None:
    """A quarter of the way, with 8 nats: a word of the first text costs 2, of the second 6, of neither 8."""
    blanks, goal_F = read_way(MODEL, "The tower is red.", "The cafe is high.")
    assert blanks.start_F is not None
    (pier,) = MODEL.tokenizer.convert_tokens_to_ids(["pier"])
    first, second = blanks.start_F.tolist(), goal_F.tolist()
    token_CT = torch.tensor([blanks.space.row] * 4)
    token_CT[:, list(blanks.space.free)] = torch.tensor([first, second, [first[0], second[1]], [pier, first[1]]])
    pull = Pull(blanks.space.free, blanks.start_F, goal_F, 8.0, 0.25)
    assert pull(token_CT).tolist() == [4, 12, 8, 10]
    tilt_FV = pull.tilt(blanks.space.allowed_FV.shape[1])
    assert [[float(tilt_FV[0, word]) for word in (first[0], second[0], pier)]] == [[-2, -6, -8]]


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        ("The tower.", "The red tower.", "do not match word by word"),
        ("The tower is.", "The tower, is.", "do not match word by word"),
        ("The tower.", "the tower.", "are the same words"),
        ("The tower.", "The walking.", "writes 'walking' in 'The walking.' in several pieces"),
        ("The ____.", "The tower.", "one has blanks"),
    ],
)
def test_ways_that_lead_nowhere_are_explained(start: str, goal: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_way(MODEL, start, goal)
