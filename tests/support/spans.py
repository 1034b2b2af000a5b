"""The allowed spans of a text, found by walking over its characters."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st


def kind(character: str) -> str:
    """Digits and letters make words. Anything else is a word of its own."""
    category = unicodedata.category(character)
    return "digit" if category in ("Nd", "Nl") else "letter" if category[0] in "LM" or character == "_" else ""


def plain_spans(text: str, max_words: int, *, inside_words: bool = False) -> dict[str, int]:
    """The allowed spans, found by walking over characters (scripts that separate their words only).

    Spans begin where words begin. They end where words end, and with `inside_words` after every character with its
    marks.
    """
    pieces: list[list[int]] = []
    for index, character in enumerate(text):
        if character.isspace():
            continue
        mark = unicodedata.combining(character) > 0
        joins = pieces and pieces[-1][1] == index
        joins = joins and (mark or (kind(character) != "" and kind(character) == kind(text[pieces[-1][0]])))
        if joins:
            pieces[-1][1] = index + 1
        else:
            pieces.append([index, index + 1])
    found: dict[str, int] = {}
    for i in range(len(pieces)):
        for j in range(i, min(i + max_words, len(pieces))):
            start, end = pieces[j]
            inner = [at for at in range(start + 1, end) if not unicodedata.combining(text[at])] if inside_words else []
            for stop in (*inner, end):
                found.setdefault(text[pieces[i][0] : stop], pieces[i][0])
    return found


# Digits, letters, marks, separators of information, and what JSON escapes.
texts = st.text(
    alphabet=st.sampled_from(list("aAbst1_ \n\t\"\\/.,'-?éß€😀\u0301\u2028\u00a0\x1c\x1f{}")), min_size=1, max_size=14
).filter(lambda text: any(not c.isspace() for c in text) and not unicodedata.combining(text.strip()[0]))
