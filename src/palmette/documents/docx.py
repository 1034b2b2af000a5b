"""Word files (.docx) to text: paragraphs and tables in reading order, without a model of the whole file in memory.

A .docx is a zip archive of XML (ECMA-376). Its parts are unpacked and parsed piece by piece, by expat. So a zip bomb
costs at most `MAX_UNPACKED` bytes of work and no memory, and a document type, which entities are declared in, is
refused, since no Word file has one. Macros and links are never followed.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from palmette.documents.numbering import Numbering
from palmette.errors import DataError

MAX_UNPACKED = 256 * 1024 * 1024
MAX_CHARACTERS = 20_000_000
MAX_DEPTH = 200
_MAX_DIRECTORY = 8 * 1024 * 1024
_BLOCK = 1 << 16
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main "
_COMPATIBILITY = "http://schemas.openxmlformats.org/markup-compatibility/2006 "
_MATHS = "http://schemas.openxmlformats.org/officeDocument/2006/math "
_CHARACTERS = {
    "tab": "\t",
    "ptab": "\t",
    "br": "\n",
    "cr": "\n",
    "noBreakHyphen": "-",
    "softHyphen": "",
}
_SPACES = str.maketrans({**dict.fromkeys("\u00a0\u2007\u202f", " "), **dict.fromkeys("\u00ad\u200b\ufeff\u2060", "")})
_DAMAGED = "The file is damaged. Save it again in the program that made it."


class _TooLargeError(Exception):
    """The limit of what is unpacked was passed."""


def docx_text(raw: bytes, name: str) -> tuple[str, list[str]]:
    """The text of a Word file, and notes on what was left out.

    Paragraphs become lines, with the numbers that Word writes before them. Rows of tables become lines with " | "
    between cells. Text that is tracked as deleted is left out, text that is tracked as inserted is kept. Footnotes and
    endnotes stand at the end. Headers and footers of pages are left out.

    Args:
        raw: the bytes of the file.
        name: how messages name it.

    Raises:
        DataError: the file is damaged, or unpacks to more than `MAX_UNPACKED` bytes.
    """
    try:
        _check_directory(raw)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _read(archive)
    except _TooLargeError as error:
        raise DataError(
            f"the document {name!r} unpacks to more than {MAX_UNPACKED >> 20} MiB",
            "It is not an ordinary Word file. Save its text as .txt, and give that.",
        ) from error
    except (zipfile.BadZipFile, zlib.error, struct.error, expat.ExpatError, KeyError, ValueError, EOFError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"the document {name!r} is no Word file that can be read: {reason}", _DAMAGED) from error
    except RuntimeError as error:  # how zipfile says that a member needs a password
        raise DataError(f"the document {name!r} is encrypted: {error}", "Save it without a password.") from error


def _check_directory(raw: bytes) -> None:
    """Refuse an archive whose list of files alone would fill the memory."""
    end = raw.rfind(b"PK\x05\x06", -66000)
    if end < 0 or len(raw) < end + 22:
        raise zipfile.BadZipFile("it has no list of files")
    if struct.unpack_from("<L", raw, end + 12)[0] > _MAX_DIRECTORY:
        raise zipfile.BadZipFile("it lists too many files")


def _read(archive: zipfile.ZipFile) -> tuple[str, list[str]]:
    names = set(archive.namelist())
    budget = [MAX_UNPACKED]
    main = next((one for one in ("word/document.xml", "word/document2.xml", "word/document22.xml") if one in names), "")
    if not main:
        raise KeyError("word/document.xml")
    numbering = Numbering()
    for part, parser in (("word/styles.xml", numbering.styles), ("word/numbering.xml", numbering.lists)):
        if part in names:
            _parse(archive, part, parser(), budget)
    reader = _Reader(numbering)
    _parse(archive, main, reader, budget)
    reader.finish()
    lines, notes = reader.lines, []
    for part, what in (("word/footnotes.xml", "footnotes"), ("word/endnotes.xml", "endnotes")):
        if part in names:
            extra = _Reader(Numbering())
            _parse(archive, part, extra, budget)
            extra.finish()
            if extra.lines:
                lines += ["", *extra.lines]
                notes.append(f"the {what} stand at the end of the text")
    if reader.deleted:
        notes.append(f"left out {reader.deleted:,} characters that are tracked as deleted")
    return "\n".join(lines).strip("\n"), notes


def _parse(archive: zipfile.ZipFile, part: str, reader: Any, budget: list[int]) -> None:
    """Parse a part of the archive, block by block.

    Args:
        archive: the archive.
        part: the name of the part.
        reader: has `start(name, attributes)`, `end(name)` and `text(text)`.
        budget: how many bytes may still be unpacked, which is lowered.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{part} is nested more than {MAX_DEPTH} deep")
        reader.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(name)

    def refuse(*_: Any) -> None:
        raise ValueError(f"{part} declares a document type, which no Word file has")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, refuse
    for block in _blocks(archive, part, budget):
        parser.Parse(block, False)
    parser.Parse(b"", True)


