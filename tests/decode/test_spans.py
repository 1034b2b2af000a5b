"""Which spans a document allows, in which windows they stand, and which answers are none of them."""

from __future__ import annotations

import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.data.text import MARKS, SPACE, is_mark
from palmette.decode.effort import Effort
from palmette.decode.reachability import count_unlearnable, count_unreachable, report_unreachable
from palmette.decode.spans import cut_windows, unreachable, words
from tests.support.spans import plain_spans, texts


def test_windows_hold_every_span_once() -> None:
    """Spans that begin in any window, put together, are the spans of the whole; each lies within its window."""
    text = " ".join(f"word{i % 13}," if i % 3 else f"w{'abcdefg'[i % 7]}" for i in range(120))
    windows = cut_windows(text, lambda parts: [1] * len(parts), max_words=5, window_tokens=40, overlap_tokens=12)
    assert len(windows) > 3
    bounds = words(text)
    begun = [start for window in windows for start, _ in window.words]
    assert begun == [start for start, _ in bounds]
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for window, following in pairwise(windows):
        assert following.start < window.end
    merged: dict[str, int] = {}
    for window in windows:
        for start, ends in window.runs(5):
            assert window.start <= start
            assert ends[-1] <= window.end
            for end in ends:
                merged.setdefault(text[start:end], start)
    assert merged == plain_spans(text, 5)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    max_words=st.integers(1, 12),
    window_tokens=st.integers(1, 80),
    overlap_tokens=st.integers(1, 90),
)
def test_windows_move_on_whatever_their_size(
    sizes: list[int], max_words: int, window_tokens: int, overlap_tokens: int
) -> None:
    """Words of any number of tokens, spans longer than a window, overlaps larger than one: every span once, in one
    piece.
    """
    text = " ".join("x" * (index % 5 + 1) for index in range(len(sizes)))
    windows = cut_windows(
        text, lambda _: sizes, max_words=max_words, window_tokens=window_tokens, overlap_tokens=overlap_tokens
    )
    bounds = words(text)
    assert [start for window in windows for start, _ in window.words] == [start for start, _ in bounds]
    index = 0
    for window in windows:
        for start, ends in window.runs(max_words):
            assert window.start <= start
            assert ends == [end for _, end in bounds[index : index + max_words]]
            assert ends[-1] <= window.end
            index += 1


