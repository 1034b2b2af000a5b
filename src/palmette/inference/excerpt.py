"""The passage of a document around an answer, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SHORT_LINE = 120  # characters. Lines up to this length are shown whole.
MAX_LINES = 6
_AROUND = 70  # characters kept on each side of an answer in a longer line
_JOINERS = "\u200c\u200d"  # many scripts write them inside words, and no terminal acts on them
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an excerpt.

    Attributes:
        offset: where it begins in the document, in characters. An ellipsis stands for what is before or after it.
        text: what is shown, without characters that a terminal would act on.
        marks: the parts of `text` that belong to the answer, as (start, end).
    """

    offset: int
    text: str
    marks: tuple[tuple[int, int], ...] = ()


def printable(text: str, *, keep: str = "") -> str:
    """A text in which a blank stands for every character that a terminal would act on, or not show.

    Those are control characters such as the escape character, and invisible ones that change the direction of text.
    The length stays the same, so offsets do too.

    Args:
        text: the text.
        keep: characters that stay as they are, such as the newline.

    >>> printable("a\\x1b[31mb\\u202ec\\n")
    'a [31mb c '
    """
    return "".join(c if c.isprintable() or c in _JOINERS or c in keep else " " for c in text)


def one_line(text: str) -> str:
    """A text on one line, with single blanks, for a terminal."""
    return " ".join(printable(text).split())


def excerpt(text: str, start: int, end: int) -> tuple[Line, ...]:
    """The lines of a document that hold an answer, and a neighbour if they are short. About two lines in all.

    A line of up to `SHORT_LINE` characters is shown whole. A longer one is cut around the answer, at blanks.

    Args:
        text: the document.
        start: the first character of the answer.
        end: one past the last character of the answer.
    """
    bounds = _lines_of(text, start, end)
    shown = sum(last - first for first, last in bounds)
    if len(bounds) == 1 and shown <= SHORT_LINE:
        first, last = bounds[0]
        # The neighbour on the side to which the answer is nearer continues its sentence.
        before, after = _line_before(text, first), _line_after(text, last)
        nearer, other = (after, before) if start + end > first + last else (before, after)
        chosen = nearer if nearer and text[slice(*nearer)].strip() else other
        if chosen and text[slice(*chosen)].strip():
            bounds = sorted([*bounds, chosen])
    lines = [_line(text, first, last, start, end) for first, last in bounds]
    return tuple(lines[:MAX_LINES])


def whole(text: str, spans: tuple[tuple[int, int], ...]) -> Iterator[Line]:
    """All lines of a document, with the answers marked. A line break at the very end begins no line.

    Args:
        text: the document.
        spans: the answers, as (start, end).
    """
    first = 0
    for line in text.removesuffix("\n").split("\n"):
        last = first + len(line)
        marks = tuple(sorted((max(a, first) - first, min(b, last) - first) for a, b in spans if a < last and b > first))
        yield Line(first, printable(line).rstrip(), marks)
        first = last + 1


def _lines_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The bounds of the lines that a span touches."""
    bounds = []
    first = text.rfind("\n", 0, start) + 1
    while True:
        last = text.find("\n", first)
        last = len(text) if last < 0 else last
        bounds.append((first, last))
        if last >= end:
            return bounds
        first = last + 1


def _line_before(text: str, first: int) -> tuple[int, int] | None:
    return (text.rfind("\n", 0, first - 1) + 1, first - 1) if first > 0 else None


def _line_after(text: str, last: int) -> tuple[int, int] | None:
    if last >= len(text):
        return None
    following = text.find("\n", last + 1)
    return last + 1, len(text) if following < 0 else following


def _line(text: str, first: int, last: int, start: int, end: int) -> Line:
    """A line of the document, cut around the part of the answer in it if it is long."""
    a, b = max(start, first), min(end, last)
    left, right = first, last
    if last - first > SHORT_LINE:
        here = a < b
        left = _blank_after(text, a - _AROUND, a) if here and a - _AROUND > first else first
        right = _blank_before(text, b + _AROUND, b) if here else _blank_before(text, first + SHORT_LINE, first)
        right = min(right, last)
    before, after = ELLIPSIS * (left > first), ELLIPSIS * (right < last)
    shown = before + printable(text[left:right]) + after
    move = len(before) - left
    return Line(left, shown.rstrip(), ((a + move, b + move),) if a < b else ())


def _blank_after(text: str, position: int, stop: int) -> int:
    """The start of the first word that begins from `position` on, or `position` if none begins before `stop`."""
    for at in range(position, stop):
        if text[at - 1].isspace() and not text[at].isspace():
            return at
    return position


def _blank_before(text: str, position: int, stop: int) -> int:
    """The end of the last word that ends by `position`, or `position` if none ends after `stop`."""
    for at in range(min(position, len(text)), stop, -1):
        if at == len(text) or (text[at].isspace() and not text[at - 1].isspace()):
            return at
    return position
