"""Questions to judge: with known answers as always, and without, from rows and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmette.data.inputs import QuestionFile
from palmette.data.source import read_source
from palmette.data.unanswered import read_to_judge
from palmette.errors import DataError
from tests.support.data import arrow_file, squad_file

FERRY, TOWER = "The ferry leaves at 7:40.", "The tower is granite."


def lines(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_without_answers_are_grouped_by_document(tmp_path: Path) -> None:
    name = lines(
        tmp_path / "asked.jsonl",
        {"question": "When?", "context": FERRY},
        {"id": "of", "question": "Of what?", "context": TOWER},
        {"question": "Who?", "context": FERRY, "answers": None},
    )
    read = read_to_judge(name)
    found = [(one.text, [(asked.id, asked.text) for asked in one.questions]) for one in read.documents]
    assert found == [(FERRY, [("line-1", "When?"), ("line-3", "Who?")]), (TOWER, [("of", "Of what?")])]
    assert read.num_questions == 3
    assert len(read.sha256) == 64
    assert len(read_to_judge(name, limit_documents=1).documents) == 1


def test_rows_may_name_a_file_and_tables_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "ferry.txt").write_text(FERRY)
    (tmp_path / "asked.csv").write_text("document,question\nferry.txt,When?\nferry.txt,Where?\n")
    [document] = read_to_judge(str(tmp_path / "asked.csv")).documents
    assert (document.text.strip(), document.title, len(document.questions)) == (FERRY, "ferry.txt", 2)


def test_arrow_files_are_read_with_answers_and_without(tmp_path: Path) -> None:
    asked = [{"question": "When?", "context": FERRY}, {"question": "Of what?", "context": TOWER}]
    name = arrow_file(tmp_path / "asked.arrow", asked)
    found = [(one.text, [(asked.id, asked.text) for asked in one.questions]) for one in read_to_judge(name).documents]
    assert found == [(FERRY, [("row-1", "When?")]), (TOWER, [("row-2", "Of what?")])]
    answers = [[{"text": "7:40", "answer_start": 20}], []]
    known = [{**row, "answers": one} for row, one in zip(asked, answers, strict=True)]
    answered = arrow_file(tmp_path / "answered.arrow", known)
    assert read_to_judge(answered) == read_source(answered)
    assert QuestionFile(name).lines() == range(1, 3)
    with QuestionFile(name).open() as rows:
        assert [(row.line, row.question, row.context) for row in rows] == [(1, "When?", FERRY), (2, "Of what?", TOWER)]


def test_known_answers_are_read_and_checked_as_always(tmp_path: Path) -> None:
    data = str(squad_file(tmp_path / "data.json"))
    assert read_to_judge(data) == read_source(data)
    assert read_to_judge("builtin:test", limit_documents=2) == read_source("builtin:test", limit_documents=2)
    wrong = {"question": "When?", "context": FERRY, "answers": [{"text": "7:40", "answer_start": 1}]}
    with pytest.raises(DataError, match="at 1"):
        read_to_judge(lines(tmp_path / "wrong.jsonl", wrong))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no question"),
        ([{"question": "When?"}], r"asked\.jsonl: line 1 has no 'context'"),
        ([{"question": "", "context": FERRY}], "no text"),
        ([{"id": 1, "question": "When?", "context": FERRY}] * 2, "lines 1 and 2 have the same id, '1'"),
    ],
)
def test_bad_rows_are_one_line_with_the_way_out(tmp_path: Path, rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_to_judge(lines(tmp_path / "asked.jsonl", *rows))
    assert caught.value.way_out
