"""The names and formats of figures on the terminal, in tables and in a model card."""

from __future__ import annotations

from collections.abc import Sequence

# The first figures that a reader looks for.
HEADLINES = {
    "exact": "exact match (EM)",
    "f1": "F1",
    "HasAns_exact": "EM, answerable",
    "NoAns_exact": "EM, unanswerable",
    "valid_json": "valid JSON",
    "verbatim": "verbatim in the document",
}
# How a decoder came to its answers.
DECISIONS = {"answered": "answered", "certified": "proved most probable"}


def with_interval(value: float, interval: Sequence[float] | None, *, digits: int = 1, scale: float = 1.0) -> str:
    """A figure, with its interval in brackets if there is one.

    >>> with_interval(0.5, (0.25, 0.752), scale=100), with_interval(1.25, None, digits=2)
    ('50.0 (25.0 to 75.2)', '1.25')

    Args:
        value: the figure.
        interval: its two ends, in the same unit.
        digits: digits after the point.
        scale: what all three are multiplied by first.
    """
    shown = f"{scale * value:.{digits}f}"
    if interval is None:
        return shown
    low, high = interval
    return f"{shown} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"
