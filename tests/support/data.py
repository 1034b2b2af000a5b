"""Small data files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow


def squad_file(path: Path, **changes: Any) -> Path:
    """A small SQuAD v2 file of two documents; `changes` replace fields of the first question."""
    first = {
        "id": "q1",
        "question": "What is the tower built of?",
        "answers": [{"text": "granite", "answer_start": 13}],
        "is_impossible": False,
    }
    unanswerable = {"id": "q2", "question": "Who built it?", "answers": [], "is_impossible": True}
    third = {
        "id": "q3",
        "question": "When does the ferry leave?",
        "answers": [{"text": "7:40", "answer_start": 20}],
        "is_impossible": False,
    }
    paragraphs = [
        {"context": "The tower is granite, and white.", "qas": [{**first, **changes}, unanswerable]},
        {"context": "The ferry leaves at 7:40 from pier 3.", "qas": [third]},
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Harbour", "paragraphs": paragraphs}]}))
    return path


def arrow_file(path: Path, rows: Sequence[Mapping[str, Any]], *, stream: bool = True, batch: int = 5) -> str:
    """An Arrow stream, as `datasets` saves it, or an Arrow file, in batches that may cut documents. Its name."""
    table = pyarrow.Table.from_pylist(list(rows))
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return str(path)


def chat_file(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path
