"""The style of an answer: its length and its Markdown, which voters like whatever the answer says.

The features are those of Chatbot Arena's style control (Li et al., 2024, "Does style matter?"): length, headers, list
items and bold passages, the last three counted outside fenced code. Length is in characters here, since a tokenizer
belongs to a model.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

FEATURES = ("length", "headers", "list items", "bold passages")

_CODE = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True, slots=True)
class Style:
    """The style of one answer.

    Attributes:
        length: characters.
        headers, items, bold: Markdown headers, list items and bold passages outside fenced code.
    """

    length: int
    headers: int
    items: int
    bold: int


def style_of(text: str) -> Style:
    r"""The style of an answer.

    >>> style_of("# Ferry\n- at **nine**\n- at ten\n```\n# a comment\n```")
    Style(length=50, headers=1, items=2, bold=1)
    """
    prose = _CODE.sub("", text)
    return Style(len(text), *(len(pattern.findall(prose)) for pattern in (_HEADER, _ITEM, _BOLD)))


def contrast(left: Style, right: Style) -> npt.NDArray[np.float64]:
    """How the left answer's style differs: (l - r) / (l + r + 1) for each of FEATURES, from -1 to 1.

    >>> contrast(Style(3, 0, 0, 0), Style(0, 0, 0, 1)).tolist()
    [0.75, 0.0, 0.0, -0.5]
    """
    of_left, of_right = np.array(astuple(left), dtype=float), np.array(astuple(right), dtype=float)
    difference: npt.NDArray[np.float64] = (of_left - of_right) / (of_left + of_right + 1.0)
    return difference
