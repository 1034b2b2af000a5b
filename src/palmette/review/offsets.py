"""Offsets in UTF-16 units, in which browsers and some annotation tools count, and in code points, as here."""

from __future__ import annotations


def to_utf16(text: str, index: int) -> int:
    """The UTF-16 units before a code point of a text.

    >>> to_utf16("a🚢b", 2)
    3
    """
    return index + sum(character > "\uffff" for character in text[:index])


def from_utf16(text: str, units: int) -> int | None:
    """The code points before a UTF-16 unit of a text. None inside a character, or beyond the text.

    >>> from_utf16("a🚢b", 3), from_utf16("a🚢b", 2), from_utf16("ab", 3)
    (2, None, None)
    """
    seen = 0
    for index, character in enumerate(text):
        if seen >= units:
            return index if seen == units else None
        seen += 1 + (character > "\uffff")
    return len(text) if seen == units else None
