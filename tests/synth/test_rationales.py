"""Rationales from a teacher: which are kept, which are dropped and why, and that the data can be read back."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import RequestError
from palmette.synth.rationales import REASONS, judge, teacher_messages
from tests.support.chat_server import Act, ChatServer, fails, says
from tests.support.command import palmette
from tests.support.data import squad_file

FERRY = "The ferry leaves at 7:40 from pier 3. The captain's dog sleeps."
WHEN = Question("when", "When does it leave?", (Answer("at 7:40", 17), Answer("7:40", 20), Answer("7:40", 20)))
WHO = Question("who", "Who steers it?", (), (Answer("captain", 42),))


def verdict(text: str, question: Question = WHEN, **changes: Any) -> tuple[str, str]:
    found = judge(
        Completion(text, **{"finish_reason": "stop", **changes}), Document("f", FERRY, ()), question, max_words=20
    )
    assert found.reason in ("", *REASONS)
    assert bool(found.rationale) != bool(found.reason)
    return found.rationale, found.reason


KEPT = {
    "plain": ("It says the ferry leaves at 7:40.\nAnswer: 7:40", WHEN, "It says the ferry leaves at 7:40."),
    "another accepted answer": ("It leaves at 7:40.\nAnswer: at 7:40", WHEN, "It leaves at 7:40."),
    "several lines": ("It leaves\nat 7:40.\n\nAnswer: 7:40", WHEN, "It leaves\nat 7:40."),
    "markdown": ("At **7:40** it leaves.\n\n**Answer:** 7:40", WHEN, "At **7:40** it leaves."),
    "quoted": ('At 7:40 it leaves.\nFinal answer: "7:40".', WHEN, "At 7:40 it leaves."),
    "thought aloud": ("<think>Hm.\nAnswer: no</think>\nAt 7:40 it leaves.\nAnswer: 7:40", WHEN, "At 7:40 it leaves."),
    "none": ("It names no one who steers.\nAnswer: none", WHO, "It names no one who steers."),
    "None.": (
        "A captain has a dog; who steers is left out.\nAnswer: None.",
        WHO,
        "A captain has a dog; who steers is left out.",
    ),
    "no such claim": ("The answer is not stated.\nAnswer: none", WHO, "The answer is not stated."),
}


@pytest.mark.parametrize("case", sorted(KEPT))
def test_good_rationales_are_kept_without_their_conclusion(case: str) -> None:
    text, question, rationale = KEPT[case]
    assert verdict(text, question) == (rationale, "")


DROPPED = {
    "cut": ("It leaves at 7:40.\nAnswer: 7:40", WHEN, {"finish_reason": "length"}, "cut off"),
    "empty": (" \n", WHEN, {}, "refused"),
    "only thoughts": ("<think>It leaves at 7:40.</think>", WHEN, {}, "refused"),
    "filtered": ("At 7:40.\nAnswer: 7:40", WHEN, {"finish_reason": "content_filter"}, "refused"),
    "marked": ("At 7:40.\nAnswer: 7:40", WHEN, {"refusal": "I must not."}, "refused"),
    "sorry": ("I\u2019m sorry, it leaves at 7:40.\nAnswer: 7:40", WHEN, {}, "refused"),
    "cannot": ("I cannot help with 7:40.\nAnswer: 7:40", WHEN, {}, "refused"),
    "no last line": ("It leaves at 7:40.", WHEN, {}, "no conclusion"),
    "nothing before it": ("Answer: 7:40", WHEN, {}, "no conclusion"),
    "other answer": ("It leaves at 7:40 from pier 3.\nAnswer: pier 3", WHEN, {}, "contradicts"),
    "none for an answer": ("It leaves at 7:40.\nAnswer: none", WHEN, {}, "contradicts"),
    "an answer for none": ("The captain steers.\nAnswer: captain", WHO, {}, "contradicts"),
    "unmentioned": ("It leaves in the morning.\nAnswer: 7:40", WHEN, {}, "answer not mentioned"),
    "part of a word": ("It leaves at 17:40.\nAnswer: 7:40", WHEN, {}, "answer not mentioned"),
    "claims a span": ("So the answer would be the ferry.\nAnswer: none", WHO, {}, "names an answer"),
    "claims a plausible one": ("The right answer: surely a captain.\nAnswer: none", WHO, {}, "names an answer"),
    "tells": ("The given answer 7:40 stands there.\nAnswer: 7:40", WHEN, {}, "gives itself away"),
    "told": ("I was told it is at 7:40.\nAnswer: 7:40", WHEN, {}, "gives itself away"),
    "long": ("It leaves at 7:40. " * 6 + "\nAnswer: 7:40", WHEN, {}, "too long"),
}


@pytest.mark.parametrize("case", sorted(DROPPED))
def test_bad_rationales_are_dropped_with_their_reason(case: str) -> None:
    text, question, changes, reason = DROPPED[case]
    assert verdict(text, question, **changes) == ("", reason)


def test_every_reason_is_tested() -> None:
    assert {reason for *_, reason in DROPPED.values()} | {"failed"} == set(REASONS)
    found = judge(RequestError("too long", "Cut it."), Document("f", FERRY, ()), WHEN, max_words=20)
    assert (found.rationale, found.reason, found.completion) == ("", "failed", "too long")


def test_the_teacher_is_told_what_training_learns() -> None:
    """7:40 is the most frequent of the accepted answers."""
    told = teacher_messages(Document("f", FERRY, ()), WHEN)[-1]["content"]
    assert told.endswith("\nAnswer: 7:40")
    assert FERRY in told
    assert teacher_messages(Document("f", FERRY, ()), WHO)[-1]["content"].endswith("\nAnswer: none")


# ---- the command, on the three questions of `squad_file`: q1 granite, q2 has no answer, q3 7:40


def teach(request: dict[str, Any]) -> Act:
    prompt = request["messages"][-1]["content"]
    if "built of" in prompt:
        return says("The text says the tower is granite.\nAnswer: granite")
    if "Who built" in prompt:
        return says("No builder is named.\nAnswer: none")
    return says("I'm sorry, I can't help with that.")


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    with ChatServer(teach) as started:
        yield started


def synth(teacher: ChatServer, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    first = ("synth", "rationales", data, "--out", out, "--endpoint", teacher.url, "--model-name", "m")
    return palmette(monkeypatch, *first, *words)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_rationales_are_written_and_read_back(
    suffix: str,
    teacher: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = squad_file(tmp_path / "a.json"), tmp_path / f"new/out{suffix}"
    assert synth(teacher, data, out, monkeypatch) == 0
    told = capsys.readouterr()
    assert ["kept", "2", "66.7"] in [line.replace("│", " ").split() for line in told.out.splitlines()]
    assert "dropped: refused" in told.out
    found = read_source(str(out))
    given = read_source(str(data)).documents[0]
    assert [document.text for document in found.documents] == [given.text]
    assert [question.rationale for question in found.documents[0].questions] == [
        "The text says the tower is granite.",
        "No builder is named.",
    ]
    assert [question.answers for question in found.documents[0].questions] == [q.answers for q in given.questions]
    report = json.loads(out.with_name(out.name + ".report.json").read_text())
    assert (report["kept"], report["dropped"], report["used"]["asked"]) == (2, {"refused": 1}, 3)
    assert report["dropped_questions"] == [
        {"id": "q3", "reason": "refused", "completion": "I'm sorry, I can't help with that."}
    ]
    assert (report["used"]["prompt_tokens"], report["used"]["completion_tokens"]) == (33, 21)
    assert synth(teacher, data, out, monkeypatch) == 2
    assert "exists already" in capsys.readouterr().err
    assert len(teacher.asked) == 3


def test_questions_may_stay_without_a_rationale(
    teacher: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    assert synth(teacher, squad_file(tmp_path / "a.json"), out, monkeypatch, "--keep-all") == 0
    found = [question for document in read_source(str(out)).documents for question in document.questions]
    assert [(question.id, question.rationale is None) for question in found] == [
        ("q1", False),
        ("q2", False),
        ("q3", True),
    ]


def test_ctrl_c_and_the_same_command_again(
    teacher: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(request: dict[str, Any]) -> Act:
        if len(teacher.asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return teach(request)

    teacher.answer = interrupt
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    assert synth(teacher, data, out, monkeypatch, "--concurrency", "1") == 130
    assert "2 answers are kept" in capsys.readouterr().err
    assert not out.exists()
    assert synth(teacher, data, out, monkeypatch) == 0
    assert len(teacher.asked) == 3
    assert "1 request answered, 2 more from the cache" in capsys.readouterr().err


def test_a_teacher_that_is_of_no_use(
    teacher: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher.answer = lambda request: fails(400, "no") if "ferry" in str(request["messages"]) else says("Well.")
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    assert synth(teacher, data, out, monkeypatch) == 2
    told = capsys.readouterr()
    assert "no rationale is fit to learn from" in told.err
    assert not out.exists()
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert report["dropped"] == {"failed": 1, "no conclusion": 2}
    assert synth(teacher, data, tmp_path / "out.txt", monkeypatch) == 2
    assert "ends neither in .jsonl nor in .json" in capsys.readouterr().err
