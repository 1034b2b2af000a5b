"""The page of an extraction: each document with its fields, and each value in the lines that it stands in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from palmette.extraction.passages import ShownDocument, ShownField
from palmette.extraction.values import FieldValue
from palmette.numbers import count
from palmette.pages.page import render_page, write_page

MOST_SHOWN = 500  # documents


def write_extraction(path: Path, documents: Iterable[ShownDocument], *, schema: str, number: int) -> None:
    """Write the page.

    Args:
        path: the file.
        documents: the documents. The first `MOST_SHOWN` are shown.
        schema: the name of the schema.
        number: the number of all documents.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_extraction(documents, schema=schema, number=number))


def render_extraction(documents: Iterable[ShownDocument], *, schema: str, number: int) -> str:
    """The page as HTML. The arguments are those of `write_extraction`."""
    shown = [_document(one, index) for index, one in enumerate(islice(documents, MOST_SHOWN), start=1)]
    facts = [("Schema", schema), ("Documents", count(number, "document"))]
    if number > len(shown):
        facts.append(("Shown", f"the first {len(shown)}"))
    return render_page(
        "extraction.html",
        styles=("page.css", "report.css", "extraction.css"),
        scripts=(),
        title="Extracted values",
        facts=facts,
        documents=shown,
    )


def _document(shown: ShownDocument, index: int) -> dict[str, Any]:
    result = shown.result
    return {
        "anchor": f"document-{index}",
        "name": result.document,
        "error": result.error,
        "fields": [_field(one) for one in shown.fields],
    }


def _field(shown: ShownField) -> dict[str, Any]:
    found = shown.result
    absent = found.absent_probability
    candidates = [f"{one['text']} ({one['probability']:.2f})" for one in found.candidates]
    return {
        "name": found.name,
        "values": [{**_value(one.value), "lines": one.lines} for one in shown.values],
        "refusal": {"absent": "not in the document", "unsure": "unsure"}.get(found.refusal, ""),
        "error": found.error,
        "absent": "" if absent is None else f"{absent:.2f}",
        "certified": "proved" if found.certified else "",
        "candidates": candidates,
        "options": [f"{option} ({probability:.2f})" for option, probability in (found.options or {}).items()],
    }


def _value(value: FieldValue) -> dict[str, str]:
    place = "" if value.line is None else f"line {value.line}"
    meaning = " ".join(filter(None, (value.value, value.currency)))
    return {
        "text": value.text,
        "meaning": "" if meaning == " ".join(value.text.split()) else meaning,
        "reason": value.reason,
        "probability": f"{value.probability:.2f}",
        "place": place if value.page is None else f"page {value.page}, {place}",
    }
