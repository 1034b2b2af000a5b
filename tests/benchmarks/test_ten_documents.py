"""The benchmark of ten real documents: its questions, what counts as right, and how it asks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from palmette.decode.prediction import Candidate, Prediction
from tests.support.scripts import script


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script("benchmarks/ten_documents.py")


def test_five_questions_for_each_of_ten_documents(bench: ModuleType) -> None:
    documents = yaml.safe_load(bench.QUESTIONS.read_text(encoding="utf-8"))
    assert [len(document["questions"]) for document in documents] == [5] * 10
    questions = [question for document in documents for question in document["questions"]]
    assert sum(bool(question["answers"]) for question in questions) == 35
    assert all(isinstance(answer, str) for question in questions for answer in question["answers"])
    assert len({(d["file"], q["question"]) for d in documents for q in d["questions"]}) == 50
    assert all(len(bytes.fromhex(document["sha256"])) == 32 for document in documents)


@pytest.mark.parametrize(
    ("answer", "refusal", "known", "kind"),
    [
        ("the Client", "", ("Client",), "right"),
        ("Within 28 days", "", ("within 28 days", "28 days"), "right"),
        ("are payable within 28 days.", "", ("28 days",), "contains"),
        ("128 days", "", ("28 days",), "wrong"),
        ("28", "", ("28 days",), "wrong"),
        ("", "absent", ("28 days",), "called absent"),
        ("", "unsure", ("28 days",), "unsure"),
        ("", "absent", (), "rightly refused"),
        ("", "unsure", (), "rightly refused"),
        ("28 days", "", (), "wrongly answered"),
    ],
)
def test_what_an_answer_is_worth(
    bench: ModuleType, answer: str, refusal: str, known: tuple[str, ...], kind: str
) -> None:
    outcome = bench.Outcome("contract", "When?", known, answer, refusal, None, None, ())
    assert outcome.kind == kind
    assert kind in bench.COLUMNS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A document and a question about it."""
    (tmp_path / "in" / "it").mkdir(parents=True)
    (tmp_path / "in" / "it" / "ferry.txt").write_bytes(b"The ferry leaves\nat 7:40.")
    entry = {
        "title": "ferry",
        "file": "ferry.txt",
        "source": "example.org",
        "sha256": hashlib.sha256(b"The ferry leaves\nat 7:40.").hexdigest(),
        "questions": [{"question": "When?", "answers": ["leaves at 7:40"]}, {"question": "Who?", "answers": []}],
    }
    (tmp_path / "questions.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    return tmp_path


def test_documents_are_found_below_the_folders(bench: ModuleType, folder: Path) -> None:
    (asked,) = bench.read_questions(folder / "questions.yaml", [folder / "in"])
    assert asked.text == "The ferry leaves\nat 7:40."
    assert asked.questions == (("When?", ("leaves at 7:40",)), ("Who?", ()))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is in none of the folders"), (b"The ferry leaves at 8:40.", "has sha256")],
)
def test_another_document_is_refused(bench: ModuleType, folder: Path, content: bytes | None, message: str) -> None:
    document = folder / "in" / "it" / "ferry.txt"
    if content is None:
        document.unlink()
    else:
        document.write_bytes(content)
    with pytest.raises(SystemExit, match=f"{message}.*example.org"):
        list(bench.read_questions(folder / "questions.yaml", [folder / "in"]))


def test_a_known_answer_stands_in_its_document(bench: ModuleType, folder: Path) -> None:
    questions = folder / "questions.yaml"
    questions.write_text(questions.read_text(encoding="utf-8").replace("7:40", "9:15"), encoding="utf-8")
    with pytest.raises(SystemExit, match="does not hold the known answer 'leaves at 9:15'"):
        list(bench.read_questions(questions, [folder / "in"]))


@pytest.fixture
def asked(bench: ModuleType) -> Any:
    questions = (("When?", ("7:40",)), ("What?", ("ferry",)), ("Who?", ()))
    return bench.Asked("ferry", "The ferry leaves at 7:40.", questions)


def candidate(text: str) -> Candidate:
    return Candidate(text, 0, len(text), 0.1)


PREDICTIONS = (
    Prediction("7:40"),
    Prediction("", "unsure", candidates=(candidate("at"), candidate("The ferry"))),
    Prediction("The ferry"),
)


def test_a_session_is_asked_where_there_is_one(bench: ModuleType, asked: Any) -> None:
    session = SimpleNamespace(ask=lambda questions: PREDICTIONS, unread="Read 1 of 9 parts.")
    newer = SimpleNamespace(open_document=lambda text, name, read_all: session)
    older = SimpleNamespace(answer=lambda text, questions: PREDICTIONS)
    (result,) = bench.measure(newer, [asked], read_all=False)
    (same,) = bench.measure(older, [asked], read_all=False)
    assert (result.unread, same.unread) == ("Read 1 of 9 parts.", "")
    assert result.outcomes == same.outcomes
    assert [outcome.kind for outcome in result.outcomes] == ["right", "unsure", "wrongly answered"]


def test_the_report_counts(bench: ModuleType, asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: a right answer, one unsure with the answer second, and an answer where there is none. EM is 1 of 3, F1
    too, and the cost is 0 + 1 + 2. The first document counts twice, the last stands for the contract.
    """
    reader = SimpleNamespace(answer=lambda text, questions: PREDICTIONS)
    bench.report(bench.measure(reader, [asked] * 3, read_all=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| ferry | 0 | 1 | 0 | 0 | 1 | 0 | 0 | 1 | ")
    assert lines[5].startswith("| the ten documents together | 0 | 2 | 0 | 0 | 2 | 0 | 0 | 2 | ")
    scores = "EM 33, F1 33, cost {}. {} answers are right or contain the answer. {} that were called unsure and 0 of 0"
    assert lines[7].startswith("The ten documents. 6 questions: " + scores.format(6, "2 of 4", "2 of 2"))
    assert lines[8].startswith("The example contract. 3 questions: " + scores.format(3, "1 of 2", "1 of 1"))


def test_written_answers_meet_the_known_answers_of_today(bench: ModuleType, asked: Any, tmp_path: Path) -> None:
    reader = SimpleNamespace(answer=lambda text, questions: PREDICTIONS)
    (result,) = bench.measure(reader, [asked], read_all=False)
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"documents": [dataclasses.asdict(result)]}), encoding="utf-8")
    assert list(bench.written(file, [asked])) == [result]
    today = dataclasses.replace(asked, questions=(("When?", ("7:45",)), *asked.questions[1:]))
    (other,) = bench.written(file, [today])
    assert [outcome.kind for outcome in other.outcomes] == ["wrong", "unsure", "wrongly answered"]
    with pytest.raises(SystemExit, match=r"an answer to 'When\?' about ferry, which is not asked now"):
        list(bench.written(file, [dataclasses.replace(asked, questions=asked.questions[1:])]))
