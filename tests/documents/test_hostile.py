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
from palmette.documents.contained import html_contained, read_contained
from palmette.documents.docx import docx_text
from palmette.documents.pdf import read_pdf
from palmette.documents.tables import xlsx_sheets
from palmette.errors import DataError
from tests.support.papers import lines, pdf, raw_pdf, repacked
from tests.support.paths import SOURCE

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


def mapped(text: bytes, codes: dict[str, str]) -> bytes:
    """A PDF whose font says which letters its signs are: code points in UTF-16, as hexadecimal numbers, by sign."""
    lines = "\n".join(f"<{ord(sign):02X}> <{code}>" for sign, code in codes.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def 1 begincodespacerange <00> <FF> "
        f"endcodespacerange {len(codes)} beginbfchar\n{lines}\nendbfchar endcmap end end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 4 0 R >>"
    page = PAGE.replace(b"/Contents 4 0 R", b"/Contents 5 0 R") % b""
    return raw_pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [6 0 R] >>",
            font,
            stream(cmap.encode()),
            stream(b"BT /F 12 Tf 72 700 Td (%s) Tj ET" % text),
            page,
        ]
    )


def test_letters_beyond_the_first_plane_and_halves_of_them() -> None:
    """An emoji is one character. Half of one is no character, and every text can be encoded."""
    assert read_pdf(mapped(b"aAb", {"A": "D83DDE00"}), "a.pdf")[0] == "a\U0001f600b"
    for half in ("D83D", "DE00"):
        text, page_map, _ = read_pdf(mapped(b"aAb", {"A": half}), "a.pdf")
        assert text.encode().decode() == text
        assert len(page_map.boxes) == 4 * len(text)


def test_fonts_that_do_not_say_their_letters_are_refused() -> None:
    codes = {sign: f"E{number:03X}" for number, sign in enumerate("Theferry ")}
    with pytest.raises(DataError, match=r"the fonts of .* do not say which letters .* ocrmypdf --force-ocr"):
        read_pdf(mapped(b"The ferry", codes), "a.pdf")


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
    monkeypatch.setitem(contained.MAX_SECONDS, "pdf", 0.3)
    with pytest.raises(DataError, match=r"takes longer than 0\.3 s to read"):
        read_contained(good, "a.pdf")


def test_a_module_beside_the_documents_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python looks for modules in the working folder first, and people work in the folder of their documents."""
    for name in ("resource", "json", "pypdfium2"):
        (tmp_path / f"{name}.py").write_text("open('run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE.parent))
    assert read_contained(pdf(lines(["The ferry."])), "a.pdf")[0] == "The ferry."
    assert not (tmp_path / "run").exists()


def test_a_page_whose_tree_fills_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each paragraph opens all elements again that are open: 10,000 elements in 130 KB become 50 million."""
    page = "".join(f"<b x={index}><p>" for index in range(10_000))
    monkeypatch.setattr(contained, "MAX_MEMORY", 200 << 20)
    with pytest.raises(DataError, match=r"'a\.html' cannot be read in 200 MiB of memory, .* Save its text as \.txt"):
        html_contained(page, "a.html")
    assert html_contained("<p>The ferry.", "b.html") == ("The ferry.", []), "the limit is enough for others"


def test_a_page_nested_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start tag looks at all open elements, so two million of them take most of a day."""
    monkeypatch.setitem(contained.MAX_SECONDS, "html", 0.5)
    with pytest.raises(DataError, match=r"'a\.html' takes longer than 0\.5 s to read\. The page is made to do harm"):
        html_contained("<div>" * 2_000_000, "a.html")
    monkeypatch.setattr(contained, "MAX_MARKUP", 1 << 20)
    with pytest.raises(DataError, match=r"the page 'a\.html' has more than 1 MiB\. Save its text"):
        html_contained("<p>a" * 300_000, "a.html")


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
        list(xlsx_sheets(io.BytesIO(repacked(path, {"xl/workbook.xml": ENTITIES})), "a.xlsx"))
    monkeypatch.setattr("palmette.documents.tables.MAX_UNPACKED", 1 << 20)
    with pytest.raises(DataError, match=r"a\.xlsx: unpacks to more than 1 MiB\. Save the sheet as CSV"):
        list(xlsx_sheets(io.BytesIO(repacked(path, {"xl/worksheets/sheet1.xml": bytes(2 << 20)})), "a.xlsx"))


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
