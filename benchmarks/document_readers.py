"""How well-kept libraries read Word and PDF files, beside Palmette's own code for their structure.

    pip install docx2python mammoth docx2txt pdfplumber pdfminer.six
    python benchmarks/document_readers.py

Both kinds of files are made here, by python-docx and ReportLab. The first table says which lines of a contract each
library writes as Word shows them. The second says how many of five files of two columns are read one column
after the other, and how much processor time a page of a long file takes. Libraries that are not installed are left out.
"""

from __future__ import annotations

import io
import random
import re
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import docx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph

WORD = nsdecls("w")
SHOWN = {  # what a reader of the printed contract sees: each is a line of its own
    "number of a heading": "2. Term",
    "number of a clause": "2.1 End",
    "letter of a point": "(b) gross",
    "tracked changes": "Notice of 28 days",
    "content control": "In a control.",
    "text box, once": "In a box.",
    "row of a table": "Pro | 9 EUR",
}
WORDS = (
    "the",
    "fee",
    "is",
    "due",
    "in",
    "thirty",
    "days",
    "unless",
    "both",
    "parties",
    "agree",
    "to",
    "wait",
    "longer",
)


def contract() -> bytes:
    """A contract of headings that are numbered by their style, clauses, points, changes, a box and a table."""
    document: Any = docx.Document()
    levels = [("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)")]
    inside = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{pattern}"/></w:lvl>'
        for i, (kind, pattern) in enumerate(levels)
    )
    numbering = document.part.numbering_part.element
    numbering.insert(0, parse_xml(f'<w:abstractNum {WORD} w:abstractNumId="90">{inside}</w:abstractNum>'))
    numbering.append(parse_xml(f'<w:num {WORD} w:numId="90"><w:abstractNumId w:val="90"/></w:num>'))
    document.styles["Heading 1"].element.get_or_add_pPr().get_or_add_numPr().get_or_add_numId().val = 90
    for level, text in [(0, "Fees"), (1, "Amount"), (2, "net"), (2, "gross"), (0, "Term"), (1, "End")]:
        if level == 0:
            document.add_heading(text, 1)
            continue
        settings = document.add_paragraph(text)._p.get_or_add_pPr().get_or_add_numPr()
        settings.get_or_add_ilvl().val, settings.get_or_add_numId().val = level, 90
    changed = document.add_paragraph("Notice of ")._p
    changed.append(parse_xml(f'<w:del {WORD} w:id="1"><w:r><w:delText>14</w:delText></w:r></w:del>'))
    changed.append(parse_xml(f'<w:ins {WORD} w:id="2"><w:r><w:t>28 days</w:t></w:r></w:ins>'))
    control = "<w:sdtContent><w:p><w:r><w:t>In a control.</w:t></w:r></w:p></w:sdtContent>"
    changed.addnext(parse_xml(f"<w:sdt {WORD}>{control}</w:sdt>"))
    box = "<w:txbxContent><w:p><w:r><w:t>In a box.</w:t></w:r></w:p></w:txbxContent>"
    both = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    content = f"<mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    content = f"<mc:AlternateContent>{content}</mc:AlternateContent>"
    document.add_paragraph()._p.append(parse_xml(f"<w:r {WORD} {both}>{content}</w:r>"))
    for cell, text in zip(document.add_table(rows=1, cols=2).rows[0].cells, ("Pro", "9 EUR"), strict=True):
        cell.text = text
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def paper(columns: int, paragraphs: int) -> bytes:
    """A PDF of paragraphs that begin with their number, in columns."""
    buffer, (width, height) = io.BytesIO(), A4
    column = (width - 120 - 24 * (columns - 1)) / columns
    template = BaseDocTemplate(buffer, pagesize=A4)
    frames = [Frame(60 + index * (column + 24), 60, column, height - 120) for index in range(columns)]
    template.addPageTemplates(PageTemplate(frames=frames))
    style, draw = getSampleStyleSheet()["BodyText"], random.Random(0)
    texts = [f"P{index:05d} " + " ".join(draw.choices(WORDS, k=80)) for index in range(paragraphs)]
    template.build([Paragraph(text, style) for text in texts])
    return buffer.getvalue()


