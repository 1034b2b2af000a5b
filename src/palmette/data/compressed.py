"""Files as streams of bytes, compressed with gzip or Zstandard or not."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from palmette.errors import DataError, reason_of

COMPRESSED = (".gz", ".zst")


def inner_name(path: Path) -> Path:
    """The name of what a compressed file holds. Any other file keeps its name.

    >>> inner_name(Path("rows.jsonl.gz")), inner_name(Path("notes.txt"))
    (PosixPath('rows.jsonl'), PosixPath('notes.txt'))
    """
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if its name ends in .gz or .zst.

    Zstandard is read by pyarrow, since Python has it only from version 3.14 on.

    Raises:
        DataError: the file cannot be read, or is not compressed as its name says. Damage may show while it is read.
    """
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as raw:
            if suffix == ".gz":
                with gzip.open(raw) as stream:
                    yield cast("BinaryIO", stream)
            elif suffix == ".zst":
                import pyarrow

                with pyarrow.CompressedInputStream(raw, "zstd") as stream:
                    yield cast("BinaryIO", io.BufferedReader(stream))
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:  # gzip raises the last two where a file is cut off or damaged
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        way_out = "Compress it again, or give it uncompressed." if suffix in COMPRESSED else "Check its permissions."
        raise DataError(f"cannot read {path}: {reason}", way_out) from error
