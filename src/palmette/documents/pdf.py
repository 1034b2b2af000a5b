"""PDF to text: the characters of each page with their places, by PDFium.

It runs in a process of its own, `python -m palmette.documents.pdf`, which `contained.py` starts with limits of memory
and time. PDFium is built without JavaScript, and no page is drawn. Pages without any text are counted, since they are
most likely scans.
"""

from __future__ import annotations

import ctypes
import json
import sys
from array import array
from collections import Counter
from itertools import pairwise
from typing import Any

from palmette.documents.layout import read_page
from palmette.documents.paragraphs import write_pages
from palmette.documents.pieces import Line, Piece
from palmette.documents.record import Box, PageMap
from palmette.documents.running import running_heads, shown_head, without_running
from palmette.errors import DataError

MAX_PAGES = 20_000
_OCR = "Recognise its text first: ocrmypdf INPUT.pdf OUTPUT.pdf. Then give the result."
_LIGATURES = {
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
_SPACES = "\t\u00a0\u2007\u202f\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u2009\u200a\u3000"
_INVISIBLE = "\u200b\ufeff\u2060"
# What stands for each character. PDFium gives a hyphen at the end of a line as U+0002 or U+FFFE.
_WRITTEN: dict[int, str] = {
    **{ord(ligature): letters for ligature, letters in _LIGATURES.items()},
    **{ord(space): " " for space in _SPACES},
    **dict.fromkeys(map(ord, _INVISIBLE), ""),
    **dict.fromkeys((0x02, 0xFFFE), "\u00ad"),
    **dict.fromkeys((0, 1, *range(3, 9), *range(14, 32), 0xFFFF), ""),
}


def read_pdf(raw: bytes, name: str) -> tuple[str, PageMap, list[str]]:
    """The text of a PDF, the places of its characters, and notes for the user.

    Args:
        raw: the bytes of the file.
        name: how messages name it.

    Raises:
        DataError: the file is encrypted, damaged, has too many pages, or has no text on any page.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        raise _unreadable(error, name) from error
    num_pages = len(document)
    if num_pages > MAX_PAGES:
        raise DataError(
            f"the document {name!r} has {num_pages:,} pages, more than {MAX_PAGES:,}",
            "Split it, for instance with qpdf --split-pages=1000, and give a part of it.",
        )
    pages: list[list[Line]] = []
    damaged, empty = [], []
    for index in range(num_pages):
        try:
            lines = read_page(_pieces(document, index))
        except pypdfium2.PdfiumError:
            damaged.append(index + 1)
            lines = []
        if not lines and index + 1 not in damaged:
            empty.append(index + 1)
        pages.append(lines)
    if not any(pages):
        if damaged:
            raise DataError(f"no page of the document {name!r} can be read", "The file is damaged. Fetch it again.")
        raise DataError(f"the document {name!r} holds no text on {_of_pages(num_pages)}, so it is a scan", _OCR)
    if _is_garbled(pages):
        raise DataError(
            f"the fonts of the document {name!r} do not say which letters their signs are",
            "Recognise its text: ocrmypdf --force-ocr INPUT.pdf OUTPUT.pdf. Then give the result.",
        )
    notes = _notes_on_pages(num_pages, damaged, empty)
    numbered, more = _without_heads(pages)
    text, page_map = write_pages(numbered)
    return text, page_map, [*notes, *more]


def _is_garbled(pages: list[list[Line]]) -> bool:
    """Whether most characters have no meaning in Unicode: they are of private use, or stand for an unknown one."""
    text = "".join(line.text for lines in pages for line in lines[:200])[:200_000].replace(" ", "")
    unknown = sum("\ue000" <= letter <= "\uf8ff" or letter == "\ufffd" for letter in text)
    return unknown > 0.5 * len(text)


def _unreadable(error: Exception, name: str) -> DataError:
    if "password" in str(error).lower() or "security" in str(error).lower():
        return DataError(
            f"the document {name!r} is encrypted with a password",
            "Remove the password, for instance with qpdf --decrypt --password=... INPUT.pdf OUTPUT.pdf.",
        )
    return DataError(f"the document {name!r} is not a PDF that can be read", "The file is damaged. Fetch it again.")


def _of_pages(num_pages: int) -> str:
    return "its page" if num_pages == 1 else f"any of its {num_pages:,} pages"


def _notes_on_pages(num_pages: int, damaged: list[int], empty: list[int]) -> list[str]:
    notes = []
    if empty:
        holds = "page holds" if len(empty) == 1 else "pages hold"
        notes.append(
            f"{len(empty):,} of {num_pages:,} {holds} no text ({_some(empty)}). If they are scans, run ocrmypdf."
        )
    if damaged:
        notes.append(f"{len(damaged):,} of {num_pages:,} pages cannot be read ({_some(damaged)})")
    return notes


def _some(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:5])
    return f"page{'s' if len(numbers) > 1 else ''} {shown}{', ...' if len(numbers) > 5 else ''}"


def _without_heads(pages: list[list[Line]]) -> tuple[list[list[tuple[int, Line]]], list[str]]:
    """The lines of each page with their printed numbers, without running heads, and a note on those."""
    running, kept, dropped = running_heads(pages), [], Counter[str]()
    for page, lines in enumerate(pages, start=1):
        numbers = {id(line): number for number, line in enumerate(lines, start=1)}
        left = without_running(lines, running, page, len(pages))
        remaining = {id(line) for line in left}
        dropped.update(shown_head(line) for line in lines if id(line) not in remaining)
        kept.append([(numbers[id(line)], line) for line in left])
    if not any(kept):  # every page says the same, so that is the document
        return [list(enumerate(lines, start=1)) for lines in pages], []
    said = ", ".join(repr(text if len(text) <= 40 else text[:37] + "...") for text, _ in dropped.most_common(3))
    return kept, [f"left out running heads and page numbers: {said}"] if dropped else []


def _pieces(document: Any, index: int) -> list[Piece]:
    """The pieces of text of a page: characters drawn side by side in one go."""
    import pypdfium2.raw as pdfium

    page = document[index]
    if pdfium.FPDFPage_GetAnnotCount(page) and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY):
        page.close()  # what is filled into a form is now part of the page, once it is opened again
        page = document[index]
    text_page = page.get_textpage()
    try:
        count = pdfium.FPDFText_CountChars(text_page)
        turn = _turn(pdfium, text_page, count)
        rectangle = pdfium.FS_RECTF()
        reference = ctypes.byref(rectangle)
        unicode_of, box_of, is_generated = (
            pdfium.FPDFText_GetUnicode,
            pdfium.FPDFText_GetLooseCharBox,
            pdfium.FPDFText_IsGenerated,
        )
        gather, high = _Gather(turn), 0
        for position in range(count):
            code = unicode_of(text_page, position)
            if code in (10, 13):
                gather.end_piece()
                continue
            if 0xD800 <= code < 0xE000:  # half of a letter beyond U+FFFF, whose other half comes next
                if code < 0xDC00:
                    high = code
                    continue
                code, high = (0x10000 + ((high - 0xD800) << 10) + code - 0xDC00, 0) if high else (0xFFFD, 0)
            written = _WRITTEN[code] if code in _WRITTEN else chr(code) if code < 0x110000 else "\ufffd"
            if written == " ":
                gather.space(drawn=is_generated(text_page, position) == 0)
            elif written:
                box_of(text_page, position, reference)
                gather.add(written, rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
        gather.end_piece()
        return gather.pieces
    finally:
        text_page.close()
        page.close()


def _turn(pdfium: Any, text_page: Any, count: int) -> int:
    """How many quarter turns clockwise the text of a page was given, whatever turn the page itself has."""
    angles: Counter[int] = Counter()
    for position in range(0, count, max(count // 20, 1)):
        angle = pdfium.FPDFText_GetCharAngle(text_page, position)
        if angle >= 0:
            angles[round(angle / 1.5707963) % 4] += 1
    return angles.most_common(1)[0][0] if angles else 0


class _Gather:
    """Gathers characters into pieces.

    A run of characters ends where PDFium sees the end of a line, and where the next character stands at another height
    or far to the left. It is divided at wide white space: wider than 1.2 times the height of the characters, or wider
    than 0.6 times if that is more than twice the narrowest white space of the run. White space in which a space is
    drawn is most often that of justified text, and counts as less than a third of its width. A run with white space of
    one width throughout is justified, and is not divided.

    Args:
        turn: how many quarter turns clockwise the text was given.
    """

    def __init__(self, turn: int) -> None:
        self.pieces: list[Piece] = []
        self._turn = turn
        self._start()

    def _start(self) -> None:
        self._text: list[str] = []
        self._boxes = array("f")
        self._edges: list[tuple[float, float, float, float]] = []  # of each letter, on the page as displayed
        self._gaps: list[tuple[int, float]] = []  # white space before a letter, with its width as it counts
        self._low = self._high = self._right = 0.0
        self._drawn = False  # whether the white space at the end is drawn

    def space(self, *, drawn: bool) -> None:
        """Add white space. It is drawn if the page holds a character for it, and else the renderer's conclusion."""
        if self._text and self._text[-1] != " ":
            self._append(" ", (0.0, 0.0, 0.0, 0.0), self._edges[-1])
            self._drawn = False
        self._drawn = self._drawn or drawn

    def add(self, text: str, left: float, bottom: float, right: float, top: float) -> None:
        """Add a character, which may be written as several letters."""
        edges = self._displayed(left, bottom, right, top)
        if self._text:
            height = self._high - self._low
            elsewhere = abs(edges[1] + edges[3] - self._low - self._high) > height
            inside = edges[1] >= self._low and edges[3] <= self._high  # a superscript
            if (elsewhere and not inside) or edges[0] < self._right - height:
                self.end_piece()
        if not self._text:
            self._low, self._high = edges[1], edges[3]
        elif self._text[-1] == " " or edges[0] - self._right > 0.6 * (self._high - self._low):
            gap = edges[0] - self._right
            drawn = self._text[-1] == " " and self._drawn
            self._gaps.append((len(self._text), gap / 3.4 if drawn else gap))
        self._low, self._high, self._right = min(self._low, edges[1]), max(self._high, edges[3]), edges[2]
        for letter in text:
            self._append(letter, (left, bottom, right, top), edges)

    def _append(self, letter: str, box: Box, edges: Box) -> None:
        self._text.append(letter)
        self._boxes.extend(box)
        self._edges.append(edges)

    def _displayed(self, left: float, bottom: float, right: float, top: float) -> Box:
        if self._turn == 1:
            return -top, left, -bottom, right
        if self._turn == 2:
            return -right, -top, -left, -bottom
        if self._turn == 3:
            return bottom, -right, top, -left
        return left, bottom, right, top

    def end_piece(self) -> None:
        """Finish the run that is being gathered, unless there is none."""
        if self._text:
            wide = _wide(self._gaps, self._high - self._low)
            for start, end in pairwise([0, *wide, len(self._text)]):
                left, bottom, right, top = zip(*self._edges[start:end], strict=True)
                text = "".join(self._text[start:end])
                area = min(left), min(bottom), max(right), max(top)
                self.pieces.append(Piece(text, self._boxes[4 * start : 4 * end], *area))
        self._start()


def _wide(gaps: list[tuple[int, float]], height: float) -> list[int]:
    """Where a run of characters of some height is divided."""
    widths = [gap for _, gap in gaps]
    if len(widths) > 1 and max(widths) - min(widths) < 0.1 * max(widths):
        return []  # justified
    narrowest = min(widths, default=0.0)
    return [i for i, gap in gaps if gap > 1.2 * height or (gap > 0.6 * height and gap > 2 * narrowest > 0.0)]


def main() -> None:
    """Read a PDF from standard input and write what it says to standard output, as `contained.py` reads it."""
    name = sys.argv[1]
    try:
        text, page_map, notes = read_pdf(sys.stdin.buffer.read(), name)
    except DataError as error:
        said: dict[str, Any] = {"problem": error.problem, "way_out": error.way_out}
        sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
        return
    said = {"text": text, "notes": notes, "starts": page_map.starts, "pages": page_map.pages, "lines": page_map.lines}
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    sys.stdout.buffer.write(page_map.boxes.tobytes())


if __name__ == "__main__":
    main()
