"""The spans that a document allows as answers, and the windows a long document is read in.

A span starts and ends at word boundaries. A word here is a run of letters, digits and marks; any other visible character is a word
of its own, and so is each character of a script that does not part its words (Chinese, Japanese, Thai, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

_UNPARTED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_JOINED = r"\p{M}\u200c\u200d"
_WORD = regex.compile(rf"(?V1)[{_UNPARTED}][{_JOINED}]*|[\w--[{_UNPARTED}]][[\w{_JOINED}]--[{_UNPARTED}]]*|(?!\s)\X")


def words(text: str) -> list[tuple[int, int]]:
    """Start and end of each word.

    >>> [text[a:b] for text in ["don't pay $3.50"] for a, b in words(text)]
    ['don', "'", 't', 'pay', '$', '3', '.', '50']
    """
    # Some marks take the blank after them into their grapheme; no word ends in white space.
    return [(match.start(), match.start() + len(match[0].rstrip())) for match in _WORD.finditer(text)]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document that is read in one go.

    Attributes:
        start, end: its characters in the document.
        words: start and end of each word of the document at which a span of this window may begin.
        reach: start and end of each word from the first of `words` to the last word of the window.
        before: start and end of each word of the window before `words`. Spans that begin there belong to the window on the left.
    """

    start: int
    end: int
    words: Sequence[tuple[int, int]]
    reach: Sequence[tuple[int, int]]
    before: Sequence[tuple[int, int]] = ()

    def runs(self, max_words: int) -> Iterator[tuple[int, list[int]]]:
        """Where spans begin, in order, and for each beginning where those of up to `max_words` words end.

        >>> text = "to be or"
        >>> list(Window(0, 8, words(text), words(text)).runs(max_words=2))
        [(0, [2, 5]), (3, [5, 8]), (6, [8])]
        """
        for index, (start, _) in enumerate(self.words):
            yield start, [end for _, end in self.reach[index : index + max_words]]

    def foreign_runs(self, max_words: int) -> Iterator[tuple[int, list[int]]]:
        """The same for spans that this window shows whole and that belong to a neighbour.

        >>> text = "to be or not"
        >>> bounds = words(text)
        >>> window = Window(0, 12, bounds[1:3], bounds[1:], bounds[:1])
        >>> list(window.runs(max_words=1)), list(window.foreign_runs(max_words=1))
        ([(3, [5]), (6, [8])], [(0, [2]), (9, [12])])
        """
        shown = [*self.before, *self.reach]
        first = len(self.before)
        for index in (*range(first), *range(first + len(self.words), len(shown))):
            yield shown[index][0], [end for _, end in shown[index : index + max_words]]


def cut_windows(
    text: str,
    count_tokens: Callable[[Sequence[str]], list[int]],
    *,
    max_words: int,
    window_tokens: int,
    overlap_tokens: int,
) -> list[Window]:
    """Cut a document into overlapping windows; every allowed span belongs to exactly one that holds it whole.

    Of two neighbours, spans that start in the first half of what they share belong to the left one, the rest to the right one, so
    that each is read with as much around it as there is. A window is longer than asked for where a single word is.

    Args:
        text: the document.
        count_tokens: the number of tokens of each of several texts.
        max_words: the longest span, in words.
        window_tokens: about how many tokens a window holds at most.
        overlap_tokens: about how many tokens neighbours share; at least `max_words` words.
    """
    bounds = words(text)
    edges = [0, *(end for _, end in bounds)]
    counts = count_tokens([text[a:b] for a, b in pairwise(edges)])
    windows: list[Window] = []
    begin, owned = 0, 0
    while True:
        end, used = begin, 0
        while end < len(bounds) and (used + counts[end] <= window_tokens or end < owned + max_words):
            used, end = used + counts[end], end + 1
        start = bounds[begin][0] if begin else 0
        if end >= len(bounds):
            return [*windows, Window(start, len(text), bounds[owned:], bounds[owned:], bounds[begin:owned])]
        # The last word at which a span may begin and still be whole in this window stands before this one.
        last = end - max_words + 1
        following, shared = end, 0
        while following > begin + 1 and shared + counts[following - 1] <= overlap_tokens:
            following -= 1
            shared += counts[following]
        following = min(following, last)
        border = min(max((following + end) // 2, owned + 1, following), last)
        windows.append(Window(start, bounds[end - 1][1], bounds[owned:border], bounds[owned:end], bounds[begin:owned]))
        begin, owned = following, border
