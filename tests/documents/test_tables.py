"""Tables as documents: every row with the names of its columns, as spreadsheets number it."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import openpyxl
import pytest

from palmette.documents import read_document
from palmette.documents.tables import csv_rows, header_of, looks_like_table, xlsx_sheets
from palmette.errors import DataError

ROWS = [["Plan", "Fee", "Notice"], ["Basic", "5,00 €", "14 days"], ["Pro", "", "28 days"]]
LINES = ["Plan: Basic | Fee: 5,00 € | Notice: 14 days", "Plan: Pro | Notice: 28 days"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'Plan,Fee,Notice\nBasic,"5,00 €",14 days\nPro,,28 days\n'),
        ("a.csv", 'Plan;Fee;Notice\r\nBasic;5,00 €;"14\ndays"\r\n\r\nPro;;28 days\r\n'),
        ("a.csv", "sep=;\nPlan;Fee;Notice\nBasic;5,00 €;14 days\nPro;;28 days\n"),
        ("a.tsv", "Plan\tFee\tNotice\nBasic\t5,00 €\t14 days\nPro\t\t28 days\n"),
        ("download", "Plan|Fee|Notice\nBasic|5,00 €|14 days\nPro||28 days\n"),
    ],
)
def test_tables_are_read_whatever_divides_their_cells(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    document = read_document(tmp_path / name)
    assert (document.kind, document.text.split("\n")) == ("csv", LINES)
    assert str(document.place(document.text.index("28 days"))) == "line 2"


def test_excel_files_are_read_sheet_by_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    first = book.active
    first.title = "Plans"
    for row in [["Plan", "Fee", "From", "Open"], ["Basic", 5.0, datetime.datetime(2026, 11, 28), True], [None] * 4]:
        first.append(row)
    first.append(["Pro", 9.5, datetime.datetime(2026, 11, 28, 7, 40), False])
    book.create_sheet("Empty")
    path = tmp_path / "a.xlsx"
    book.save(path)
    document = read_document(path)
    expected = [
        "Plan: Basic | Fee: 5 | From: 2026-11-28 | Open: true",
        "Plan: Pro | Fee: 9.5 | From: 2026-11-28 07:40:00 | Open: false",
    ]
    assert (document.kind, document.text.split("\n")) == ("xlsx", expected)
    _, rows = next(iter(xlsx_sheets(io.BytesIO(path.read_bytes()), "a.xlsx")))
    assert [number for number, _ in rows] == [1, 2, 4], "as the spreadsheet numbers them"
    for row in (["Name", "Place"], ["Harbour", "Pier 3"]):
        book["Empty"].append(row)
    book.save(path)
    assert read_document(path).text.split("\n") == ["Plans", *expected, "", "Empty", "Name: Harbour | Place: Pier 3"]


def test_a_header_is_told_from_a_row() -> None:
    assert header_of(["Plan", " Fee ", ""]) == ["Plan", "Fee"]
    for row in (["Plan", "Plan"], ["Plan", "5.00"], ["Plan", "", "Fee"], ["Plan"], ["1,000", "2"]):
        assert header_of(row) is None, row
    assert list(csv_rows("1,2\n3,4\n", "a"))[1] == (2, ["3", "4"])
    assert read_document("-", stdin=io.BytesIO(b"Paris,3\nRome,4\nOslo,5\n")).kind == "text"


def test_prose_is_no_table() -> None:
    prose = "Dear Sir, or Madam, whoever you are,\nthe ferry, which leaves at 7:40, is late,\nand so, alas, are we,\n"
    assert not looks_like_table(prose)
    assert not looks_like_table("Plan,Fee,Notice\nBasic,5,14\n"), "too few rows to tell"
    assert looks_like_table("Plan,Fee,Notice\nBasic,5,14\nPro,9,28\n")


def test_a_table_with_too_many_columns_is_refused() -> None:
    with pytest.raises(DataError, match=r"a: row 1 has 1,001 cells\. Give at most 1,000 columns"):
        list(csv_rows("," * 1000 + "x", "a"))
