"""Text from bytes whose encoding nobody states."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from palmette.documents.languages import single_byte_encoding

# The longer marks come first, since that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1252": "Windows-1252 (Western European)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "cp1257": "Windows-1257 (Baltic)",
    "iso8859_2": "ISO 8859-2 (Central European)",
    "iso8859_5": "ISO 8859-5 (Cyrillic)",
    "iso8859_7": "ISO 8859-7 (Greek)",
    "iso8859_15": "ISO 8859-15 (Western European)",
    "koi8_r": "KOI8-R (Cyrillic)",
    "koi8_u": "KOI8-U (Cyrillic)",
    "cp932": "Shift JIS (Japanese)",
    "euc_jp": "EUC-JP (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "euc_kr": "EUC-KR (Korean)",
}
# Those that letters alone do not tell apart. Among all of Python's encodings, short texts are taken for rare ones.
_OF_SEVERAL_BYTES = ["cp932", "euc_jp", "gb18030", "big5", "euc_kr"]
_SAMPLE = 1 << 16
_BLOCK = 1 << 20
_BETWEEN_LETTERS = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f](?=[A-Za-z])")
# What web pages call by the name on the left is read as the one on the right by every browser (WHATWG Encoding).
_WEB_NAMES = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "gb2312": "gb18030",
}
_STATED = re.compile(
    rb"""(?:<meta[^>]{0,200}?charset|<\?xml[^>]{0,100}?encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I
)


class NotTextError(ValueError):
    """The bytes are not text in any encoding that is tried."""


def decode(raw: bytes, *, web: bool = False) -> tuple[str, str]:
    """The text that bytes hold, without a byte order mark.

    A byte order mark decides. Without one, UTF-8 is tried first, then what a web page states, then what the letters of
    languages tell of single-byte encodings. Other encodings are told apart by charset-normalizer.

    Args:
        raw: the bytes.
        web: whether a web page may state its encoding.

    Returns:
        The text, and the name of the encoding, "" for UTF-8.

    Raises:
        NotTextError: the bytes are not text.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _decoded(raw[len(mark) :], name), _NAMES.get(name, "")
    wide = _wide(raw)
    if wide:
        return _decoded(raw, wide), _NAMES[wide]
    if b"\0" in raw:
        raise NotTextError("it holds bytes of 0")
    try:
        return raw.decode("utf-8"), ""
    except UnicodeDecodeError:
        pass
    stated = _stated(raw) if web else ""
    name = stated or _guess(raw)
    return _decoded(raw, name), _NAMES.get(name, name)


def open_text(path: Path) -> TextIO:
    """A file of text, which may be larger than memory, opened for reading without its byte order mark.

    Its encoding is told as `decode` does, by the lines that are not ASCII, of which 1 MiB is looked at. Line ends stay
    as they are.

    Args:
        path: the file.

    Raises:
        NotTextError: the bytes are not text.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return path.open(encoding=_encoding(stream), newline="")


def _encoding(stream: BinaryIO) -> str:
    head = stream.read(_SAMPLE)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return "utf-8-sig" if name == "utf-8" else name.removesuffix("-le").removesuffix("-be")
    wide = _wide(head)
    if wide:
        return wide
    stream.seek(0)
    decoder, is_utf8 = codecs.getincrementaldecoder("utf-8")(), True
    for block in _blocks(stream):
        if b"\0" in block:
            raise NotTextError("it holds bytes of 0")
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            is_utf8 = False
    if is_utf8:
        return "utf-8"
    stream.seek(0)
    sample = bytearray()
    for line in stream:
        if not line.isascii():
            sample += line
            if len(sample) >= _BLOCK:
                break
    return _guess(bytes(sample))


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The blocks of a file, and an empty one for its end."""
    while True:
        block = stream.read(_BLOCK)
        yield block
        if not block:
            return


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode(name)
    except (UnicodeDecodeError, LookupError) as error:
        raise NotTextError(f"it is not valid {_NAMES.get(name, name)}") from error


def _wide(raw: bytes) -> str:
    """UTF-16 without a mark: every other byte of ordinary text is 0. "" if it is not."""
    sample = raw[: _SAMPLE & ~1]
    half = len(sample) // 2
    if half < 2 or len(raw) % 2:
        return ""
    even, odd = sample[::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.4 and even < 0.01:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.01 else ""


def _stated(raw: bytes) -> str:
    """The encoding that a web page states, if it fits. "" if it does not."""
    found = _STATED.search(raw[:2048])
    if not found:
        return ""
    label = found[1].decode("ascii").lower()
    name = _WEB_NAMES.get(label, label)
    try:
        raw.decode(name)
        return codecs.lookup(name).name.replace("-", "_") if name not in _NAMES else name
    except (UnicodeDecodeError, LookupError, ValueError):
        return ""


def _guess(raw: bytes) -> str:
    """The likeliest encoding: of one byte a character by the letters that languages use, else of several bytes."""
    single = single_byte_encoding(raw)
    if single is not None:
        return single
    first = next(index for index, byte in enumerate(raw) if byte > 127)
    start = max(first - _SAMPLE // 4, 0)

    from charset_normalizer import from_bytes

    # A sample may begin or end inside a character of several bytes. Then the whole text is looked at.
    for part in (raw[start : start + _SAMPLE], raw):
        best = from_bytes(part, cp_isolation=_OF_SEVERAL_BYTES).best()
        if best is not None and not _is_between_letters(str(best)):
            return str(best.encoding)
    raise NotTextError("its encoding cannot be told")


def _is_between_letters(text: str) -> bool:
    """Whether characters beyond ASCII stand alone inside words, which becomes of Latin text in a wrong encoding."""
    num_beyond = sum(character > "\x7f" for character in text)
    return len(_BETWEEN_LETTERS.findall(text)) > 0.1 * num_beyond