def _palmette_word(raw: bytes) -> str:
    from palmette.documents.docx import docx_text

    return docx_text(raw, "contract.docx")[0]


def _docx2python(raw: bytes) -> str:
    from docx2python import docx2python

    with docx2python(io.BytesIO(raw)) as content:
        rows = [row for table in content.body for row in table]
    return "\n".join(" | ".join(map(" ".join, row)) if len(row) > 1 else "\n".join(row[0]) for row in rows)


def _python_docx(raw: bytes) -> str:
    lines: list[str] = []
    for block in docx.Document(io.BytesIO(raw)).iter_inner_content():
        rows = [] if hasattr(block, "text") else block.rows
        lines += [" | ".join(cell.text for cell in row.cells) for row in rows] or [block.text]
    return "\n".join(lines)


def _mammoth(raw: bytes) -> str:
    import mammoth

    from palmette.documents.html import html_text

    return html_text(mammoth.convert_to_html(io.BytesIO(raw)).value)[0]


def _docx2txt(raw: bytes) -> str:
    import docx2txt

    return str(docx2txt.process(io.BytesIO(raw)))


def _palmette_pdf(raw: bytes) -> str:
    from palmette.documents.pdf import read_pdf

    return read_pdf(raw, "paper.pdf")[0]


def _pdfplumber(raw: bytes) -> str:
    import pdfplumber

    with pdfplumber.open(io.BytesIO(raw)) as document:
        return "\n".join(page.extract_text() for page in document.pages)


def _pdfminer(raw: bytes) -> str:
    from pdfminer.high_level import extract_text

    return str(extract_text(io.BytesIO(raw)))


WORD_READERS: dict[str, Callable[[bytes], str]] = {
    "palmette": _palmette_word,
    "docx2python": _docx2python,
    "python-docx": _python_docx,
    "mammoth": _mammoth,
    "docx2txt": _docx2txt,
}
PDF_READERS = {"palmette": _palmette_pdf, "pdfplumber": _pdfplumber, "pdfminer.six": _pdfminer}


def installed(readers: dict[str, Callable[[bytes], str]]) -> list[tuple[str, Callable[[bytes], str]]]:
    """The readers whose library is installed, with its version in their name."""
    found = []
    for name, read in readers.items():
        try:
            found.append((name if name == "palmette" else f"{name} {version(name)}", read))
        except PackageNotFoundError:
            print(f"({name} is not installed)")
    return found


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")
    raw = contract()
    print("| reader of Word files |", " | ".join(SHOWN), "|")
    print("|---" * (len(SHOWN) + 1) + "|")
    for name, read in installed(WORD_READERS):
        lines = [" ".join(line.split()) for line in read(raw).split("\n")]
        print(f"| {name} |", " | ".join("yes" if lines.count(line) == 1 else "no" for line in SHOWN.values()), "|")
    two, long = [paper(2, paragraphs) for paragraphs in (10, 14, 20, 30, 40)], paper(1, 2550)
    print("\n| reader of PDF files | two columns in order | pages | ms a page |\n|---|---|---|---|")
    for name, read in installed(PDF_READERS):
        found = [re.findall(r"P(\d{5})", read(one)) for one in two]
        ordered = sum(numbers == sorted(numbers) for numbers in found)
        start = time.process_time()
        text = read(long)
        seconds = time.process_time() - start
        pages = long.count(b"/Type /Page\n")
        assert len(re.findall(r"P\d{5}", text)) == 2550, name
        print(f"| {name} | {ordered} of {len(two)} | {pages} | {1000 * seconds / pages:.0f} |")


if __name__ == "__main__":
    main()
