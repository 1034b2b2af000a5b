"""What a job answers: files of questions of every kind, and documents with a list of questions."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas
import pytest

from palmette.data.inputs import (
    Documents,
    QuestionFile,
    SharedQuestion,
    check_questions,
    find_documents,
    question_file,
    read_questions,
)
from palmette.data.stream import Row
from palmette.errors import DataError

FERRY = "The ferry leaves at 7:40."


def rows(path: Path | str) -> list[Row]:
    with QuestionFile(str(path)).open() as found:
        return list(found)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx", "parquet"])
def test_tables_are_files_of_questions(tmp_path: Path, suffix: str) -> None:
    """Answers are not needed. A bad row is kept as its error, with the number that a spreadsheet gives it."""
    frame = pandas.DataFrame({"id": ["a", "b", None], "Question": ["When?", None, "Where?"], "Passage": [FERRY] * 3})
    path = tmp_path / f"a.{suffix}"
    if suffix == "xlsx":
        frame.to_excel(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    first, bad, last = rows(path)
    start = 1 if suffix == "parquet" else 2
    assert (first.line, first.id, first.question, first.context, first.error) == (start, "a", "When?", FERRY, "")
    assert (bad.line, bad.id) == (start + 1, "b")
    assert f"row {start + 1} has no 'question'. The first row names the columns" in bad.error
    assert (last.line, last.id, last.question) == (start + 2, None, "Where?")
    assert QuestionFile(str(path)).lines() == range(first.line, last.line + 1)


def test_rows_may_name_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ferry.html").write_text(f"<h1>Ferry</h1><p>{FERRY}")
    lines = [
        {"question": "When?", "document": "ferry.html"},
        {"question": "When?", "document": FERRY},
        {"question": "When?", "document": "none.pdf"},
        {"question": "When?", "file": "ferry.html", "context": "Noon."},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    named, plain, missing, given = rows(path)
    assert (named.document, named.context) == ("ferry.html", f"Ferry\n\n{FERRY}")
    assert named.extracted is not None
    assert named.about_document() == {"document": "ferry.html", "document_sha256": named.extracted.sha256}
    assert str(named.extracted.place(named.context.index("7:40"))) == "line 3"
    assert (plain.document, plain.context, plain.about_document()) == ("", FERRY, {})
    assert "line 3: there is no document" in missing.error
    assert missing.about_document() == {"document": "none.pdf", "document_sha256": None}
    assert (given.document, given.context) == ("", "Noon."), "a row with a context needs no file"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert [row.context for row in rows("-")][:2] == [named.context, FERRY], "names begin in the working folder"


def test_a_line_of_answers_must_come_from_the_same_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FERRY)
    documents = Documents((str(tmp_path / "a.txt"),), (SharedQuestion(None, "When?"),))
    with documents.open() as found:
        (row,) = found
    record = {"line": 1, "id": None, "question": "When?", **row.about_document()}
    assert row.disagreement(record) is None
    assert row.disagreement({**record, "document": "b.txt"}) == "document"
    assert row.disagreement({**record, "document_sha256": "0"}) == "document_sha256"


def test_every_question_is_put_to_every_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FERRY)
    (tmp_path / "b.txt").write_bytes(b"")
    names = (str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    documents = Documents(names, (SharedQuestion("when", "When?"), SharedQuestion(None, "Where?")))
    assert documents.lines() == range(1, 5)
    with documents.open() as found:
        all_rows = list(found)
    assert [(row.line, row.id, row.question, row.context) for row in all_rows] == [
        (1, "when", "When?", FERRY),
        (2, None, "Where?", FERRY),
        (3, "when", "When?", ""),
        (4, None, "Where?", ""),
    ]
    assert [bool(row.error) for row in all_rows] == [False, False, True, True]
    assert f"the document {names[1]!r} is empty" in all_rows[2].error


def test_documents_are_found_in_folders_and_by_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "b.txt",
        "a.PDF",
        "sub/c.docx",
        "sub/.hidden.txt",
        "~$c.docx",
        "logo.png",
        "answers.jsonl",
        ".git/x.md",
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    assert find_documents(["in"]) == (("in/a.PDF", "in/b.txt", "in/sub/c.docx"), 2)
    assert find_documents(["in/b.txt", "in", "in/logo.png"])[0] == (
        "in/b.txt",
        "in/a.PDF",
        "in/sub/c.docx",
        "in/logo.png",
    )
    assert find_documents(["in/**/*.docx"]) == (("in/sub/c.docx", "in/~$c.docx"), 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no document in empty\. Documents end in \.csv, \.docx"):
        find_documents(["empty"])
    with pytest.raises(DataError, match=r"no file matches '\*\.pdf'\. Check the pattern"):
        find_documents(["*.pdf"])
    with pytest.raises(DataError, match=r"there is no document 'in/c\.txt'\. Did you mean 'in/b\.txt'"):
        find_documents(["in/c.txt"])


def test_lists_of_questions(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("When does it leave?\n\n  Where from?  \n")
    assert read_questions(str(tmp_path / "q.txt")) == (
        SharedQuestion(None, "When does it leave?"),
        SharedQuestion(None, "Where from?"),
    )
    (tmp_path / "q.csv").write_text("id,question\n1,When?\n,Where?\n")
    assert read_questions(str(tmp_path / "q.csv")) == (SharedQuestion("1", "When?"), SharedQuestion(None, "Where?"))
    (tmp_path / "q.jsonl").write_text('{"question": "When?", "id": 7}\n{"question": "Where?"}\n')
    assert read_questions(str(tmp_path / "q.jsonl")) == (SharedQuestion(7, "When?"), SharedQuestion(None, "Where?"))


BAD = {
    "q.csv": ("id,question\n1,\n", "row 2 has no 'question' that is text"),
    "q.jsonl": ('{"text": "When?"}\n', "line 1 has no 'question' that is text. Give a text file"),
    "r.jsonl": ("[", "line 1 is not JSON"),
    "q.txt": ("When?\nWhen?\n", "the question 'When\\?' stands twice"),
    "e.csv": ("question\n", "holds no question"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_of_questions_are_refused(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_questions(str(tmp_path / name))


def test_questions_need_text() -> None:
    with pytest.raises(DataError, match="has no text"):
        check_questions([SharedQuestion(None, " ")], "the list")


def test_documents_without_a_question_are_refused(tmp_path: Path) -> None:
    for sources in (["a.pdf"], [str(tmp_path)], ["a.pdf", "b.pdf"]):
        with pytest.raises(DataError, match=r'To ask about documents, add --question "\.\.\." or --questions FILE'):
            question_file(sources)
    assert question_file(["a.csv"]).name == "a.csv"
    with pytest.raises(DataError, match=r"there is no file 'none\.csv'"):
        rows("none.csv")
