"""Rows of Arrow files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palmette.errors import DataError


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow file or stream, as `datasets` saves them, without their nulls.

    Raises:
        DataError: it cannot be read.
    """
    for batch in arrow_batches(path):
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if value is not None}


def arrow_batches(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow file or stream, which stay on disk unless they are compressed.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as mapped:
            try:
                reader = pyarrow.ipc.open_file(mapped)
                batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            except pyarrow.ArrowInvalid:
                mapped.seek(0)
                batches = iter(pyarrow.ipc.open_stream(mapped))
            yield from batches
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{path}: no Arrow file that can be read: {first}", "Write it again.") from error
