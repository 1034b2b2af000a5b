"""ROUGE-L, by which tasks that are too much like earlier ones are found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence of two sequences of words.

    The row of the usual table is kept as the bits of one number (Hyyrö, 2004), so it takes one step a word of `other`.

    >>> lcs_length("the cat sat on the mat".split(), "on the mat the cat lay".split())
    3
    """
    places: dict[str, int] = {}
    for index, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << index
    row = full = (1 << len(one)) - 1
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & full
    return len(one) - row.bit_count()


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """ROUGE-L of two sequences of words (Lin, 2004, "ROUGE", section 3): the F measure with beta 1.

    It is 2 L / (m + n), where L is the length of their longest common subsequence. It is 0 if one is empty.

    >>> rouge_l("police killed the gunman".split(), "police kill the gunman".split())
    0.75
    """
    return 2 * lcs_length(one, other) / (len(one) + len(other)) if one and other else 0.0


def first_alike(words: Sequence[str], others: Iterable[tuple[str, Sequence[str]]], most: float) -> str | None:
    """The name of the first text that is too much like this one. None if there is none.

    Args:
        words: the words of a text.
        others: the name and the words of each text to compare with.
        most: a ROUGE-L above this is too much.
    """
    for name, other in others:
        shorter = min(len(words), len(other))
        # The common subsequence is no longer than the shorter text, which spares most comparisons.
        if 2 * shorter > most * (len(words) + len(other)) and rouge_l(words, other) > most:
            return name
    return None
