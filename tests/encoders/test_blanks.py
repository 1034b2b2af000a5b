"""Texts with blanks: what may change, and to which words."""

from __future__ import annotations

import pytest
import torch

from palmette.encoders.blanks import allowed_words, read_blanks, words_of
from palmette.encoders.way import Pull, read_way
from palmette.errors import DataError
from tests.support.masked import tiny_bert

MODEL = tiny_bert()
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


@pytest.mark.parametrize(
    ("text", "keep", "message"),
    [
        ("", [], "the text is empty"),
        ("The ____.", ["the"], "keeps all its words, and words to keep were given too"),
        ("The tow__.", [], "'w__' is a blank in a word"),
        ("The __3 towers.", [], "'__3' is a blank in a word"),
        ("The tower.", ["cafe"], "the text has no word 'cafe' to keep"),
        ("walking", [], "no word of 'walking' may change"),
        ("The zebra is ____.", [], "has no token for a part of 'The zebra is'"),
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
    tilt_FV = pull.tilt(len(blanks.space.allowed_V))
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
