"""What kind of document some bytes are: by their first bytes and their structure, and only then by their name."""

from __future__ import annotations

import re
from pathlib import PurePath

from palmette.errors import DataError

_HTML_START = re.compile(
    rb"\A\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_ANY_TAG = re.compile(rb"</?[a-zA-Z][\w-]*[\s/>]")
_HTML_NAMES = {".html", ".htm", ".xhtml"}
_MARKDOWN_NAMES = {".md", ".markdown", ".mdown", ".mkd"}
_TABLE_NAMES = {".csv", ".tsv", ".tab"}

_OCR = "Recognise its text first, for instance with ocrmypdf (pictures: img2pdf, then ocrmypdf), and give the result."
_SAVE = "Save it as .docx or PDF in the program that made it, and give that."
_UNPACK = "Unpack it, and give one of the files in it."
# How files begin that are no documents of ours, what they are, and the way out.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"{\\rtf", "a rich text (RTF) file", _SAVE),
    (b"%!PS", "a PostScript file", "Convert it with ps2pdf, and give the PDF."),
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)", _OCR),
    (b"\xff\xd8\xff", "a picture (JPEG)", _OCR),
    (b"GIF8", "a picture (GIF)", _OCR),
    (b"II*\0", "a picture (TIFF)", _OCR),
    (b"MM\0*", "a picture (TIFF)", _OCR),
    (b"\x1f\x8b", "compressed with gzip", "Decompress it first: gunzip."),
    (b"BZh", "compressed with bzip2", "Decompress it first: bunzip2."),
    (b"\xfd7zXZ\0", "compressed with xz", "Decompress it first: unxz."),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "Decompress it first: unzstd."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (
        b"PAR1",
        "a Parquet file",
        "It holds a table of data. Save the rows that matter as text, or give it as questions.",
    ),
    (b"SQLite format 3\0", "an SQLite database", "Export what matters as text or CSV."),
    (b"\x7fELF", "a program", "Give a document."),
    (b"MZ\x90\0", "a program", "Give a document."),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def recognise(raw: bytes, name: str) -> str:
    """The kind of a document: "text", "markdown", "html", "pdf", "docx", "xlsx" or "csv".

    Args:
        raw: its bytes.
        name: its name. The suffix decides only among kinds that begin alike.

    Raises:
        DataError: it is a kind of file that holds no text to read, with the way out for that kind.
    """
    if raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-") or (_is_pdf_name(name) and b"%PDF-" in raw[:1024]):
        return "pdf"
    if raw.startswith(b"PK\x03\x04"):
        return _kind_of_zip(raw, name)
    if raw.startswith(_OLE):
        raise _ole_error(raw, name)
    for start, what, way_out in _OTHERS:
        if raw.startswith(start):
            raise DataError(f"the document {name!r} is {what}", way_out)
    suffix, head = PurePath(name).suffix.lower(), _head(raw)
    if _HTML_START.match(head) or (suffix in _HTML_NAMES and _ANY_TAG.search(head)):
        return "html"
    if suffix in _MARKDOWN_NAMES:
        return "markdown"
    return "csv" if suffix in _TABLE_NAMES else "text"


def _is_pdf_name(name: str) -> bool:
    return PurePath(name).suffix.lower() == ".pdf"


def _head(raw: bytes) -> bytes:
    """The beginning of a text as UTF-8, without a byte order mark."""
    head = raw[:32768]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "ignore").encode("utf-8", "ignore")
    return head.removeprefix(b"\xef\xbb\xbf")


def _kind_of_zip(raw: bytes, name: str) -> str:
    """The kind of an office document, by the names of the files in its archive, which stand in it uncompressed."""
    if b"word/document" in raw:
        return "docx"
    if b"xl/workbook" in raw:
        return "xlsx"
    start = raw[:200]
    if b"mimetypeapplication/vnd.oasis.opendocument" in start:
        raise DataError(f"the document {name!r} is an OpenDocument file", _SAVE)
    if b"mimetypeapplication/epub+zip" in start:
        raise DataError(f"the document {name!r} is an e-book (EPUB)", "Convert it to HTML or PDF, and give that.")
    if b"ppt/presentation" in raw:
        raise DataError(f"the document {name!r} is a presentation", "Save it as PDF, and give that.")
    raise DataError(f"the document {name!r} is a zip archive", _UNPACK)


def _ole_error(raw: bytes, name: str) -> DataError:
    if "EncryptedPackage".encode("utf-16-le") in raw:
        return DataError(
            f"the document {name!r} is encrypted with a password",
            "Open it in the program that made it, remove the password, and save it again.",
        )
    return DataError(f"the document {name!r} is in an old format of Office (.doc, .xls or .ppt)", _SAVE)
