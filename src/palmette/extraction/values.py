"""What was found for the fields of a document: verbatim values, what they mean, and why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from palmette.extraction.normalise import Normalised, normalise
from palmette.extraction.schema import Field, Schema


@dataclass(frozen=True)
class FieldValue:
    """A value of a field, copied from the document, and what it means.

    Attributes:
        text: the value, exactly as it stands in the document.
        start, end: where it stands, in characters of the document's text.
        probability: the probability that it is the value. Of a list, that it is the one that is asked for.
        page: its page in a PDF, from 1. None without pages, and where the place is not known.
        line: its line, from 1. None where the place is not known.
        value: a number or amount in plain digits, a date as YYYY-MM-DD, "yes", an option, or the text with single
            blanks. None if no rule reads it.
        currency: for an amount, its ISO 4217 code, or the sign where that belongs to several countries.
        reason: why `value` is None. "" if it is not.
    """

    text: str
    start: int
    end: int
    probability: float
    page: int | None
    line: int | None
    value: str | None
    currency: str | None
    reason: str


@dataclass(frozen=True)
class FieldResult:
    """What a document says about a field.

    Attributes:
        name: the field.
        values: the values, in the order of the document. Empty where none is given.
        absent_probability: the probability that the document does not hold the field. None after an error.
        certified: whether it is proved that scoring every span would lead to the same values. Of a choice, to the same
            passage. All of its options are always scored.
        refusal: why there is no value: "absent" or "unsure". "" if there is one.
        candidates: the best spans, best first, as maps of text, start, end and probability.
        options: of a choice, the probability of each option, the most probable first.
        error: why the field could not be read. "" if it could.
    """

    name: str
    values: tuple[FieldValue, ...] = ()
    absent_probability: float | None = None
    certified: bool = False
    refusal: str = ""
    candidates: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, float] | None = None
    error: str = ""

    @property
    def reason(self) -> str:
        """Why the field has no value, or a value that no rule reads. "" if all is well."""
        if self.error or self.refusal:
            return self.error or self.refusal
        return "; ".join(dict.fromkeys(f"{one.text}: {one.reason}" for one in self.values if one.reason))


@dataclass(frozen=True)
class DocumentResult:
    """What a document says about all fields.

    Attributes:
        document: the name of the document.
        sha256: the hash of its text. None if it could not be read.
        fields: the fields, in the order of the schema.
        error: why the document could not be read. "" if it could.
    """

    document: str
    sha256: str | None
    fields: tuple[FieldResult, ...]
    error: str = ""


def document_results(records: Iterable[Mapping[str, Any]], schema: Schema) -> Iterator[DocumentResult]:
    """What the lines of a job say, one document after the other.

    Args:
        records: the lines. Those of a document stand together, one for each field in the order of the schema.
        schema: the schema.
    """
    size = len(schema.fields)
    for _, group in groupby(enumerate(records), key=lambda numbered: numbered[0] // size):
        yield document_result([record for _, record in group], schema)


def document_result(records: Sequence[Mapping[str, Any]], schema: Schema) -> DocumentResult:
    """What the lines of one document say."""
    first = records[0]
    results = tuple(field_result(record, *pair) for record, pair in zip(records, _pairs(schema), strict=True))
    unread = first.get("error", "") if first["document_sha256"] is None else ""
    return DocumentResult(first["document"], first["document_sha256"], results, unread)


def _pairs(schema: Schema) -> list[tuple[Field, Schema]]:
    return [(field, schema) for field in schema.fields]


def field_result(record: Mapping[str, Any], field: Field, schema: Schema) -> FieldResult:
    """What a line says about its field. The values are normalised here."""
    if "error" in record:
        return FieldResult(field.name, error=record["error"])
    options = record.get("options")
    return FieldResult(
        field.name,
        tuple(_value(one, _meaning(one["text"], field, schema, options)) for one in record["values"]),
        record["no_answer_probability"],
        record["certified"],
        record["refusal"] or "",
        tuple(record["candidates"]),
        options,
    )


def _meaning(text: str, field: Field, schema: Schema, options: Mapping[str, float] | None) -> Normalised:
    if not options:
        return normalise(text, field, schema)
    best = max(options, key=lambda option: options[option])
    if options[best] <= sum(options.values()) / 2:
        return Normalised(None, reason=f"no option is likelier than all others, and {best!r} is the likeliest")
    return Normalised(best)


def _value(found: Mapping[str, Any], meaning: Normalised) -> FieldValue:
    place = found.get("place") or {}
    return FieldValue(
        found["text"],
        found["start"],
        found["end"],
        found["probability"],
        place.get("page"),
        place.get("line"),
        meaning.value,
        meaning.currency,
        meaning.reason,
    )
