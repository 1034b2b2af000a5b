"""The numbers that Word writes before paragraphs, which stand nowhere in the text of a .docx.

A contract's "7.2" is most often such a number. Word keeps, for each list, a pattern for each of its nine levels (such
as "%1.%2" or a bullet), and counts paragraphs as it shows them (ECMA-376, part 1, 17.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

LEVELS = 9
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
_ROMAN_SMALL = ((9, "ix"), (5, "v"), (4, "iv"), (1, "i"))


@dataclass
class Level:
    """How paragraphs of a level are numbered: the kind of number, the pattern, and where it begins."""

    kind: str = "decimal"
    pattern: str = ""
    start: int = 1


@dataclass
class Numbering:
    """Numbers paragraphs in the order in which they come.

    Attributes:
        patterns: by the id of an abstract list, its levels by number.
        abstract: by the id of a list, the id of its abstract list.
        starts: by the id of a list and a level, where it begins instead.
        style_lists: by the id of a style, its list and level.
        based_on: by the id of a style, the style that it is based on.
        counts: by the id of an abstract list, the number of the last paragraph of each level.
    """

    patterns: dict[str, dict[int, Level]] = field(default_factory=dict)
    abstract: dict[str, str] = field(default_factory=dict)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    style_lists: dict[str, tuple[str, str]] = field(default_factory=dict)
    based_on: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def styles(self) -> _Styles:
        """A reader of styles.xml."""
        return _Styles(self)

    def lists(self) -> _Lists:
        """A reader of numbering.xml."""
        return _Lists(self)

    def next(self, style: str, number_id: str, level: str) -> str:
        """The number of the next paragraph, as Word shows it. "" for one without a number.

        Args:
            style: the id of its style.
            number_id: the id of the list that the paragraph itself names. "0" takes it out of any list.
            level: the level that it names, from 0.
        """
        styled_id, styled_level = self._of_style(style)
        number_id, level = number_id or styled_id, level or styled_level or "0"
        if number_id in ("", "0") or not level.isascii() or not level.isdigit() or int(level) >= LEVELS:
            return ""
        abstract = self.abstract.get(number_id, "")
        levels = self.patterns.get(abstract)
        if levels is None:
            return ""
        depth, counts = int(level), self.counts.setdefault(abstract, {})
        override = self.starts.get((number_id, depth))
        if override is not None and (number_id, depth) not in self._seen:
            counts[depth] = override
        else:
            counts[depth] = counts[depth] + 1 if depth in counts else levels.get(depth, Level()).start
        self._seen.add((number_id, depth))
        for deeper in [one for one in counts if one > depth]:
            del counts[deeper]
        return self._shown(levels, counts, depth)

    def _of_style(self, style: str) -> tuple[str, str]:
        for _ in range(20):  # a chain of styles may be a ring in a damaged file
            if style in self.style_lists:
                return self.style_lists[style]
            style = self.based_on.get(style, "")
        return "", ""

    @staticmethod
    def _shown(levels: dict[int, Level], counts: dict[int, int], depth: int) -> str:
        level = levels.get(depth, Level())
        if level.kind == "none":
            return ""
        if level.kind == "bullet":
            return "-"
        text = level.pattern
        for index in range(LEVELS):
            part = levels.get(index, Level())
            text = text.replace(f"%{index + 1}", _number(counts.get(index, part.start), part.kind))
        return text.strip()


def _number(value: int, kind: str) -> str:
    """A number as Word writes it in one of its ways. Ways of other languages are written as figures."""
    value = min(max(value, 0), 99999)
    if kind in ("lowerLetter", "upperLetter") and value:
        letters = chr(ord("a") + (value - 1) % 26) * min((value - 1) // 26 + 1, 9)
        return letters.upper() if kind == "upperLetter" else letters
    if kind in ("lowerRoman", "upperRoman") and value:
        letters = "".join(_roman(value))
        return letters.upper() if kind == "upperRoman" else letters
    return f"{value:02d}" if kind == "decimalZero" else str(value)


def _roman(value: int) -> Iterator[str]:
    for size, letters in _ROMAN + _ROMAN_SMALL:
        while value >= size:
            yield letters
            value -= size


class _Styles:
    """Reads which list the paragraphs of a style belong to."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self._style = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        word, value = _word(name), _value(attributes, "val")
        known = self._numbering.style_lists.get(self._style, ("", ""))
        if word == "style":
            self._style = _value(attributes, "styleId")
        elif word == "basedOn" and self._style:
            self._numbering.based_on[self._style] = value
        elif word == "numId" and self._style:
            self._numbering.style_lists[self._style] = (value, known[1])
        elif word == "ilvl" and self._style:
            self._numbering.style_lists[self._style] = (known[0], value)

    def end(self, name: str) -> None:
        if _word(name) == "style":
            self._style = ""

    def text(self, text: str) -> None:
        """The file has no text of its own."""


class _Lists:
    """Reads the patterns of lists."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self._abstract = self._list = ""
        self._level = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        word, value = _word(name), _value(attributes, "val")
        if word == "abstractNum":
            self._abstract, self._list = _value(attributes, "abstractNumId"), ""
            self._numbering.patterns[self._abstract] = {}
        elif word == "num":
            self._list, self._abstract = _value(attributes, "numId"), ""
        elif word == "abstractNumId" and self._list:
            self._numbering.abstract[self._list] = value
        elif word in ("lvl", "lvlOverride"):
            level = _value(attributes, "ilvl")
            self._level = int(level) if level.isascii() and level.isdigit() else 0
            if word == "lvl" and self._abstract:
                self._numbering.patterns[self._abstract][self._level] = Level()
        elif word == "startOverride" and self._list and value.isascii() and value.isdigit():
            self._numbering.starts[self._list, self._level] = int(value[:6])
        elif self._abstract and word in ("start", "numFmt", "lvlText"):
            self._set(word, value)

    def _set(self, word: str, value: str) -> None:
        level = self._numbering.patterns[self._abstract].setdefault(self._level, Level())
        if word == "start":
            level.start = int(value[:6]) if value.isascii() and value.isdigit() else 1
        elif word == "numFmt":
            level.kind = value
        else:
            level.pattern = value[:100]

    def end(self, name: str) -> None:
        """Nothing ends but what the next element begins."""

    def text(self, text: str) -> None:
        """The file has no text of its own."""


def _word(name: str) -> str:
    return name.rpartition(" ")[2]


def _value(attributes: dict[str, str], name: str) -> str:
    return next((value for key, value in attributes.items() if _word(key) == name), "")
