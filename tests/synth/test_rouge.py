"""ROUGE-L against the examples of its paper, and its subsequences against the definition."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.synth.instruct.rouge import first_alike, lcs_length, rouge_l

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


def longest(one: list[str], other: list[str]) -> int:
    """By the definition: the longest sequence that is left of both when words are taken out."""

    def left(words: list[str], size: int) -> set[tuple[str, ...]]:
        return set(combinations(words, size))

    return max(size for size in range(len(one) + 1) if left(one, size) & left(other, size) or size == 0)


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_definition(one: list[str], other: list[str]) -> None:
    assert lcs_length(one, other) == longest(one, other) == lcs_length(other, one)


FIRST = "police killed the gunman"


@pytest.mark.parametrize(("candidate", "score"), [("police kill the gunman", 3 / 4), ("the gunman kill police", 2 / 4)])
def test_the_examples_of_the_paper(candidate: str, score: float) -> None:
    """Lin (2004), section 3.1: S2 and S3 against S1, "police killed the gunman", with beta 1."""
    assert rouge_l(candidate.split(), FIRST.split()) == score


def test_sequences_of_different_lengths() -> None:
    """L = 2, recall 2/3, precision 2/5, so F = 2 (2/3) (2/5) / (2/3 + 2/5) = 1/2."""
    assert rouge_l(list("axbyz"), list("abc")) == pytest.approx(1 / 2)
    assert rouge_l([], ["a"]) == rouge_l([], []) == 0


@given(WORDS, st.lists(WORDS, max_size=5), st.sampled_from([0.0, 0.4, 0.7, 1.0]))
def test_the_first_that_is_too_much_alike(words: list[str], others: list[list[str]], most: float) -> None:
    named = [(str(index), other) for index, other in enumerate(others)]
    alike = [name for name, other in named if words and other and 2 * longest(words, other) / len(words + other) > most]
    assert first_alike(words, named, most) == (alike[0] if alike else None)
