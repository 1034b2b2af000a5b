"""Dates as people write them, read by rule. What is not certain is refused, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from palmette.extraction.numbers import NotNormalisedError

_MONTHS = (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
)
_MONTH = {name: month for names in _MONTHS for month, name in enumerate(names.split(), start=1)} | {"sept": 9}
_ALIKE = str.maketrans("ſıİ", "siI")  # letters that IGNORECASE takes for these
_NAMES = "(?:" + "|".join(sorted(_MONTH, key=len, reverse=True)) + ")"
_NAME = rf"(?P<month>{_NAMES})\b\.?"
_ENDING = r"(?:st|nd|rd|th|er|º|\.)?"
_DAY = rf"(?P<day>\d{{1,2}}){_ENDING}"
_YEAR = r"(?P<year>\d{4})(?!\d)"
_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?<!\d){_YEAR}[-/.](?P<number>\d{{1,2}})[-/.](?P<day>\d{{1,2}})(?!\d)",
        rf"(?<!\d){_DAY}(?:\s+day)?(?:\s*,?\s*(?:of|de|-)?\s*){_NAME}\s*(?:,|of|de|-)?\s*{_YEAR}",
        rf"\b{_NAME}\s+(?:the\s+)?{_DAY}\s*,?\s*(?:of\s+)?{_YEAR}",
        rf"(?<![\d/.-])(?P<one>\d{{1,2}})[/.-](?P<two>\d{{1,2}})[/.-]{_YEAR}",
    )
]
# What may be another day of the same year, beside "|" for a whole date: "3-|", "3 May to |", "03/04 and |".
_OTHER_DAY = re.compile(
    rf"(?<![\d-])\d{{1,2}}{_ENDING}\s*(?:[-\u2013/&]|and|or|to|und|oder|bis|et|ou|au|y|o|al?)\s*\||"
    rf"(?<!\d)\d{{1,2}}{_ENDING}(?:\s+day)?\s*(?:of|de|-)?\s*{_NAMES}\b|"
    rf"\b{_NAMES}\.?\s+(?:the\s+)?\d{{1,2}}(?!\d)|(?<![\d/])\d{{1,2}}/\d{{1,2}}(?![\d/])",
    re.IGNORECASE,
)
_SHORT_YEAR = re.compile(r"(?<!\d)\d{1,2}[/.-]\d{1,2}[/.-]\d{2}(?!\d)")
_MONTH_ONLY = re.compile(rf"\b{_NAME}\s*,?\s*{_YEAR}", re.IGNORECASE)


def read_date(text: str, *, day_first: bool | None = None) -> date:
    """The date that a text holds. Months may have their English, German, French or Spanish names.

    Args:
        text: the text, such as "3 May 2021", "the 22nd day of August, 2005" or "2021-05-03".
        day_first: whether the day stands before the month in dates such as 03/04/2021. If None, a date that could be
            read both ways is refused.

    Raises:
        NotNormalisedError: the text holds no whole date or several, one that does not exist, or one that could be read
            in two ways.

    >>> read_date("the 22nd day of August, 2005").isoformat(), read_date("03/04/2021", day_first=True).isoformat()
    ('2005-08-22', '2021-04-03')
    """
    text = text.translate(_ALIKE)
    found = list(dict.fromkeys(_dates(text, day_first)))
    if len(found) > 1:
        raise NotNormalisedError(f"it holds several dates: {', '.join(one.isoformat() for one in found)}")
    if found:
        rest = text
        for form in _FORMS:
            rest = form.sub("|", rest)
        if _OTHER_DAY.search(rest):
            raise NotNormalisedError(f"it holds another day beside {found[0].isoformat()}")
        return found[0]
    if _SHORT_YEAR.search(text):
        raise NotNormalisedError("its year has two digits")
    if _MONTH_ONLY.search(text):
        raise NotNormalisedError("it names no day")
    raise NotNormalisedError("it holds no whole date")


def _dates(text: str, day_first: bool | None) -> Iterator[date]:
    for form in _FORMS:
        for match in form.finditer(text):
            parts = match.groupdict()
            if "one" in parts:
                month, day = _by_order(match[0], int(parts["one"]), int(parts["two"]), day_first)
            else:
                month = int(parts["number"]) if "number" in parts else _MONTH[parts["month"].lower()]
                day = int(parts["day"])
            try:
                yield date(int(parts["year"]), month, day)
            except ValueError as error:
                raise NotNormalisedError(f"there is no day {match[0]!r}") from error


def _by_order(written: str, one: int, two: int, day_first: bool | None) -> tuple[int, int]:
    """The month and the day of two numbers."""
    if one == two or one > 12 >= two:
        return two, one
    if two > 12 >= one:
        return one, two
    if day_first is None:
        raise NotNormalisedError(f"{written!r} can be read in two ways, and day_first of the schema says which")
    return (two, one) if day_first else (one, two)
