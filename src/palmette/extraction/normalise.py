"""What a verbatim value means: a number, an amount, a date or a word, by rule, or the reason why no rule reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from palmette.extraction.dates import read_date
from palmette.extraction.numbers import NotNormalisedError, read_amount, read_number
from palmette.extraction.schema import Field, Schema

_DENIAL = re.compile(r"\b(?:no|not|never|none|neither|nor|without|cannot|\w+n['\u2019]t)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Normalised:
    """What a value means.

    Attributes:
        value: a number or amount in plain digits, a date as YYYY-MM-DD, or the text with single blanks. None if no rule
            reads it.
        currency: for an amount, its ISO 4217 code, or the sign where that belongs to several countries.
        reason: why there is no value. "" if there is one.
    """

    value: str | None
    currency: str | None = None
    reason: str = ""


def normalise(text: str, field: Field, schema: Schema) -> Normalised:
    """What a verbatim value means by the rules of its type.

    A field of type yes/no is "yes" where a passage answers it. A passage that denies something is not decided.

    Args:
        text: the value as it stands in the document.
        field: its field. Of a choice the option is scored, so here it is text.
        schema: the schema, which says how numbers and dates are written.
    """
    try:
        if field.type == "number":
            return Normalised(f"{read_number(text, schema.decimal):f}")
        if field.type == "amount":
            number, currency = read_amount(text, schema.decimal)
            return Normalised(f"{number:f}", currency)
        if field.type == "date":
            return Normalised(read_date(text, day_first=schema.day_first).isoformat())
        if field.type == "yes/no":
            if denial := _DENIAL.search(text):
                raise NotNormalisedError(f"the passage says {denial[0]!r}")
            return Normalised("yes")
    except NotNormalisedError as reason:
        return Normalised(None, reason=str(reason))
    return Normalised(" ".join(text.split()))
