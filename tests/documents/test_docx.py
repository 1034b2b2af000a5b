"""Word files, written by python-docx: what a reader of the printed page reads, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls, qn

from palmette.documents import read_document
from palmette.documents.docx import docx_text
from palmette.documents.numbering import _number


def saved(path: Path, write: Callable[[Any], object]) -> tuple[str, list[str]]:
    document = docx.Document()
    write(document)
    document.save(str(path))
    return docx_text(path.read_bytes(), "a.docx")


def test_paragraphs_headings_and_tables_in_reading_order(tmp_path: Path) -> None:
    def write(document: Any) -> None:
        document.sections[0].header.paragraphs[0].text = "Confidential"
        document.sections[0].footer.paragraphs[0].text = "Page 1"
        document.add_heading("Services agreement", 0)
        document.add_paragraph("The fee is EUR\u00a01,250.00 for writ\u00ading it.")
        table = document.add_table(rows=3, cols=3)
        rows = [("Plan", "Fee", "Notice"), ("Basic", "5 EUR", ""), ("Pro", "9 EUR\na month", "28 days")]
        for cells, row in zip(table.rows, rows, strict=True):
            for cell, text in zip(cells.cells, row, strict=True):
                cell.text = text
        merged = table.add_row()
        merged.cells[0].merge(merged.cells[2]).text = "for all plans"
        last = document.add_paragraph("After ")
        last.add_run("it").bold = True
        last.add_run("s table").add_break()
        last.add_run("a new line")

    path = tmp_path / "a.docx"
    text, notes = saved(path, write)
    assert text.split("\n") == [
        "Services agreement",
        "The fee is EUR 1,250.00 for writing it.",
        "Plan | Fee | Notice",
        "Basic | 5 EUR |",
        "Pro | 9 EUR a month | 28 days",
        "for all plans",
        "After its table",
        "a new line",
    ]
    assert notes == []
    document = read_document(path)
    assert (document.kind, document.text) == ("docx", text)
    assert str(document.place(text.index("28 days"))) == "line 5"


def test_numbers_that_word_writes_are_in_the_text(tmp_path: Path) -> None:
    """A list of three levels as contracts have it: "1.", "1.1", "(a)". Styles of python-docx count too."""
    levels = [("decimal", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)"), ("upperRoman", "%4.")]
    inside = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{pattern}"/></w:lvl>'
        for i, (kind, pattern) in enumerate(levels)
    )

    def write(document: Any) -> None:
        numbering = document.part.numbering_part.element
        numbering.insert(0, parse_xml(f'<w:abstractNum {nsdecls("w")} w:abstractNumId="90">{inside}</w:abstractNum>'))
        numbering.append(parse_xml(f'<w:num {nsdecls("w")} w:numId="90"><w:abstractNumId w:val="90"/></w:num>'))
        for level, text in [(0, "Fees"), (1, "Amount"), (2, "net"), (2, "gross"), (1, "Due"), (0, "Term"), (1, "End")]:
            settings = document.add_paragraph(text)._p.get_or_add_pPr().get_or_add_numPr()
            settings.get_or_add_ilvl().val, settings.get_or_add_numId().val = level, 90
        for style, text in [("List Bullet", "a point"), ("List Number", "first"), ("List Number", "second")]:
            document.add_paragraph(text, style=style)

    assert saved(tmp_path / "a.docx", write)[0].split("\n") == [
        "1. Fees",
        "1.1 Amount",
        "(a) net",
        "(b) gross",
        "1.2 Due",
        "2. Term",
        "2.1 End",
        "- a point",
        "1. first",
        "2. second",
    ]


def test_headings_numbered_by_their_style_and_content_controls(tmp_path: Path) -> None:
    """A heading has its number from its style alone, and clauses under it count on. Templates hold content controls."""
    word = nsdecls("w")
    inside = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="{pattern}"/></w:lvl>'
        for i, pattern in enumerate(["%1.", "%1.%2"])
    )

    def write(document: Any) -> None:
        numbering = document.part.numbering_part.element
        numbering.insert(0, parse_xml(f'<w:abstractNum {word} w:abstractNumId="90">{inside}</w:abstractNum>'))
        numbering.append(parse_xml(f'<w:num {word} w:numId="90"><w:abstractNumId w:val="90"/></w:num>'))
        style = document.styles["Heading 1"].element.get_or_add_pPr()
        style.get_or_add_numPr().get_or_add_numId().val = 90
        for heading, clauses in (("Fees", ["Amount", "Due"]), ("Term", ["End"])):
            document.add_heading(heading, 1)
            for clause in clauses:
                settings = document.add_paragraph(clause)._p.get_or_add_pPr().get_or_add_numPr()
                settings.get_or_add_ilvl().val, settings.get_or_add_numId().val = 1, 90
        control = "<w:sdtContent><w:p><w:r><w:t>28 days</w:t></w:r></w:p></w:sdtContent>"
        document.paragraphs[-1]._p.addnext(parse_xml(f"<w:sdt {word}>{control}</w:sdt>"))

    assert saved(tmp_path / "a.docx", write)[0].split("\n") == [
        "1. Fees",
        "1.1 Amount",
        "1.2 Due",
        "2. Term",
        "2.1 End",
        "28 days",
    ]


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (4, "upperRoman", "IV"),
        (1994, "lowerRoman", "mcmxciv"),
        (26, "lowerLetter", "z"),
        (28, "upperLetter", "BB"),
        (7, "decimalZero", "07"),
        (12, "decimal", "12"),
        (3, "japaneseCounting", "3"),
    ],
)
def test_numbers_as_word_writes_them(value: int, kind: str, written: str) -> None:
    """After z come aa, bb, cc, as Word has it (ECMA-376, part 1, 17.18.59)."""
    assert _number(value, kind) == written


def test_changes_boxes_and_notes(tmp_path: Path) -> None:
    """Tracked changes as they will be, text boxes once although they are stored twice, footnotes at the end."""
    word = nsdecls("w")

    def write(document: Any) -> None:
        paragraph = document.add_paragraph("Notice of ")._p
        paragraph.append(parse_xml(f'<w:del {word} w:id="1"><w:r><w:delText>14</w:delText></w:r></w:del>'))
        paragraph.append(parse_xml(f'<w:ins {word} w:id="2"><w:r><w:t>28 days</w:t></w:r></w:ins>'))
        paragraph.append(parse_xml(f"<w:r {word}><w:instrText>PAGEREF x</w:instrText></w:r>"))
        box = "<w:txbxContent><w:p><w:r><w:t>In a box.</w:t></w:r></w:p></w:txbxContent>"
        both = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        content = f"<mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        document.add_paragraph()._p.append(
            parse_xml(f"<w:r {word} {both}><mc:AlternateContent>{content}</mc:AlternateContent></w:r>")
        )

    text, notes = saved(tmp_path / "a.docx", write)
    assert text.split("\n") == ["Notice of 28 days", "In a box."]
    assert notes == ["left out 2 characters that are tracked as deleted"]
    assert qn("w:p")  # the library's names are those of the format
