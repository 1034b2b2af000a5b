"""The spans that a document allows as answers, and the windows in which a long document is read.

A span starts where a word starts and ends where a word ends. A word is a run of letters and marks, or a run of digits
and marks, so "1990s" has two words and "1990" can be the answer. Any other visible character is a word of its own, and
so is each character of a script that does not separate its words (Chinese, Japanese, Thai, ...).

Some spans end inside a word. In Hangul every syllable can be the last one of an answer, since particles are written
together with the noun before them. With `inside_words` every character can, which suits compounds and endings (German,
Finnish, Hungarian, ...). Spans never start inside a word, so what is written together before a noun, such as the Hebrew
and the Arabic article, stays part of the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from palmette.data.text import MARKS, SPACE, skip_marks
from palmette.tasks.qa_prompt import ABSTAIN

# The longest word, in characters. A longer run (encoded data, say) is cut into pieces, so that no single word is longer
# than a window. The longest words of ordinary text, German ones, are shorter.
LONGEST_WORD = 64

_UNPARTED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"(?V1)[{_UNPARTED}][{MARKS}]*"
    rf"|[\p{{N}}&&\w--[{_UNPARTED}]][[[\p{{N}}&&\w]{MARKS}]--[{_UNPARTED}]]*"
    rf"|[\w--[{_UNPARTED}\p{{N}}]][[\w{MARKS}]--[{_UNPARTED}\p{{N}}]]*"
    rf"|(?![{SPACE}])\X"
)
_HANGUL = regex.compile(r"\p{Hangul}")
_CHARACTER = regex.compile(r"\X")

# Where a word starts, then where spans may end in it. The last of these ends is the end of the word.
Word = tuple[int, ...]


def words(text: str, *, inside_words: bool = False) -> list[Word]:
    """For each word of a text its start and the ends that spans may have in it, the word's own end last.

    Args:
        text: the text.
        inside_words: whether spans may end after every character of a word.

    >>> [text[a:b] for text in ["don't pay $3.50 in the 1990s"] for a, b in words(text)]
    ['don', "'", 't', 'pay', '$', '3', '.', '50', 'in', 'the', '1990', 's']
    >>> words("the mill", inside_words=True)
    [(0, 1, 2, 3), (4, 5, 6, 7, 8)]
    """
    bounds: list[Word] = []
    for match in _WORD.finditer(text):
        # Some marks take the blank after them into their grapheme. No word ends in white space.
        start, end = match.start(), match.start() + len(match[0].rstrip())
        while end - start > LONGEST_WORD:
            cut = min(skip_marks(text, start + LONGEST_WORD), start + 2 * LONGEST_WORD)
            if cut >= end:
                break
            bounds.append((start, *_inner_ends(text, start, cut, inside_words), cut))
            start = cut
        bounds.append((start, *_inner_ends(text, start, end, inside_words), end))
    return bounds


def _inner_ends(text: str, start: int, end: int, inside_words: bool) -> list[int]:
    """Where spans may end inside a word: beside every syllable of Hangul, or after every character."""
    if end - start == 1 or not (inside_words or _HANGUL.search(text, start, end)):
        return []
    characters = list(_CHARACTER.finditer(text, start, end))
    return [
        before.end()
        for before, after in pairwise(characters)
        if inside_words or _HANGUL.match(before[0]) or _HANGUL.match(after[0])
    ]


def unreachable(text: str, answer: str, max_words: int, *, inside_words: bool = False) -> str | None:
    """Why an answer is none of the spans that a document allows. None if it is one of them.

    Args:
        text: the document.
        answer: the answer, which stands in the document.
        max_words: the longest span, in words.
        inside_words: whether spans may end after every character of a word.

    Returns:
        The reason in words, to follow "the answer", or None. If the answer stands in several places, it can be given
        if it is a span at one of them. The reason is that of the first place.

    >>> unreachable("It opened in the 1990s.", "1990", 30), unreachable("in Whitby", "Whit", 30)
    (None, 'ends inside a word')
    """
    if answer == ABSTAIN:
        return "stands for no answer"
    if answer != answer.strip():
        return "has white space at its ends"
    first: str | None = None
    for _, reason in _places(text, answer, max_words, inside_words):
        if reason is None:
            return None
        first = first or reason
    return first or "does not stand in the document"


def places(text: str, answer: str, max_words: int) -> list[tuple[int, int]]:
    """Start and end of every place where an answer is one of the spans that a document allows.

    >>> places("5 of the 50 rooms, and 5 more", "5", 30)
    [(0, 1), (23, 24)]
    """
    return [(at, at + len(answer)) for at, reason in _places(text, answer, max_words, False) if reason is None]


def _places(text: str, answer: str, max_words: int, inside_words: bool) -> Iterator[tuple[int, str | None]]:
    """Where an answer stands, and why it is no span there."""
    starts, ends = _edges(text, inside_words)
    at = text.find(answer)
    while at >= 0:
        yield at, _fault(starts.get(at), ends.get(at + len(answer)), max_words)
        at = text.find(answer, at + 1)


def _fault(first: int | None, last: int | None, max_words: int) -> str | None:
    if first is None:
        return "starts inside a word"
    if last is None:
        return "ends inside a word"
    count = last - first + 1
    return f"has {count} words, more than {max_words}" if count > max_words else None


@functools.lru_cache(maxsize=4)
def _edges(text: str, inside_words: bool) -> tuple[dict[int, int], dict[int, int]]:
    """{start of a word: its index}, and {end that spans may have: index of the word}."""
    bounds = words(text, inside_words=inside_words)
    starts = {word[0]: index for index, word in enumerate(bounds)}
    return starts, {end: index for index, word in enumerate(bounds) for end in word[1:]}


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document that is read in one go.

    Attributes:
        start, end: its characters in the document.
        words: the words of the document at which a span of this window may begin, as `words` gives them.
        reach: the words from the first of `words` to the last word of the window.
        before: the words of the window before `words`. Spans that begin there belong to the window on the left.
    """

    start: int
    end: int
    words: Sequence[Word]
    reach: Sequence[Word]
    before: Sequence[Word] = ()

    def runs(self, max_words: int) -> Iterator[tuple[int, list[int]]]:
        """Where spans begin, in order, and for each beginning where those of up to `max_words` words end.

        >>> text = "to be or"
        >>> list(Window(0, 8, words(text), words(text)).runs(max_words=2))
        [(0, [2, 5]), (3, [5, 8]), (6, [8])]
        """
        for index, word in enumerate(self.words):
            yield word[0], [end for following in self.reach[index : index + max_words] for end in following[1:]]

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
            yield shown[index][0], [end for word in shown[index : index + max_words] for end in word[1:]]


def cut_windows(
    text: str,
    count_tokens: Callable[[Sequence[str]], list[int]],
    *,
    max_words: int,
    window_tokens: int,
    overlap_tokens: int,
    inside_words: bool = False,
) -> list[Window]:
    """Cut a document into overlapping windows. Every allowed span belongs to exactly one window, which holds it whole.

    Of two neighbours, spans that start in the first half of what they share belong to the left one, and the rest to the
    right one. So each span is read with as much text around it as there is. A window is longer than asked for if
    `max_words` words are.

    Args:
        text: the document.
        count_tokens: the number of tokens of each of several texts.
        max_words: the longest span, in words.
        window_tokens: about how many tokens a window holds at most.
        overlap_tokens: about how many tokens neighbours share. They share at least `max_words` words.
        inside_words: whether spans may end after every character of a word.
    """
    bounds = words(text, inside_words=inside_words)
    edges = [0, *(word[-1] for word in bounds)]
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
        windows.append(Window(start, bounds[end - 1][-1], bounds[owned:border], bounds[owned:end], bounds[begin:owned]))
        begin, owned = following, border
