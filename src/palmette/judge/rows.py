"""Rows of the files that judges and benchmarks write."""

from __future__ import annotations

import json
from typing import Any

from palmette.data.source import open_rows
from palmette.errors import DataError, reason_of
from palmette.files import expand


def read_rows(source: str, columns: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, a JSON list, a table or a hub data set.

    Args:
        source: its name.
        columns: the columns that a row needs, for messages.

    Raises:
        DataError: there is no such source, or it holds no rows.
    """
    path = expand(source)
    if path.suffix == ".json":
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {source}: {reason_of(error)}", columns) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{source} is no list of rows", columns)
        return rows
    found = []
    for row in open_rows(source, default_split="train", columns=columns, example="tatsu-lab/alpaca_eval")[1]:
        if isinstance(row, DataError):
            raise row
        found.append(row)
    return found
