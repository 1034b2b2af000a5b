"""Files of JSON: their text, and whether it is a list of rows or SQuAD v2."""

from __future__ import annotations

import hashlib
from pathlib import Path

from palmette.data.compressed import open_bytes
from palmette.data.not_text import not_utf8

HEAD = 100_000  # bytes or characters in which SQuAD v2 shows itself


def read_text(path: Path, source: str) -> tuple[str, str]:
    """The hash of a file's bytes, and its text.

    Args:
        path: the file, which may be compressed.
        source: how messages name it.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    with open_bytes(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(raw, f"{source}: byte {error.start} is not UTF-8") from error
    return hashlib.sha256(raw).hexdigest(), text


def is_json_list(path: Path) -> bool:
    """Whether a file is there and begins as a JSON list does."""
    if not path.is_file():
        return False
    with open_bytes(path) as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def is_squad(path: Path) -> bool:
    """Whether a JSON file that is there begins as SQuAD v2 does."""
    with open_bytes(path) as stream:
        return b'"paragraphs"' in stream.read(HEAD)
