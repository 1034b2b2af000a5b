"""How likely a place in a document is to hold the answer, whatever its exact ends are.

The candidates of a question are often one answer with more or fewer words ("4,800 pounds", "4,800 pounds a month"),
which share its probability. Spans that overlap the most probable one are its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def at_the_place(spans: Sequence[tuple[str, int, float]]) -> Iterator[float]:
    """The log odds of the spans that overlap the first one, itself among them.

    A span that stands in several places has only its first one here. So a span that holds the other's words is taken to
    overlap it too, as it does somewhere.

    >>> spans = [("4,800 pounds", 20, 0.9), ("4,800 pounds a month", 20, 0.7), ("pounds", 3, 0.1), ("pound", 60, 0.2)]
    >>> list(at_the_place(spans))
    [0.9, 0.7, 0.1]

    Args:
        spans: (text, first position, log odds), the most probable one first.
    """
    for text, start, odds in spans:
        best, first, _ = spans[0]
        apart = start + len(text) <= first or first + len(best) <= start
        if not apart or _holds(best, text) or _holds(text, best):
            yield odds


def _holds(text: str, part: str) -> bool:
    """Whether a part stands in a text and is cut out at the edges of words."""
    at = text.find(part)
    while at >= 0:
        end = at + len(part)
        cut_before = at > 0 and text[at - 1 : at + 1].isalnum()
        cut_after = end < len(text) and text[end - 1 : end + 1].isalnum()
        if not cut_before and not cut_after:
            return True
        at = text.find(part, at + 1)
    return False
