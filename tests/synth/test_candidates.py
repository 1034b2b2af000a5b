"""A model's own likeliest wrong answers, and the commands that write questions to refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from palmette.cli.main import app
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.decode.span_decoder import Effort, SpanDecoder
from palmette.synth.candidates import with_candidates
from tests.support.span_decoding import LEARNED, TEXT, fitted

ASKED = Document(
    "d",
    TEXT,
    (
        Question("built", "What is the tower built of?", (Answer("granite", 13),)),
        Question("left", "When does the ferry leave?", (Answer("leaves at 7:40", 43),), (Answer("white", 26),)),
        Question("none", "Who?"),
    ),
)


def test_the_likeliest_spans_without_a_word_of_the_answer_are_wrong(tokenizer: Any) -> None:
    decoder = SpanDecoder(
        fitted(tokenizer), tokenizer, effort=Effort(max_words=4, max_passes=None, tokens_per_pass=None)
    )
    spans = {name: [text for text, *_ in posterior.spans] for name, posterior in decoder.posteriors([ASKED])}
    done: list[int] = []
    (found,) = with_candidates(decoder, [ASKED], most=3, watch=done.append)
    built, left, none = ([answer.text for answer in question.plausible] for question in found.questions)
    assert built == [text for text in spans["built"] if "granite" not in text][:3]
    words = {"leaves", "at", "7:40", "40", "7"}
    assert left[:3] == [text for text in spans["left"] if not words & set(text.strip(".,").split())][:3]
    assert left[-1] == "white"
    assert none == spans["none"][:3]
    assert done == [3]
    assert all(TEXT[a.start : a.start + len(a.text)] == a.text for q in found.questions for a in q.plausible)
    assert [replace(q, plausible=()) for q in found.questions] == [replace(q, plausible=()) for q in ASKED.questions]
    assert set(LEARNED) >= {question.text for question in ASKED.questions}


def test_negatives_are_written_to_be_looked_at(tmp_path: Path) -> None:
    out = tmp_path / "more.json"
    result = CliRunner().invoke(app, ["synth", "negatives", "builtin:dev", "--out", str(out), "--siblings", "1"])
    assert result.exit_code == 0, result.output
    plain, more = read_source("builtin:dev"), read_source(str(out))
    known = {question.id for document in plain.documents for question in document.questions}
    added = [q for document in more.documents for q in document.questions if q.id not in known]
    assert added
    assert not any(question.answers for question in added)
    assert f"{more.num_questions:,} questions in" in result.output
    assert json.loads(out.read_text())["version"] == "v2.0"
    again = CliRunner().invoke(app, ["synth", "negatives", "builtin:dev", "--out", str(out)])
    assert again.exit_code == 1
