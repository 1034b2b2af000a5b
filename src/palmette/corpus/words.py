"""Words and runs of words of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> words_of("The Kiln -- fired, at 9.")
    ['the', 'kiln', 'fired', 'at', '9']
    """
    return _WORD.findall(text.lower())


def ngrams(words: Sequence[str], size: int) -> Iterator[str]:
    """The runs of so many words, one after the other.

    >>> list(ngrams(["a", "b", "c"], 2))
    ['a b', 'b c']
    """
    return (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))
