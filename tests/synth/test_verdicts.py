"""Answers that people judged, as preferences: read in every way that verdicts are written, and refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.data.preference_sets import read_comparisons
from palmette.data.records import Question
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.synth.verdicts import judged_preferences, read_judged
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import load_prompt
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.scripted import DOCUMENT, RIGHT, WRONG, verdicts


def test_verdicts_are_read_in_every_way_that_they_are_written(tmp_path: Path) -> None:
    prompt = load_prompt()
    messages = qa_messages(prompt, DOCUMENT, DOCUMENT.questions[1])
    prediction = {"text": "pier 3", "refusal": "", "completion": ""}
    read = read_judged(
        verdicts(
            tmp_path / "v.jsonl",
            {"question": "when", "asked": "When?", "completion": RIGHT, "label": True},  # of samples.jsonl
            {"id": "when", "question": "When?", "prediction": prediction, "label": False},  # of answers.jsonl
            {"id": "when", "question": "When?", "prediction": {**prediction, "completion": "broken"}, "label": False},
            {"id": "who", "question": "Who?", "answer": None, "refusal": "absent", "label": True},  # of predict
            {"question": "who", "answer": 'the "mate"', "label": False},
            {"id": "a", "prompt": messages, "completion": [{"role": "assistant", "content": WRONG}], "label": False},
            {"question": "where", "answer": "?", "label": True},
            {"question": "when", "completion": f" {RIGHT}", "label": True},  # somebody else finds the same
        ),
        [DOCUMENT],
        prompt,
    )
    assert read.number == 8
    assert read.answers == {
        "when": {RIGHT: True, WRONG: False, "broken": False},
        "who": {'{"answer": "?"}': True, '{"answer": "the \\"mate\\""}': False, WRONG: False},
        "where": {'{"answer": "?"}': True},
    }


def test_good_answers_are_preferred_to_bad_ones(tmp_path: Path) -> None:
    """Each answer stands in a pair: with 3 good and 2 bad ones, g0 b0, g1 b1, g2 b0."""
    prompt, (when, who, where) = load_prompt(), DOCUMENT.questions
    answers = {
        "when": {"g0": True, "b0": False, "g1": True, "g2": True, "b1": False},
        "who": {"g": True, "b": False},
        "where": {"g": True},
        "mine": {"b": False},
    }
    document = replace(DOCUMENT, questions=(when, who, where, Question("mine", "Mine?"), Question("else", "Else?")))
    done = judged_preferences(answers, [document], prompt)
    assert [(row["id"], row["chosen"], row["rejected"]) for row in done.rows] == [
        ("when/0", "g0", "b0"),
        ("when/1", "g1", "b1"),
        ("when/2", "g2", "b0"),
        ("who", "g", "b"),
    ]
    assert [row["prompt"] for row in done.rows] == [qa_messages(prompt, DOCUMENT, when)] * 3 + [
        qa_messages(prompt, DOCUMENT, who)
    ]
    assert done.counts == {"all good": 1, "all bad": 1, "unjudged": 1}
    assert done.mean_reward is None


GOOD = {"question": "when", "completion": RIGHT, "label": True}


REFUSED: dict[str, tuple[list[Mapping[str, Any]], str]] = {
    "unknown question": (
        [GOOD, {"question": "why", "completion": "x", "label": True}],
        r"row 2: none of .* has the id 'why'",
    ),
    "no question": ([{"completion": "x", "label": True}], "row 1: none of the 3 questions"),
    "unknown prompt": (
        [{"id": "a", "prompt": "When?", "completion": "x", "label": True}],
        "the prompt of 'a' is that of none",
    ),
    "contradiction": (
        [GOOD, {**GOOD, "completion": f"{RIGHT} ", "label": False}],
        r"question 'when': 'when, row 1' finds it good and 'when, row 2' finds it bad",
    ),
    "empty completion": ([{**GOOD, "completion": ""}], "row 1, question 'when', holds no completion"),
    "blank completion": ([{**GOOD, "completion": " "}], "row 1, 'when, row 1', in 'completion' is empty"),
    "broken completion": (
        [{"id": "when", "answer": None, "refusal": None, "label": True}],
        "holds no completion and no answer",
    ),
    "no label": ([{**GOOD, "label": 1}], "row 1, 'when, row 1': 'label' is 1"),
    "nothing": ([], "holds no verdict"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_bad_verdicts_are_refused_by_name(case: str, tmp_path: Path) -> None:
    rows, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        read_judged(verdicts(tmp_path / "v.jsonl", *rows), [DOCUMENT], load_prompt())
    assert "v.jsonl" in caught.value.problem


def test_the_command_takes_answers_that_people_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No model is needed. One verdict is on a question beyond the limit, which is known all the same."""
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "new" / "out.jsonl"
    rows = [
        {"question": "q1", "answer": "granite", "label": True},
        {"question": "q1", "answer": "white", "label": False},
        {"question": "q2", "answer": "?", "label": True},
        {"question": "q3", "answer": "7:40", "label": True},
    ]
    file = verdicts(tmp_path / "v.jsonl", *rows)
    words = ("synth", "preferences", data, "--verdicts", file, "--out", out)
    assert palmette(monkeypatch, *words, "--limit", 1) == 0
    said = capsys.readouterr()
    assert "preferences for 1 of 2 questions" in said.out
    assert "left out: 1 all good" in said.out
    (record,) = read_comparisons(str(out)).records
    assert (record.id, record.completions) == ("q1", ('{"answer": "granite"}', '{"answer": "white"}'))
    document = read_source(str(data)).documents[0]
    assert json.loads(out.read_text())["prompt"] == qa_messages(load_prompt(), document, document.questions[0])
    report = json.loads((out.parent / "out.jsonl.report.json").read_text())
    assert (report["verdicts"]["verdicts"], report["left_out"], report["kept"]) == (4, {"all good": 1}, 1)
    assert {path.name for path in out.parent.iterdir()} == {"out.jsonl", "out.jsonl.report.json", "out.jsonl.html"}
    out.unlink()
    verdicts(tmp_path / "v.jsonl", *rows[2:])
    assert palmette(monkeypatch, *words) == 2
    assert "no question has both a good and a bad answer" in capsys.readouterr().err
