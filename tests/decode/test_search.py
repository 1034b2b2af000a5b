"""What the search of a span trie scores next."""

from __future__ import annotations

import math

import pytest

from palmette.decode.search import Search
from palmette.decode.trie import SpanTrie

NUMBER = (2, 3, 4, 5, 6, 7)  # as 60,000 has a token for each digit


@pytest.fixture
def search() -> Search:
    """No answer has probability 0.4, and a number of six tokens begins with 0.6."""
    trie = SpanTrie()
    trie.add((1,), "", -1)
    trie.add(NUMBER, "60,000", 0)
    search = Search(trie)
    search.absorb(0, {1: math.log(0.4), 2: math.log(0.6)}, -math.inf)
    return search


def test_a_span_that_may_win_is_planned_to_its_end(search: Search) -> None:
    """A span is expected to go on with probability 0.85, so after four tokens 0.6 * 0.85^3 = 0.37 is left, less than
    the floor of 0.4. It may be 0.6 all the same.
    """
    planned = search.plan(16, floor=math.log(0.4))
    assert [search.trie.token[node] for node in planned] == list(NUMBER)


def test_a_span_that_cannot_win_is_not_planned(search: Search) -> None:
    assert search.plan(16, floor=math.log(0.7)) == []


def test_no_more_is_planned_than_a_pass_takes(search: Search) -> None:
    planned = search.plan(3, floor=math.log(0.4))
    assert [search.trie.token[node] for node in planned] == [2, 3, 4]
