"""Tables of extracted fields, and what the lines of a job come to."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet
import pytest

from palmette.errors import DataError
from palmette.extraction.schema import read_schema
from palmette.extraction.table import Counts, check_format, write_table
from palmette.extraction.values import DocumentResult, document_results

SCHEMA = read_schema(
    {
        "fields": {
            "rent": {"question": "How much?", "type": "amount"},
            "start": {"question": "From when?", "type": "date"},
            "tenants": {"question": "Who?", "many": True},
            "paid": {"question": "How often?", "type": "choice", "options": ["weekly", "monthly"]},
            "pets": {"question": "Are pets allowed?", "type": "yes/no"},
        }
    },
)


def line(*texts: str, document: str = "a.pdf", refusal: str | None = None, **others: Any) -> dict[str, Any]:
    """A line of a job, with values one after the other."""
    starts = [sum(len(text) + 1 for text in texts[:index]) for index in range(len(texts))]
    values = [
        {"text": text, "start": start, "end": start + len(text), "place": {"page": 2, "line": 3}, "probability": 0.75}
        for text, start in zip(texts, starts, strict=True)
    ]
    return {
        "document": document,
        "document_sha256": "abc",
        "refusal": refusal,
        "no_answer_probability": 0.125,
        "certified": True,
        "candidates": [],
        "values": values,
        **others,
    }


LINES = [
    line("=$1,250"),
    line("03/04/2021"),
    line("Ann Lee", "Bob Ray"),
    line("each month", options={"monthly": 0.5, "weekly": 0.25}),
    line("not allowed"),
    line(refusal="absent", document="b.txt"),
    line("3 May 2021", document="b.txt"),
    line(refusal="unsure", document="b.txt"),
    line("now and then", document="b.txt", options={"weekly": 0.25, "monthly": 0.25}),
    line("a cat may live there", document="b.txt"),
    *({"document": "c.txt", "document_sha256": None, "error": "it is empty. Give another."} for _ in range(5)),
]


def results() -> list[DocumentResult]:
    return list(document_results(LINES, SCHEMA))


def test_a_row_is_a_document_with_values_and_what_they_mean(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", results(), SCHEMA)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        a, b, c = csv.DictReader(stream)
    assert (a["rent"], a["rent.value"], a["rent.currency"], a["rent.page"]) == ("=$1,250", "1250", "$", "2")
    assert (a["start"], a["start.value"]) == ("03/04/2021", "")
    assert "can be read in two ways" in a["start.reason"]
    assert (a["tenants"], a["tenants.start"], a["tenants.probability"]) == ("Ann Lee | Bob Ray", "0 | 8", "0.75 | 0.75")
    assert (a["paid"], a["paid.value"]) == ("each month", "monthly")
    assert (a["pets"], a["pets.value"], a["pets.reason"]) == ("not allowed", "", "not allowed: the passage says 'not'")
    assert (b["rent"], b["rent.reason"], b["rent.absent_probability"]) == ("", "absent", "0.125")
    assert (b["start.value"], b["tenants.reason"], b["pets.value"]) == ("2021-05-03", "unsure", "yes")
    assert b["paid.value"] == ""
    assert "no option is likelier than all others" in b["paid.reason"]
    assert (c["document"], c["error"]) == ("c.txt", "it is empty. Give another.")
    assert {value for key, value in c.items() if key not in ("document", "error")} == {""}


def test_json_lines_hold_everything(tmp_path: Path) -> None:
    write_table(tmp_path / "t.jsonl", results(), SCHEMA)
    a, _, c = (json.loads(row) for row in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines())
    assert [(one["text"], one["start"], one["end"]) for one in a["fields"]["tenants"]["values"]] == [
        ("Ann Lee", 0, 7),
        ("Bob Ray", 8, 15),
    ]
    assert a["fields"]["paid"]["options"] == {"monthly": 0.5, "weekly": 0.25}
    assert (c["error"], c["fields"]["rent"]["values"]) == ("it is empty. Give another.", [])


def test_numbers_and_dates_are_typed_and_text_is_no_formula(tmp_path: Path) -> None:
    """A cell of type "s" is text for Excel, one of type "f" a formula."""
    write_table(tmp_path / "t.xlsx", results(), SCHEMA)
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    names = [cell.value for cell in sheet[1]]
    rent, meaning = (sheet.cell(2, names.index(name) + 1) for name in ("rent", "rent.value"))
    assert (rent.value, rent.data_type, meaning.value) == ("=$1,250", "s", 1250)
    assert sheet.cell(3, names.index("start.value") + 1).value == datetime.datetime(2021, 5, 3)
    write_table(tmp_path / "t.parquet", results(), SCHEMA)
    row, *_ = pyarrow.parquet.read_table(tmp_path / "t.parquet").select(["rent.value", "pets.certified"]).to_pylist()
    assert row == {"rent.value": 1250.0, "pets.certified": True}


def test_a_date_before_1900_is_text_in_excel(tmp_path: Path) -> None:
    """Excel counts days from 1900, and shows ##### for a negative number of them."""
    schema = read_schema({"fields": {"signed": {"question": "When?", "type": "date"}}})
    write_table(tmp_path / "t.xlsx", document_results([line("August 3, 1776")], schema), schema)
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    names = [cell.value for cell in sheet[1]]
    assert sheet.cell(2, names.index("signed.value") + 1).value == "1776-08-03"


def test_a_table_has_a_known_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.csv, \.jsonl, \.parquet, \.xlsx"):
        check_format(tmp_path / "table.doc")


def test_what_was_extracted_is_counted() -> None:
    """Of the ten fields of two documents that could be read, two are empty, and three are read by no rule."""
    counts = Counts()
    assert len(list(counts.counted(results()))) == 3
    assert (counts.unread, counts.filled, counts.absent, counts.unsure, counts.not_normalised) == (1, 8, 1, 1, 3)
    assert counts.summary(Path("t.csv")) == (
        "done: 3 documents in t.csv, 1 of which could not be read: 8 fields with a value (3 of them read by no rule), "
        "1 absent, 1 unsure"
    )
