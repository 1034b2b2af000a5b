"""Questions that people are to judge, whether or not somebody knows their answers.

Data with known answers are read as always. Rows without any (JSON Lines, a table or Arrow) are read like those of
`palmette predict`, and grouped by document.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from palmette.data.arrow import arrow_rows
from palmette.data.inputs import QuestionFile
from palmette.data.records import DataSet, Document, Question
from palmette.data.rows import parse_json_line
from palmette.data.source import read_source
from palmette.data.stream import INPUT, Row, open_lines
from palmette.data.tables import is_table, open_table, question_rows, table_hash
from palmette.errors import DataError
from palmette.files import expand

_FORMAT = "Each row needs 'question' and 'context' (text)."
_ANSWERED = ("answers", "is_impossible")


def read_to_judge(source: str, *, limit_documents: int | None = None) -> DataSet:
    """Read questions with or without known answers.

    Args:
        source: a name as for `palmette.read_data`, or a .jsonl, .csv, .tsv, .xlsx, .parquet or .arrow file of
            questions without answers.
        limit_documents: read only so many documents, from the start.

    Raises:
        DataError: there is no such source, a row is bad, a question id occurs twice, or there is no question.
    """
    path = expand(source)
    in_rows = path.is_file() and (is_table(path) or path.suffix in (".jsonl", ".arrow"))
    if not in_rows or _answered(path, source):
        return read_source(source, default_split="validation", limit_documents=limit_documents)
    with QuestionFile(source).open() as rows:
        documents = _grouped(rows, source, "line" if path.suffix == ".jsonl" else "row")[:limit_documents]
    if not documents:
        raise DataError(f"{source} holds no question", _FORMAT)
    return DataSet(source, tuple(documents), table_hash(path))


def _answered(path: Path, source: str) -> bool:
    """Whether the rows of a file have known answers, as its columns or its first row say."""
    if is_table(path):
        try:
            question_rows(open_table(path, source), source, labelled=True)
        except DataError:
            return False
        return True
    if path.suffix == ".arrow":
        record = next(arrow_rows(path), {})
    else:
        with open_lines(source) as lines:
            first = next((line for line in lines if line.strip()), b"{}")
        record = parse_json_line(first.decode("utf-8", "replace"), f"{source}: line 1", _FORMAT)
    return any(record.get(name) is not None for name in _ANSWERED)


def _grouped(rows: Iterable[Row], source: str, unit: str) -> list[Document]:
    """Documents from rows, in order of appearance. A question without an id is called by its row or line."""
    groups: dict[tuple[str, str], list[Question]] = {}
    lines: dict[str, int] = {}
    for row in rows:
        if row.error:
            problem, _, way_out = row.error.partition(". ")
            raise DataError(problem.replace(INPUT, source, 1), way_out or _FORMAT)
        name = str(row.id) if row.id is not None else f"{unit}-{row.line}"
        if name in lines:
            raise DataError(
                f"{source}: {unit}s {lines[name]} and {row.line} have the same id, {name!r}", "Give each its own."
            )
        lines[name] = row.line
        groups.setdefault((row.document, row.context), []).append(Question(name, row.question))
    return [
        Document(f"{name or 'document'}/{index}", text, tuple(questions), name)
        for index, ((name, text), questions) in enumerate(groups.items())
    ]
