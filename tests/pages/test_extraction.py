"""The page of an extraction: values in their lines, errors and refusals, and text that stays text."""

from __future__ import annotations

from palmette.extraction.passages import shown_documents
from palmette.extraction.schema import read_schema
from palmette.extraction.values import document_results
from palmette.pages.extraction import render_extraction

SCHEMA = read_schema({"fields": {"rent": {"question": "How much?", "type": "amount"}}})
TEXT = "Terms <b>of</b> the lease\nThe rent is $1,250 a month.\n"


def line(document: str, **others: object) -> dict[str, object]:
    begun = {"document": document, "document_sha256": "abc", "no_answer_probability": 0.25, "certified": True}
    return {**begun, "refusal": None, "candidates": [], "values": [], **others}


VALUE = {"text": "$1,250", "start": 38, "end": 44, "place": {"line": 2}, "probability": 0.75}
LINES = [
    line("a.txt", values=[VALUE]),
    line("b.txt", refusal="absent", candidates=[{"text": "<i>ten</i>", "start": 0, "end": 3, "probability": 0.125}]),
    {"document": "c.txt", "document_sha256": None, "error": "it is empty. Give another."},
    line("gone.txt", values=[VALUE]),
]


def page() -> str:
    results = document_results(LINES, SCHEMA)
    shown = shown_documents(results, lambda result: TEXT if result.document == "a.txt" else None)
    return render_extraction(shown, schema="lease.yaml", number=4)


def test_each_value_stands_in_its_lines() -> None:
    assert TEXT[38:44] == "$1,250"
    html = page()
    assert 'The rent is <mark class="model">$1,250</mark> a month.' in html
    assert '<span class="meaning">1250 $</span>' in html
    assert "0.75, line 2" in html


def test_refusals_errors_and_changed_documents_are_said() -> None:
    html = page()
    assert "not in the document" in html
    assert "it is empty. Give another." in html
    assert html.count("The document is not the one that was read") == 1


def test_text_never_becomes_markup() -> None:
    html = page()
    assert "&lt;b&gt;of&lt;/b&gt;" in html
    assert "&lt;i&gt;ten&lt;/i&gt;" in html
    assert "<i>ten" not in html
