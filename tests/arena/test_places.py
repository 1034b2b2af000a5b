"""Where answers stand in their documents: word for word, or not at all."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from palmette.arena.places import places_of


@given(st.text(max_size=60), st.data())
def test_every_place_holds_the_answer_and_an_answer_that_is_there_is_found(document: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document)))
    answer = document[start : data.draw(st.integers(start, len(document)))]
    found = places_of(answer, document)
    assert all(document[first:last] == answer.strip() for first, last in found)
    assert bool(found) == bool(answer.strip())
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(found))


def test_other_words_spellings_and_cases_are_not_found() -> None:
    document = "Der Zug fährt um 7:40. Zoe\u0301 kommt."
    for answer in ("7.40", "um  7:40", "der Zug", "Zoé"):
        assert places_of(answer, document) == []
    assert places_of("um 7:40.", document) == [(14, 22)]


def test_text_of_patterns_is_text() -> None:
    assert places_of("a.c", "abc a.c") == [(4, 7)]
    assert places_of("(3)", "f(3) (3)") == [(5, 8)]
