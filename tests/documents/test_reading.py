"""Documents of every kind of text: what is read, what is said about it, and what is refused with a way out."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from palmette.documents import Place, read_document
from palmette.errors import DataError

FERRY = "The ferry leaves at 7:40.\nA ticket costs 5 crowns.\n"


def test_text_is_read_as_it_is_and_leads_back_to_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "ferry.txt"
    path.write_bytes(b"\xef\xbb\xbf" + FERRY.replace("\n", "\r\n").encode())
    document = read_document(path)
    assert (document.name, document.kind, document.text, document.notes) == (str(path), "text", FERRY, ())
    assert document.sha256 == hashlib.sha256(FERRY.encode()).hexdigest()
    assert str(document.place(document.text.index("5 crowns"))) == "line 2"
    assert document.place(0) == Place(1)
    assert document.places(0, len(FERRY)) == [Place(1), Place(2)]
    assert document.place(FERRY.index("\n")) == Place(1), "a line feed ends its own line"
    assert document.place(len(FERRY)) == Place(2), "the end belongs to the last character"
    for outside in (-1, len(FERRY) + 1):
        with pytest.raises(IndexError):
            document.place(outside)


def test_standard_input_is_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_document("-", stdin=io.BytesIO(FERRY.encode())).name == "standard input"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"<!doctype html><p>At 7:40.")))
    document = read_document("-")
    assert (document.kind, document.text) == ("html", "At 7:40.")
    with pytest.raises(DataError, match="the document 'standard input' is empty"):
        read_document("-", stdin=io.BytesIO(b" \n"))


# Texts in the encodings in which people's files are. The text is what it was before it was encoded.
ENCODED = {
    "windows-1252 English": ("The café charges £28 — payable in € within 30 days. It’s due.", "cp1252", "Windows-1252"),
    "a short line": ("Fee: £500 a month.\n", "cp1252", "Windows-1252"),
    "Latin-1 French": ("Le délai de préavis est de trente jours à compter de la réception.", "latin-1", "Windows-1252"),
    "German": ("Die Kündigungsfrist beträgt drei Monate. Für Schäden haftet der Anbieter.", "cp1252", "Windows-1252"),
    "Polish": ("Umowa wchodzi w życie z dniem podpisania. Okres wynosi trzydzieści dni.", "cp1250", "Windows-1250"),
    "Russian": ("Договор вступает в силу с момента подписания сторонами.", "cp1251", "Windows-1251"),
    "Russian KOI8": ("Договор вступает в силу с момента подписания сторонами.", "koi8-r", "KOI8-R"),
    "Japanese": ("この契約は署名の日から効力を生じる。通知期間は三十日とする。", "shift_jis", "Shift JIS"),
    "Chinese": ("本合同自签字之日起生效。通知期为三十天。", "gb18030", "GB 18030"),
    "UTF-16 with a mark": ("The ferry leaves at 7:40 — “sharp”.", "utf-16", "UTF-16"),
    "UTF-16 without a mark": ("The ferry leaves at 7:40.", "utf-16-le", "UTF-16"),
    "UTF-16 the other way": ("The ferry leaves at 7:40.", "utf-16-be", "UTF-16"),
    "UTF-32": ("The ferry leaves at 7:40.", "utf-32", "UTF-32"),
}


@pytest.mark.parametrize("case", ENCODED)
def test_encodings_are_recognised_and_said(tmp_path: Path, case: str) -> None:
    text, encoding, name = ENCODED[case]
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    document = read_document(path)
    assert document.text == text
    assert [note.startswith(f"read as {name}") for note in document.notes] == [True]


def test_a_web_page_states_its_encoding(tmp_path: Path) -> None:
    """Iso-8859-1 means Windows-1252 on the web, and a statement that cannot be true is passed over."""
    path = tmp_path / "page"
    page = "<html><head><meta charset={}></head><p>Știința costă 5 €</p></html>"
    path.write_bytes(page.format("iso-8859-16").encode("iso-8859-16"))
    assert read_document(path).text.startswith("Știința costă 5 €")
    path.write_bytes(b"<html><meta charset='iso-8859-1'><p>5 \x80 \x96 \x93now\x94</p></html>")
    assert read_document(path).text == "5 € – “now”"
    path.write_bytes(b"<html><meta charset=utf-8><p>caf\xe9</p></html>")
    assert read_document(path).text == "café"
    path.write_bytes("<!doctype html><p>Was ist das für ein Ort? 28\u00a0Tage</p>".encode("utf-16"))
    assert read_document(path).text == "Was ist das für ein Ort? 28 Tage"


def test_the_kind_is_recognised_by_content(tmp_path: Path) -> None:
    """A page that a server sent under another name is a page, and text about HTML is text."""
    for name, content, kind in [
        ("a.txt", "<!-- saved -->\n<!DOCTYPE html><p>x", "html"),
        ("download", '<?xml version="1.0"?>\n<html><body>x</body></html>', "html"),
        ("part.html", "<p>x</p>", "html"),
        ("about.txt", "The tag <html> begins a page.", "text"),
        ("plain.html", "no tags at all", "text"),
        ("about.md", "# A PDF begins with\n%PDF-1.7\n", "markdown"),
        ("notes.md", "# Notes\n\nx", "markdown"),
        ("log", "x", "text"),
    ]:
        (tmp_path / name).write_text(content)
        assert read_document(tmp_path / name).kind == kind, name


REFUSED = {
    "a rich text": (b"{\\rtf1 x}", "is a rich text"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0", r"is a picture \(PNG\)\. Recognise its text first, for instance with"),
    "compressed": (gzip.compress(b"x"), r"is compressed with gzip\. Decompress it first"),
    "old word": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"old format of Office .* Save it as \.docx"),
    "encrypted word": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(90) + "EncryptedPackage".encode("utf-16-le"),
        "is encrypted with a password. Open it in the program that made it, remove the password",
    ),
    "open document": (b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.text", "OpenDocument"),
    "an archive": (b"PK\x03\x04" + bytes(26) + b"a.txt", "is a zip archive. Unpack it"),
    "binary": (bytes(range(1, 256)) * 9 + b"\0", "is not text: it holds bytes of 0. Give a text, Markdown, HTML"),
    "controls": (b"\x01\x02abc\n" * 9, r"is not text: line 1 holds the control character '\\x01'"),
    "empty": (b"", "is empty"),
    "blank": (b" \r\n\t", "is empty"),
    "a page without text": (b"<html><body><script>alert(1)</script></body></html>", "holds no text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_document_is_refused_with_a_way_out(tmp_path: Path, case: str) -> None:
    raw, message = REFUSED[case]
    path = tmp_path / "document"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message) as caught:
        read_document(path)
    assert repr(str(path)) in str(caught.value)


def test_paths_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    (tmp_path / "contract.txt").write_text(FERRY)
    with pytest.raises(DataError, match=r"there is no document '.*contrct\.txt'\. Did you mean '.*contract\.txt'\?"):
        read_document(tmp_path / "contrct.txt")
    with pytest.raises(DataError, match="Its folder does not exist either"):
        read_document(tmp_path / "none" / "contract.txt")
    with pytest.raises(DataError, match=r"is a folder\. Give one of the files in it"):
        read_document(tmp_path)
    with pytest.raises(DataError, match="cannot read the document"):
        read_document("a\0b")


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without an end is read up to the limit only."""

    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:] = b"x" * len(buffer)
            self.taken += len(buffer)
            return len(buffer)

    monkeypatch.setattr("palmette.documents.reading.MAX_BYTES", 1 << 20)
    endless = Endless()
    with pytest.raises(DataError, match="has more than 1 MiB"):
        read_document("-", stdin=io.BufferedReader(endless))
    assert endless.taken < 1 << 22
    monkeypatch.setattr("palmette.documents.reading.MAX_CHARACTERS", 10)
    with pytest.raises(DataError, match=r"has 25 characters, more than 10\. Split it"):
        read_document("-", stdin=io.BytesIO(FERRY[:25].encode()))


def test_reading_text_imports_no_other_reader(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FERRY)
    code = (
        "import sys; from palmette.documents import read_document; read_document(sys.argv[1])\n"
        "heavy = {'torch', 'numpy', 'pypdfium2', 'selectolax', 'lxml', 'openpyxl', 'pandas', 'pyarrow'}\n"
        "heavy.add('charset_normalizer')\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
