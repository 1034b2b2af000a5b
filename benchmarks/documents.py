"""How well and how fast the text of PDF files is read back, from files whose text is known.

Each text file is set in one or two columns with running heads and page numbers, by ReportLab, and read back. A word is
in order if it stands in the longest common order of the words of both texts. With --hostile, files made to do harm are
read instead.

    python benchmarks/documents.py pride-and-prejudice.txt --columns 2
    python benchmarks/documents.py --hostile
"""

from __future__ import annotations

import argparse
import difflib
import io
import re
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph

from palmette.documents.contained import read_contained
from palmette.errors import DataError

MARGIN, GUTTER = 60, 20
_BLOCK = 2000  # words that are compared at a time


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, divided by blank lines."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def typeset(texts: list[str], columns: int) -> bytes:
    """The paragraphs as a PDF in justified columns, with a running head and page numbers."""

    def head(canvas: object, document: BaseDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)  # type: ignore[attr-defined]
        canvas.drawString(MARGIN, A4[1] - 30, "A running head")  # type: ignore[attr-defined]
        canvas.drawRightString(A4[0] - MARGIN, 25, f"Page {document.page}")  # type: ignore[attr-defined]

    buffer = io.BytesIO()
    width = (A4[0] - 2 * MARGIN - GUTTER * (columns - 1)) / columns
    frames = [
        Frame(MARGIN + index * (width + GUTTER), 60, width, A4[1] - 130, leftPadding=0, rightPadding=0)
        for index in range(columns)
    ]
    style = ParagraphStyle("justified", parent=getSampleStyleSheet()["BodyText"], alignment=TA_JUSTIFY)
    document = BaseDocTemplate(buffer, pagesize=A4)
    document.addPageTemplates([PageTemplate("page", frames, onPage=head)])
    document.build([Paragraph(escape(text), style) for text in texts])
    return buffer.getvalue()


def in_order(wanted: list[str], found: list[str]) -> int:
    """How many words of one list stand in the other in their order, compared block by block."""
    count = position = 0
    for start in range(0, len(wanted), _BLOCK):
        part = wanted[start : start + _BLOCK]
        window = found[position : position + len(part) + 200]
        blocks = difflib.SequenceMatcher(None, part, window, autojunk=False).get_matching_blocks()
        count += sum(block.size for block in blocks)
        position += max((block.b + block.size for block in blocks if block.size), default=len(part))
    return count


def pdf_of(objects: list[bytes]) -> bytes:
    """A PDF of the objects given."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, one) for number, one in enumerate(objects, start=1))
    return b"%PDF-1.7\n" + body + b"trailer << /Root 1 0 R >>\n%%EOF\n"


def pages(count: int, content: bytes, filters: bytes = b"") -> bytes:
    """A PDF of so many pages that all have one content."""
    kids = b" ".join(b"%d 0 R" % (5 + index) for index in range(count))
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
    page += b"/Resources << /Font << /F 3 0 R >> >> >>"
    stream = b"<< %s /Length %d >>\nstream\n%s\nendstream" % (filters, len(content), content)
    tree = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids)
    return pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", tree, font, stream, *[page] * count])


def hostile() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Files made to do harm, by name."""
    line = b"BT /F 12 Tf 72 700 Td (The ferry leaves at 7:40 from pier 3, and comes back at noon on most days.) Tj ET"
    packed = b"/Filter /FlateDecode"
    yield "10,000 pages", lambda: pages(10_000, line)
    yield "2 GB of blanks on a page", lambda: pages(1, zlib.compress(bytes(2 << 30), 9), packed)
    yield "300 MB of text on a page", lambda: pages(1, zlib.compress(line * ((300 << 20) // len(line)), 9), packed)


def main() -> None:
    """Read what is asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="text files")
    parser.add_argument("--columns", type=int, default=1, help="columns of a page")
    parser.add_argument("--hostile", action="store_true", help="files made to do harm")
    given = parser.parse_args()
    if given.hostile:
        print("| file | size, KB | seconds | most memory, MB | outcome |\n|---|---|---|---|---|")
        for name, make in hostile():
            raw, start = make(), time.perf_counter()
            try:
                outcome = f"{len(read_contained(raw, name)[0]):,} characters"
            except DataError as error:
                outcome = error.problem
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
            print(f"| {name} | {len(raw) // 1024:,} | {time.perf_counter() - start:.1f} | {memory:,} | {outcome} |")
        return
    print("| text | pages | words | in order, % | paragraphs | read as | seconds | ms a page |")
    print("|---|---|---|---|---|---|---|---|")
    for path in given.texts:
        texts = paragraphs(path)
        raw, start = typeset(texts, given.columns), time.perf_counter()
        text, page_map, _ = read_contained(raw, path.name)
        seconds, wanted, num_pages = time.perf_counter() - start, " ".join(texts).split(), max(page_map.pages)
        share = 100 * in_order(wanted, text.replace(" | ", " ").split()) / len(wanted)
        print(
            f"| {path.stem[:40]} | {num_pages} | {len(wanted):,} | {share:.2f} | {len(texts):,} "
            f"| {text.count(chr(10)) + 1:,} | {seconds:.1f} | {1000 * seconds / num_pages:.0f} |"
        )


if __name__ == "__main__":
    main()
