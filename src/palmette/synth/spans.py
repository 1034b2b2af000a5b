"""Spans of a text that somebody may ask for, found by rule: dates, quantities, numbers, quoted terms and names.

The rules know months, weekdays and units of English. Names are runs of capitalised words that do not begin a sentence,
so German nouns count as names. Not covered: scripts without capital letters, in which only numbers and quoted terms are
found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import regex

from palmette.decode.spans import unreachable

Kind = Literal["date", "amount", "number", "quoted", "name"]
KINDS: tuple[Kind, ...] = ("date", "amount", "number", "quoted", "name")
MOST_WORDS = 30  # as the span decoder takes by default

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?"
)
_NUMBER = r"\d+(?:[.,:]\d+)*"
_UNIT = (
    r"(?:%|percent|per cent|(?:square |cubic )?(?:miles?|kilomet(?:er|re)s?|met(?:er|re)s?|feet|foot|inch(?:es)?)"
    r"|km|kg|mm|cm|kilograms?|tons?|tonnes?|pounds?|dollars?|euros?|cents?|people|inhabitants|employees|members"
    r"|(?:business |calendar |working )?days?|hours?|minutes?|seconds?|weeks?|months?|years?|degrees?|bits?|bytes?"
    r"|characters?|digits?|times|pages?)"
)
_CAPITAL = r"\p{Lu}[\p{L}\p{M}\p{N}]*(?:[-'\u2019.&]\p{L}[\p{L}\p{M}\p{N}]*)*"
_LEFT, _RIGHT = r"(?<![\p{L}\p{N}.,:/_-])", r"(?![\p{L}\p{N}_])(?![.,:/-]\d)"
# Earlier rules come first: a date is no number, and what stands in quotation marks no name.
_RULES: tuple[tuple[Kind, regex.Pattern[str]], ...] = (
    (
        "date",
        regex.compile(
            rf"{_LEFT}(?:\d{{1,2}}(?:st|nd|rd|th)?\s{_MONTH}(?:,?\s\d{{4}})?|{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}"
            rf"|{_MONTH}\s\d{{1,4}}|\d{{4}}-\d{{2}}-\d{{2}}|(?:1[0-9]|20)\d{{2}}){_RIGHT}"
        ),
    ),
    (
        "amount",
        regex.compile(
            rf"(?:{_LEFT}(?:US|A|CA)?\p{{Sc}}\s?{_NUMBER}(?:\s(?:thousand|million|billion))?{_RIGHT}"
            rf"|{_LEFT}{_NUMBER}(?:\s(?:thousand|million|billion))?[\s-]?{_UNIT}(?![\p{{L}}\p{{N}}]))"
        ),
    ),
    ("number", regex.compile(rf"{_LEFT}{_NUMBER}{_RIGHT}")),
    (
        "quoted",
        regex.compile(
            r"(?<=[\u201c\u201e\u00ab])[^\u201c\u201d\u00bb\n]{2,80}(?=[\u201d\u00bb])|(?<=(?<!\w)\")[^\"\n]{2,80}(?=\"(?!\w))"
        ),
    ),
    (
        "name",
        regex.compile(
            rf"{_CAPITAL}(?:\s(?:(?:of|the|and|for|de|van|von|der|la)\s){{0,2}}{_CAPITAL})+"
            rf"|(?<=[\p{{Ll}}\p{{N}},;:)]\s){_CAPITAL}"
        ),
    ),
)
_FIRST_WORDS = """
    The A An In On At For From If When While This That These Those You We Your Our It Its He She They His Her Their
    And But Or As By To Of With Not No All Any Each Such After Before During Since Under What Which Who How Where Why
    There Here However Although Because See Please Some Many Most Both Also Let May Is Are Was Were I
"""
_SMALL = frozenset(_FIRST_WORDS.split())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that may be asked for.

    Attributes:
        start, end: its place in the text, in characters.
        kind: the rule that found it.
    """

    start: int
    end: int
    kind: Kind


def find_candidates(text: str) -> list[Candidate]:
    """The spans that the rules find, in the order of the text. None overlaps another.

    Each is a span that the span decoder can give.

    >>> text = 'In May 1906 Amy Beach paid $30 for "Gaelic". She was 12.'
    >>> [(text[one.start : one.end], one.kind) for one in find_candidates(text)]
    [('May 1906', 'date'), ('Amy Beach', 'name'), ('$30', 'amount'), ('Gaelic', 'quoted'), ('12', 'number')]
    """
    taken = [False] * len(text)
    found: list[Candidate] = []
    for kind, rule in _RULES:
        for match in rule.finditer(text):
            start, end = _without_first_word(text, *match.span()) if kind == "name" else match.span()
            while start < end and text[start].isspace():
                start += 1
            while start < end and (text[end - 1].isspace() or (kind == "quoted" and text[end - 1] in ".,;")):
                end -= 1
            if start == end or any(taken[start:end]) or unreachable(text, text[start:end], MOST_WORDS) is not None:
                continue
            taken[start:end] = [True] * (end - start)
            found.append(Candidate(start, end, kind))
    return sorted(found, key=lambda one: one.start)


def kind_counts(candidates: list[Candidate]) -> dict[Kind, int]:
    """How many spans there are of each kind that occurs."""
    counts = Counter(one.kind for one in candidates)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def _without_first_word(text: str, start: int, end: int) -> tuple[int, int]:
    """A name without a small word that has its capital only since it begins a sentence, or nothing of it."""
    word, blank, rest = text[start:end].partition(" ")
    if word in _SMALL:
        return start + len(word) + len(blank), end if rest else start + len(word) + len(blank)
    return start, end
