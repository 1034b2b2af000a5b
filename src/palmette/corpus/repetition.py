"""Drops texts that repeat themselves, by the rules of Gopher (Rae et al., 2021, table A1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from palmette.corpus.cleaning import Dropped
from palmette.corpus.texts import Text
from palmette.corpus.words import ngrams, words_of
from palmette.numbers import in_percent

# Largest shares of lines and paragraphs that came before in the text, and of the characters in them.
_LINES, _LINE_CHARACTERS = 0.30, 0.20
# Largest share of the characters in the most frequent 2-, 3- and 4-gram, and in all 5- to 10-grams that came before.
_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
REASON = "repetition"


class Repetitive:
    """Drops texts of which too much is repeated. Characters of runs of words are counted without blanks."""

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or the first rule that it breaks."""
        broken = _broken(text.text)
        return Dropped(REASON, broken) if broken else text


def _broken(text: str) -> str:
    """The first limit that a text is above, in words. Empty if it keeps all."""
    for share, limit, what in _shares(text):
        if share > limit:
            return f"{in_percent(share, 2)} of the {what}, limit {in_percent(limit, 2)}"
    return ""


def _shares(text: str) -> Iterator[tuple[float, float, str]]:
    """Each share of the text that has a limit: the share, its limit, and what it is a share of."""
    for name, parts in (("lines", text.split("\n")), ("paragraphs", text.split("\n\n"))):
        share, characters = repeated_share([part.strip() for part in parts if part.strip()])
        yield share, _LINES, f"{name} came before"
        yield characters, _LINE_CHARACTERS, f"characters are in {name} that came before"
    words = words_of(text)
    for size, limit in _TOP.items():
        yield top_share(words, size), limit, f"characters are in the most frequent {size}-gram"
    for size, limit in _REPEATED.items():
        yield repeated_ngram_share(words, size), limit, f"characters are in repeated {size}-grams"


def repeated_share(parts: Sequence[str]) -> tuple[float, float]:
    """The share of parts that equal an earlier one, and the share of all characters that these hold.

    >>> repeated_share(["aa", "b", "aa", "c"])
    (0.25, 0.3333333333333333)
    """
    seen: set[str] = set()
    repeated = [part for part in parts if part in seen or seen.add(part)]  # type: ignore[func-returns-value]
    total = sum(map(len, parts))
    return (len(repeated) / len(parts), sum(map(len, repeated)) / total) if total else (0.0, 0.0)


def top_share(words: Sequence[str], size: int) -> float:
    """The share of all characters that the most frequent n-gram covers, if it occurs twice or more.

    >>> top_share("a b a b c".split(), 2)
    0.8
    """
    counts = Counter(ngrams(words, size))
    if not counts:
        return 0.0
    gram, number = max(counts.items(), key=lambda item: (item[1], len(item[0])))
    return number * (len(gram) - size + 1) / sum(map(len, words)) if number > 1 else 0.0


def repeated_ngram_share(words: Sequence[str], size: int) -> float:
    """The share of all characters that stand in n-grams which came before. A character counts once.

    >>> repeated_ngram_share("a b c a b d".split(), 2)
    0.3333333333333333
    """
    seen: set[str] = set()
    covered = 0
    end = 0  # one past the last word that is counted
    for start, gram in enumerate(ngrams(words, size)):
        if gram in seen:
            covered += sum(map(len, words[max(start, end) : start + size]))
            end = start + size
        seen.add(gram)
    total = sum(map(len, words))
    return covered / total if total else 0.0
