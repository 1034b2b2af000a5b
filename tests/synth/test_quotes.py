"""Rationales by rule: the right sentence is quoted, nothing before the verdict tells it, and the data can be read
back.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.endpoint.completion import Completion
from palmette.synth.quotes import ANSWERED, UNANSWERED, around, quote_rationales, sentences
from palmette.synth.rationales import judge, stands_in
from palmette.tasks.extractive_qa import training_answer
from tests.support.command import palmette
from tests.support.data import squad_file

FERRY = "The ferry leaves at 7:40 from pier 3. Mr. Low steers it; he\nis old! The captain's dog sleeps."


def rationale(question: str, *answers: str, text: str = FERRY) -> str:
    spans = tuple(Answer(answer, text.index(answer)) for answer in answers)
    (done,) = quote_rationales([Document("f", text, (Question("q", question, spans),))], max_words=99).documents
    assert done.questions[0].rationale is not None
    return done.questions[0].rationale


def test_an_answer_is_quoted_in_its_sentence() -> None:
    first, second = "The ferry leaves at 7:40 from pier 3.", "Mr. Low steers it; he is old!"
    assert rationale("When?", "7:40") == f'The document says: "{first}" This answers the question.'
    assert rationale("Who?", "Low") == f'The document says: "{second}" This answers the question.'
    assert rationale("What?", "3. Mr. Low") == f'The document says: "{first} {second}" This answers the question.'


def test_the_answer_that_training_learns_is_quoted() -> None:
    """7:40 is accepted twice, the dog once."""
    assert "7:40 from pier" in rationale("What?", "dog", "7:40", "7:40")


def test_where_there_is_no_answer_the_nearest_sentence_is_quoted() -> None:
    """ "captain" and "dog" stand in one sentence of three, "the" in two: a word weighs more where fewer sentences
    have it.
    """
    end = '" This does not answer the question, and nothing else in it does.'
    assert rationale("What does the dog of the captain eat?") == f"The document says: \"The captain's dog sleeps.{end}"
    assert rationale("Which pier is the oldest?") == f'The document says: "The ferry leaves at 7:40 from pier 3.{end}'
    assert (
        rationale("Why?") == f'The document says: "The ferry leaves at 7:40 from pier 3.{end}'
    )  # nothing shared: the first


def test_nothing_before_the_verdict_tells_it() -> None:
    assert ANSWERED.partition("{quote}")[0] == UNANSWERED.partition("{quote}")[0]
    same = rationale("When does the ferry leave?", "7:40"), rationale("Who paid for the ferry?")
    shared = [text.partition(" This ")[0] for text in same]
    assert shared[0] == shared[1]
    assert same[0] != same[1]


PARTED = {
    "Dr. J. R. Wu of St. Ives, i.e. Mr. Wu, left. He did": ["Dr. J. R. Wu of St. Ives, i.e. Mr. Wu, left.", "He did"],
    'He said "No." She left.': ['He said "No."', "She left."],
    "It cost 3.50 dollars (2.5 pounds). 1882 was later.": ["It cost 3.50 dollars (2.5 pounds).", "1882 was later."],
    "see p. and so on. ok": ["see p. and so on. ok"],
    "A heading\n\nA text.": ["A heading", "A text."],
    "Warum? \u00c4rger!": ["Warum?", "\u00c4rger!"],
    "  ": [],
}


@pytest.mark.parametrize("text", sorted(PARTED))
def test_sentences(text: str) -> None:
    assert [text[start:end] for start, end in sentences(text)] == PARTED[text]


def test_the_built_in_corpus_passes_what_a_teacher_has_to_pass() -> None:
    """Judged as a teacher's completions are; and every answer stands in its quotation, found by another road than
    its offset.
    """
    source = read_source("builtin:dev")
    done = quote_rationales(source.documents, max_words=80)
    assert quote_rationales(source.documents, max_words=80) == done
    assert done.num_kept == source.num_questions
    kinds = set()
    for document in done.documents:
        for question in document.questions:
            kinds.add(question.answerable)
            text, answer = question.rationale or "", training_answer(question) if question.answerable else "none"
            found = judge(Completion(f"{text}\nAnswer: {answer}", "stop"), document, question, max_words=80)
            assert (found.rationale, found.reason) == (text, ""), question.id
            assert not question.answerable or stands_in(answer, text.partition('"')[2].rpartition('"')[0])
    assert kinds == {True, False}


def test_an_answer_between_sentences_is_quoted_all_the_same() -> None:
    assert around(Answer("ab", 10), [(0, 9), (13, 20)]) == (10, 12)


def test_the_command_writes_what_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    assert palmette(monkeypatch, "synth", "quotes", data, "--out", out) == 0
    given, found = read_source(str(data)).documents, read_source(str(out)).documents
    assert [d.text for d in found] == [d.text for d in given]
    asked = [question for document in found for question in document.questions]
    assert len(asked) == 3
    assert all(question.rationale for question in asked)
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert (report["kept"], report["dropped"], report["teacher"]) == (3, {}, "quotes")
    capsys.readouterr()
    few = ("synth", "quotes", data, "--out", tmp_path / "few.json", "--max-words", 1)
    assert palmette(monkeypatch, *few) == 2
    assert "no rationale is fit" in capsys.readouterr().err
