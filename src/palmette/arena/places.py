"""Where an answer stands in its document, word for word."""

from __future__ import annotations

import re

_MOST = 100  # places of one answer that are given


def places_of(answer: str, document: str) -> list[tuple[int, int]]:
    """The places at which a document holds an answer, in code points.

    Blanks at the ends of the answer do not count. Where it stands as whole words somewhere, places inside of words are
    left out.

    >>> places_of("at 9", "Boats leave at 9, not at 90, and at 9 again.")
    [(12, 16), (33, 37)]
    >>> places_of(" oat ", "Boats leave."), places_of("At 9", "at 9"), places_of("", "at 9")
    ([(1, 4)], [], [])
    """
    wanted = re.escape(answer.strip())
    if not wanted:
        return []
    whole = [found.span() for found in re.finditer(rf"(?<!\w){wanted}(?!\w)", document)]
    return (whole or [found.span() for found in re.finditer(wanted, document)])[:_MOST]
