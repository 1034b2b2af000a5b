"""The lines of a document around a value, in parts that are marked or not, for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from palmette.extraction.values import DocumentResult, FieldResult, FieldValue
from palmette.inference.excerpt import Line, excerpt

Part = tuple[str, bool]  # a text, and whether it belongs to the value


@dataclass(frozen=True)
class ShownValue:
    """A value with the lines around it. There are none if the document has changed or is gone."""

    value: FieldValue
    lines: tuple[tuple[Part, ...], ...]


@dataclass(frozen=True)
class ShownField:
    """A field with its values as they stand in the document."""

    result: FieldResult
    values: tuple[ShownValue, ...]


@dataclass(frozen=True)
class ShownDocument:
    """A document with its fields."""

    result: DocumentResult
    fields: tuple[ShownField, ...]


def shown_documents(
    results: Iterable[DocumentResult], text_of: Callable[[DocumentResult], str | None]
) -> Iterator[ShownDocument]:
    """What was found, with the lines around each value.

    Args:
        results: what was found.
        text_of: the text of a document, or None if it is not what was read.
    """
    for result in results:
        text = None if result.error else text_of(result)
        fields = (
            ShownField(one, tuple(ShownValue(value, _lines(text, value)) for value in one.values))
            for one in result.fields
        )
        yield ShownDocument(result, tuple(fields))


def _lines(text: str | None, value: FieldValue) -> tuple[tuple[Part, ...], ...]:
    if text is None:
        return ()
    return tuple(tuple(_parts(line)) for line in excerpt(text, value.start, value.end))


def _parts(line: Line) -> Iterator[Part]:
    at = 0
    for start, end in line.marks:
        yield line.text[at:start], False
        yield line.text[start:end], True
        at = end
    yield line.text[at:], False