def _blocks(archive: zipfile.ZipFile, part: str, budget: list[int]) -> Iterator[bytes]:
    if archive.getinfo(part).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{part} is compressed as no Word file is")
    with archive.open(part) as stream:
        while block := stream.read(_BLOCK):
            budget[0] -= len(block)
            if budget[0] < 0:
                raise _TooLargeError
            yield block


def word_name(name: str) -> str:
    """The name of an element or attribute of WordprocessingML, without its namespace. "" for any other."""
    for space in (_WORD, _STRICT):
        if name.startswith(space):
            return name[len(space) :]
    return ""


def attribute(attributes: dict[str, str], name: str) -> str:
    """An attribute of WordprocessingML. "" if it is not there."""
    return attributes.get(_WORD + name, attributes.get(_STRICT + name, ""))


class _Reader:
    """Gathers the lines of a part.

    Args:
        numbering: the numbers of paragraphs.
    """

    def __init__(self, numbering: Numbering) -> None:
        self.lines: list[str] = []
        self.deleted = 0
        self._numbering = numbering
        self._size = 0
        self._paragraphs: list[list[str]] = []  # of the open paragraphs: a text box has its own inside another
        self._cells: list[list[list[str]]] = []  # of the open tables: the cells of the row, each a list of lines
        self._skip = 0  # how many open elements hide their text
        self._in_text = self._in_deleted = False
        self._style = self._level = self._list = ""
        self._in_properties = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _COMPATIBILITY + "Fallback" or self._skip:
            self._skip += 1  # the same content again, for programs that do not know the newer form
            return
        word = word_name(name)
        if word == "p":
            self._paragraphs.append([])
            self._style = self._level = self._list = ""
        elif word in ("t", "delText"):
            self._in_text, self._in_deleted = word == "t", word == "delText"
        elif word in ("footnote", "endnote") and attribute(attributes, "type") in (
            "separator",
            "continuationSeparator",
        ):
            self._skip = 1
        elif word == "tbl":
            self._cells.append([])
        elif word == "tr" and self._cells:
            self._cells[-1] = []
        elif word == "tc" and self._cells:
            self._cells[-1].append([])
        elif name == _MATHS + "t":
            self._in_text = True
        elif word in ("pPr", "rPr", "tabs"):
            self._in_properties += 1
        elif word in _CHARACTERS and self._paragraphs and not self._in_properties:
            page = word == "br" and attribute(attributes, "type") in ("page", "column")
            self._paragraphs[-1].append("" if page else _CHARACTERS[word])
        elif self._in_properties and self._paragraphs:
            self._note_property(word, attribute(attributes, "val"))

    def _note_property(self, word: str, value: str) -> None:
        if word == "pStyle":
            self._style = value
        elif word == "ilvl":
            self._level = value
        elif word == "numId":
            self._list = value

    def end(self, name: str) -> None:
        if self._skip:
            self._skip -= 1
            return
        word = word_name(name)
        if word in ("t", "delText") or name == _MATHS + "t":
            self._in_text = self._in_deleted = False
        elif word in ("pPr", "rPr", "tabs"):
            self._in_properties -= 1
            if word == "pPr" and self._paragraphs:
                number = self._numbering.next(self._style, self._list, self._level)
                if number:
                    self._paragraphs[-1].append(f"{number} ")
        elif word == "p" and self._paragraphs:
            self._end_paragraph("".join(self._paragraphs.pop()))
        elif word == "tr" and self._cells:
            cells = [" ".join(filter(None, cell)) for cell in self._cells[-1]]
            self._cells[-1] = []
            if any(cells):
                self._write(" | ".join(" ".join(cell.split()) for cell in cells).strip(), len(self._cells) - 1)
        elif word == "tbl" and self._cells:
            self._cells.pop()

    def text(self, text: str) -> None:
        if self._in_deleted:
            self.deleted += len(text)
        elif self._in_text and not self._skip and self._paragraphs:
            self._size += len(text)
            if self._size > MAX_CHARACTERS:
                raise ValueError(f"it holds more than {MAX_CHARACTERS:,} characters")
            self._paragraphs[-1].append(text)

    def _end_paragraph(self, text: str) -> None:
        for line in text.translate(_SPACES).split("\n"):
            self._write(" ".join(line.split(" ")).strip(), len(self._cells))

    def _write(self, line: str, depth: int) -> None:
        """Write a line into the open cell of the table at a depth, or into the text."""
        if depth and self._cells[depth - 1]:
            self._cells[depth - 1][-1].append(line.replace("\t", " "))
        elif line or (self.lines and self.lines[-1]):
            self.lines.append(line)

    def finish(self) -> None:
        """Take the blank line at the end away."""
        while self.lines and not self.lines[-1]:
            self.lines.pop()
