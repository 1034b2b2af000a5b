"""Bytes that are no UTF-8, and what they are instead."""

from __future__ import annotations

from palmette.errors import DataError

# How files begin that hold no text, from the specifications of their formats.
_BINARY = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"PK\x03\x04": "a zip archive",
    b"SQLite format 3\x00": "an SQLite database",
}


def not_utf8(raw: bytes, problem: str) -> DataError:
    """The error of bytes that are not UTF-8, with a way out that suits what they are.

    Args:
        raw: the bytes, from the beginning of the file or of the line.
        problem: what is wrong, and where.
    """
    kind = next((kind for magic, kind in _BINARY.items() if raw.startswith(magic)), None)
    if kind is None:
        return DataError(problem, "Save the file as UTF-8.")
    if kind == "a Parquet file":
        return DataError(f"{problem}, since it is {kind}", "Give it a name that ends in .parquet.")
    how = "Decompress it" if kind.startswith(("compressed", "a zip")) else "Convert it to JSON Lines"
    tool = ", for instance with to_json of the datasets package" if how.startswith("Convert") else ""
    return DataError(f"{problem}, since it is {kind}", f"{how} first{tool}.")
