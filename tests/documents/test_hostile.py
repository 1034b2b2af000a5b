"""Documents made to do harm cost bounded memory and time, and end in an error that names them or in their text."""

from __future__ import annotations

import io
import resource
import zipfile
import zlib
from pathlib import Path

import docx
import openpyxl
import pytest

from palmette.documents import contained, read_document
from palmette.documents.contained import read_contained
from palmette.documents.docx import docx_text
from palmette.documents.pdf import read_pdf
from palmette.documents.tables import xlsx_sheets
from palmette.errors import DataError
from tests.support.papers import lines, pdf, raw_pdf, repacked

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /F 3 0 R >> >> %s >>"
)
TEXT = b"BT /F 12 Tf 72 700 Td (The ferry leaves at 7:40.) Tj ET"
ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(20))
    + b"]><w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'><w:body><w:p><w:r><w:t>"
    b"&u;</w:t></w:r></w:p></w:body></w:document>"
)


def stream(data: bytes, settings: bytes = b"") -> bytes:
    return b"<< %s /Length %d >>\nstream\n" % (settings, len(data)) + data + b"\nendstream"


def pages(count: int, content: bytes, catalog: bytes = b"", page: bytes = b"") -> bytes:
    kids = b" ".join(b"%d 0 R" % (5 + index) for index in range(count))
    return raw_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
            b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids),
            FONT,
            content,
            *[PAGE % page] * count,
        ]
    )


def test_scripts_in_a_pdf_are_not_run() -> None:
    """An endless loop when the document is opened, and when its page is."""
    script = b"<< /S /JavaScript /JS (while \\(true\\) {}) >>"
    raw = pages(1, stream(TEXT), b"/OpenAction %s" % script, b"/AA << /O %s >>" % script)
    assert read_contained(raw, "a.pdf")[0] == "The ferry leaves at 7:40."


def test_scripts_in_a_page_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        "<p onclick='while (true) {}'>The ferry.<script>while (true) {}</script><img onerror=alert(1) src=x>"
    )
    assert read_document(path).text == "The ferry."


def test_a_thousand_pages_are_read_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text, page_map, _ = read_pdf(pages(1000, stream(TEXT)), "a.pdf")
    assert text.count("7:40") == 1000
    assert page_map.place(len(text) - 1).page == 1000
    monkeypatch.setattr("palmette.documents.pdf.MAX_PAGES", 999)
    with pytest.raises(DataError, match=r"has 1,000 pages, more than 999\. Split it, for instance with qpdf"):
        read_pdf(pages(1000, stream(TEXT)), "a.pdf")


def test_a_page_that_unpacks_to_more_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 MB of nothing in 200 KB."""
    monkeypatch.setattr(contained, "MAX_MEMORY", 350 << 20)
    packed = zlib.compress(bytes(200 << 20), 9)
    raw = pages(1, stream(packed, b"/Filter /FlateDecode"))
    with pytest.raises(DataError, match=r"'a\.pdf' cannot be read in 350 MiB of memory, or it crashes its reader"):
        read_contained(raw, "a.pdf")
    assert read_contained(pdf(lines(["The ferry."])), "b.pdf")[0] == "The ferry.", "the limit is enough for others"


def test_a_reader_that_ends_wrongly_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    good = pdf(lines(["The ferry."]))
    monkeypatch.setattr(contained, "_LIMITED", "import os; os.abort()")
    with pytest.raises(DataError, match="or it crashes its reader"):
        read_contained(good, "a.pdf")
    monkeypatch.setattr(contained, "_LIMITED", "raise SystemExit('no')")
    with pytest.raises(DataError, match=r"the reader of PDF files failed on the document 'a\.pdf': no"):
        read_contained(good, "a.pdf")
    monkeypatch.setattr(contained, "_LIMITED", "while True: pass")
    monkeypatch.setattr(contained, "MAX_SECONDS", 0.3)
    with pytest.raises(DataError, match=r"takes longer than 0\.3 s to read"):
        read_contained(good, "a.pdf")


@pytest.fixture
def word_file(tmp_path: Path) -> Path:
    document = docx.Document()
    document.add_paragraph("The ferry.")
    document.save(str(tmp_path / "a.docx"))
    return tmp_path / "a.docx"


def test_a_zip_bomb_in_a_word_file_is_refused(word_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is unpacked than is allowed, and no more than that is ever held: memory does not grow with it."""
    bomb = repacked(word_file, {"word/document.xml": b"<document>" + b" " * (64 << 20)})
    assert len(bomb) < 200_000
    monkeypatch.setattr("palmette.documents.docx.MAX_UNPACKED", 32 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"'a\.docx' unpacks to more than 32 MiB\. It is not an ordinary Word file"):
        docx_text(bomb, "a.docx")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # kibibytes


def test_entities_are_refused_before_they_grow(word_file: Path) -> None:
    """20 levels of ten: 10**20 letters."""
    with pytest.raises(DataError, match="declares a document type, which no Word file has"):
        docx_text(repacked(word_file, {"word/document.xml": ENTITIES}), "a.docx")
    with pytest.raises(DataError, match="declares a document type"):
        docx_text(repacked(word_file, {"word/styles.xml": ENTITIES}), "a.docx")


def test_elements_may_not_be_nested_without_end(word_file: Path) -> None:
    with pytest.raises(DataError, match="is nested more than 200 deep"):
        docx_text(repacked(word_file, {"word/document.xml": b"<a>" * 100_000}), "a.docx")


def _overwritten(raw: bytes, name: bytes) -> bytes:
    start = raw.index(name) + len(name) + 20
    return raw[:start] + b"\xff" * 50 + raw[start + 50 :]


DAMAGED = {
    "no main part": lambda path: repacked(path, {"word/document.xml": b""}),
    "half a file": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "broken XML": lambda path: repacked(path, {"word/document.xml": b"<a><b></a>"}),
    "a list of files that is too long": lambda path: (
        path.read_bytes()[:-10] + (1 << 30).to_bytes(4, "little") + path.read_bytes()[-6:]
    ),
    "a damaged block": lambda path: _overwritten(path.read_bytes(), b"word/document.xml"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_word_files_are_refused(word_file: Path, case: str) -> None:
    with pytest.raises(DataError, match=r"'a\.docx' is no Word file that can be read: .*Save it again"):
        docx_text(DAMAGED[case](word_file), "a.docx")


def test_bombs_in_excel_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Plan", "Fee"])
    path = tmp_path / "a.xlsx"
    book.save(path)
    with pytest.raises(DataError, match="declares a document type"):
        list(xlsx_sheets(repacked(path, {"xl/workbook.xml": ENTITIES}), "a.xlsx"))
    monkeypatch.setattr("palmette.documents.tables.MAX_UNPACKED", 1 << 20)
    with pytest.raises(DataError, match=r"a\.xlsx: unpacks to more than 1 MiB\. Save the sheet as CSV"):
        list(xlsx_sheets(repacked(path, {"xl/worksheets/sheet1.xml": bytes(2 << 20)}), "a.xlsx"))


def test_a_quotation_mark_that_never_closes_costs_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('Plan,Fee\n"' + "x" * 11_000_000)
    with pytest.raises(DataError, match="not a table: field larger than field limit"):
        read_document(path)


def test_archives_of_other_kinds_are_named() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ppt/presentation.xml", "")
    with pytest.raises(DataError, match=r"is a presentation\. Save it as PDF"):
        read_document("-", stdin=io.BytesIO(buffer.getvalue()))
