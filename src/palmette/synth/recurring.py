"""Spans that occur more than once in a text, such as names and terms, without any model.

The rule is that of Splinter (Ram et al., 2021, "Few-Shot Question Answering by Pretraining Span Selection"): runs of
whole words without punctuation inside, the longest first, and none inside another. We deviate in two ways: a span
neither begins nor ends with a function word, where Splinter only leaves out spans of nothing but these, and a span that
occurs too often is left out, since it could be guessed by its frequency.

Not covered: text in scripts that do not separate their words, such as Chinese. No span is found there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from palmette.corpus.language import function_words, language_of
from palmette.data.text import SPACE

Span = tuple[int, int]  # start and end, in characters

_CHUNK = regex.compile(rf"[^{SPACE}\u2013\u2014|]+")
# A word with what may stand inside it: 7:40, U.S, e-mail, $3.50, 12%.
_CORE = regex.compile(r"\p{Sc}?[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:[-'\u2019.,:/&@_+][\p{L}\p{N}][\p{L}\p{M}\p{N}]*)*%?")
_LETTER = regex.compile(r"[\p{L}\p{N}]")
_GAP = regex.compile(rf"[{SPACE}]+")
_NO_GAP = regex.compile(r"\n[^\S\n]*\n")
_SHORTEST = 4  # letters of a small word that says something
# English words that say nothing alone, beside those that tell the language.
_MORE = """
    about above across after again against along already also although always among another any anyone anything
    around away because become been before being below between both cannot could does doing done down during each
    either else even ever every everyone everything example first following from further give given goes having here
    hers herself himself however into itself just know last later least less like likely made make makes making many
    might much must need needs neither never next none nothing often once only onto other others otherwise ourselves
    over part perhaps quite rather same several shall should since some someone something sometimes still such take
    taken than that them then these they thing things this those though through thus together toward towards under
    unless until upon used uses using very want well were where whether while whole whom whose within without would
    your yours yourself
"""
_EMPTY_ENGLISH = frozenset(_MORE.split())


@dataclass(frozen=True, slots=True)
class Chunk:
    """A word as white space separates it, without punctuation around it.

    Attributes:
        start, end: its place in the text, in characters.
        text: the word.
        joined: whether only white space is between it and the next one.
    """

    start: int
    end: int
    text: str
    joined: bool


@dataclass(frozen=True)
class Recurring:
    """Recurring spans of a text.

    Attributes:
        spans: for each, where it occurs, in the order of the text. The longest come first.
        too_often: spans that occur too often, with how often.
    """

    spans: tuple[tuple[Span, ...], ...]
    too_often: tuple[tuple[str, int], ...]


def recurring_spans(text: str, *, most_words: int, most_times: int) -> Recurring:
    """The spans that occur at least twice.

    Args:
        text: the text.
        most_words: the longest span, in words as white space separates them.
        most_times: a span that occurs more often is left out.

    >>> text = "Ada Lovelace met Babbage. Babbage wrote to Ada Lovelace."
    >>> [[text[a:b] for a, b in spans] for spans in recurring_spans(text, most_words=10, most_times=5).spans]
    [['Ada Lovelace', 'Ada Lovelace'], ['Babbage', 'Babbage']]
    """
    chunks = chunks_of(text)
    empty = empty_words(text)
    edge = [_says_something(chunk.text, empty) for chunk in chunks]
    free = [True] * len(chunks)
    found: list[tuple[Span, ...]] = []
    too_often: list[tuple[str, int]] = []
    for size in range(min(most_words, len(chunks)), 0, -1):
        places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for first in range(len(chunks) - size + 1):
            last = first + size - 1
            if not (edge[first] and edge[last] and all(chunk.joined for chunk in chunks[first:last])):
                continue
            if size == 1 and len(chunks[first].text) == 1:
                continue  # the number of an item or of a note
            same = places[tuple(chunk.text for chunk in chunks[first : last + 1])]
            if all(free[first : last + 1]) and (not same or same[-1] + size <= first):
                same.append(first)
        for same in places.values():
            # A span of this size may have taken words of another one in the meantime.
            same = [first for first in same if all(free[first : first + size])]
            if len(same) < 2:
                continue
            spans = tuple((chunks[first].start, chunks[first + size - 1].end) for first in same)
            for first in same:
                free[first : first + size] = [False] * size
            if len(spans) > most_times:
                too_often.append((text[slice(*spans[0])], len(spans)))
            else:
                found.append(spans)
    return Recurring(tuple(found), tuple(too_often))


def chunks_of(text: str) -> list[Chunk]:
    """The words of a text that can be part of a span. Others, such as URLs of links, are left out.

    >>> [chunk.text for chunk in chunks_of('"It\\'s $3.50," he [said](https://a.b).')]
    ["It's", '$3.50', 'he']
    """
    found: list[tuple[int, int, bool, bool]] = []
    for match in _CHUNK.finditer(text):
        core = _CORE.search(match[0])
        if core is None or _LETTER.search(match[0], 0, core.start()) or _LETTER.search(match[0], core.end()):
            continue
        start, end = match.start() + core.start(), match.start() + core.end()
        found.append((start, end, core.start() == 0, core.end() == len(match[0])))
    chunks: list[Chunk] = []
    for index, (start, end, _, whole_after) in enumerate(found):
        joined = False
        if index + 1 < len(found) and whole_after and found[index + 1][2]:
            gap = text[end : found[index + 1][0]]
            joined = _GAP.fullmatch(gap) is not None and _NO_GAP.search(gap) is None
        chunks.append(Chunk(start, end, text[start:end], joined))
    return chunks


def empty_words(text: str) -> frozenset[str]:
    """Small words that say nothing alone, in the language of a text. Those of all known languages if it is unclear."""
    language = language_of(text)
    return function_words(language) | (_EMPTY_ENGLISH if language in ("en", None) else frozenset())


def overlaps(span: Span, others: Iterable[Span]) -> bool:
    """Whether a span shares a character with one of others.

    >>> overlaps((3, 5), [(0, 3)]), overlaps((3, 5), [(4, 9)])
    (False, True)
    """
    return any(span[0] < end and start < span[1] for start, end in others)


def _says_something(word: str, empty: frozenset[str]) -> bool:
    if any(character.isdigit() for character in word):
        return True
    if word.lower().replace("\u2019", "'") in empty or word.lower().partition("'")[0] in empty:
        return False
    return len(word) >= _SHORTEST or (word[0].isupper() and len(word) > 1)


def whole_places(text: str, words: Sequence[str]) -> int:
    """How often words stand in a text as whole words, in any case and with any white space between them.

    >>> whole_places("Pier 3, pier\\n3 and pier 32", ["pier", "3"])
    2
    """
    inner = rf"[{SPACE}]+".join(regex.escape(word) for word in words)
    return len(regex.findall(rf"(?<![\p{{L}}\p{{N}}]){inner}(?![\p{{L}}\p{{N}}])", text, flags=regex.IGNORECASE))