def test_words_of_many_scripts() -> None:
    def cut(text: str) -> list[str]:
        return [text[a:b] for a, b in words(text)]

    assert cut("e\u0301té, naïve_2") == ["e\u0301té", ",", "naïve_", "2"]
    assert cut("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert cut("東京 is 大") == ["東", "京", "is", "大"]
    assert cut("👩\u200d🚀!") == ["👩\u200d🚀", "!"]
    assert cut(" \n\u00a0") == []
    assert cut("\u0600 7") == ["\u0600", "7"]


def ends(text: str, **options: bool) -> list[str]:
    """The words of a text, each with a bar where a span may end in it."""
    return ["|".join(text[a:b] for a, b in pairwise(word)) for word in words(text, **options)]


def test_words_end_between_digits_and_letters_and_beside_hangul() -> None:
    """By hand: particles follow nouns and numbers in Korean, units and plurals follow digits."""
    assert ends("the 1990s, 5kg B12 H\u2082O") == ["the", "1990", "s", ",", "5", "kg", "B", "12", "H", "\u2082", "O"]
    assert ends("서울에 1395년에 KBS는") == ["서|울|에", "1395", "년|에", "KBS|는"]
    # Jamo that make one syllable stay together.
    assert ends("\u1109\u1165\u110b\u116e\u11af") == ["\u1109\u1165|\u110b\u116e\u11af"]
    assert ends("Tür zu", inside_words=True) == ["T|ü|r", "z|u"]
    assert ends("e\u0301a \u0928\u0940", inside_words=True) == ["e\u0301|a", "\u0928\u0940"]


def test_words_that_are_long_but_real_are_not_cut() -> None:
    """The longest German word of law had 63 letters."""
    (word,) = words("Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz")
    assert word == (0, 63)


DATES = "In the 1990s R. Okafor weighed 5kg. Whitbyshire is old."


@pytest.mark.parametrize(
    ("answer", "max_words", "inside", "reason"),
    [
        ("1990", 30, False, None),
        ("R. Okafor", 3, False, None),
        ("R. Okafor", 2, False, "has 3 words, more than 2"),
        ("5", 30, False, None),
        ("Whitby", 30, False, "ends inside a word"),
        ("Whitby", 30, True, None),
        ("shire", 30, True, "starts inside a word"),
        (" R. Okafor", 30, False, "has white space at its ends"),
        ("?", 30, False, "stands for no answer"),
        ("Leeds", 30, False, "does not stand in the document"),
    ],
)
def test_unreachable_answers_have_a_reason(answer: str, max_words: int, inside: bool, reason: str | None) -> None:
    assert unreachable(DATES, answer, max_words, inside_words=inside) == reason


@settings(max_examples=150, deadline=None)
@given(text=texts, inside=st.booleans(), start=st.integers(0, 13), length=st.integers(1, 6))
def test_unreachable_agrees_with_the_spans(text: str, inside: bool, start: int, length: int) -> None:
    """An answer can be given exactly if a walk over the characters finds it among the spans."""
    answer = text[start : start + length]
    if answer in ("", "?"):
        return
    allowed = answer in plain_spans(text, 3, inside_words=inside)
    assert (unreachable(text, answer, 3, inside_words=inside) is None) == allowed


def test_unreachable_questions_are_counted_with_the_first() -> None:
    """Of four questions one has no answer at all, one an answer that can be given beside one that cannot."""
    at = DATES.find
    questions = (
        Question("many", "Who?", (Answer("Okaf", at("Okaf")), Answer("Okafor", at("Okafor")))),
        Question("none", "Why?"),
        Question("part", "What?", (Answer("Whitby", at("Whitby")),)),
        Question("late", "What?", (Answer("shire", at("shire")),)),
    )
    document = Document("d", DATES, questions)
    found = count_unreachable([document])
    assert (found.num_questions, found.num_unreachable) == (3, 2)
    assert str(found) == (
        "2 of 3 questions have no answer that the span decoder can give. "
        "The first is 'part': its answer 'Whitby' ends inside a word."
    )
    # Training learns the most frequent answer, the first on a tie: "Okaf".
    assert count_unlearnable([document]).num_unreachable == 3
    assert count_unreachable([document], Effort(inside_words=True)).question == "late"
    said: list[str] = []
    assert report_unreachable([document], said.append) == found
    assert said == [str(found)]
    assert not report_unreachable([Document("d", DATES, questions[:2])], said.append)
    assert len(said) == 1


def test_korean_answers_can_be_given_without_their_particles() -> None:
    """A set of our own: ten paragraphs, and 45 questions answered by nouns, numbers and dates.

    39 of the answers stand only where a letter follows: a particle, or the word that bears the number.
    """
    documents = read_source(str(Path(__file__).parent / "data" / "korean.jsonl")).documents
    assert sum(len(document.questions) for document in documents) == 45
    inside = [
        question.id
        for document in documents
        for question in document.questions
        if not regex.search(regex.escape(question.answers[0].text) + r"(?!\w)", document.text)
    ]
    assert len(inside) == 39
    assert not count_unreachable(documents)
    assert not count_unlearnable(documents)


def test_white_space_and_marks_have_one_definition() -> None:
    """Every code point: the word pattern's white space is Python's, and marks are the categories M and the joiners."""
    spaces, marks = regex.compile(f"[{SPACE}]"), regex.compile(f"[{MARKS}]")
    for character in map(chr, range(sys.maxunicode + 1)):
        assert bool(spaces.match(character)) == character.isspace()
        if unicodedata.category(character) != "Cn":  # the two tables may be of different Unicode versions
            assert not is_mark(character) or marks.match(character)
