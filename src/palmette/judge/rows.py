"""Rows of the files that judges and benchmarks write, as they are."""

from __future__ import annotations

from typing import Any

from palmette.data.source import raw_rows
from palmette.errors import DataError


def read_rows(source: str, columns: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, a JSON list, a table or a hub data set.

    Their columns keep their names: an `instruction` is no message of a conversation here.

    Args:
        source: its name.
        columns: the columns that a row needs, for messages.

    Raises:
        DataError: there is no such source, or a line of it is no row.
    """
    found = []
    for row in raw_rows(source, default_split="train", columns=columns, example="tatsu-lab/alpaca_eval:eval")[1]:
        if isinstance(row, DataError):
            raise row
        found.append(row)
    return found
