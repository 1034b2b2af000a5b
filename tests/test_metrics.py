"""The SQuAD v2 metrics, against values worked out by hand from the official script's definitions."""

from __future__ import annotations

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.evaluate.squad_metrics import (
    exact_match,
    gold_answers,
    normalize_answer,
    score_answers,
    summarize,
    token_f1,
)

DOCUMENT = Document(
    "d",
    "The third tower, of grey granite, was lit in 1882.",
    (
        Question("year", "When?", (Answer("1882", 45), Answer("in 1882", 42))),
        Question("stone", "Of what?", (Answer("grey granite", 20),)),
        Question("tower", "Which?", (Answer("third tower", 4),)),
        Question("who", "Who?"),
        Question("why", "Why?"),
    ),
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("The  Tower!", "tower"),
        ("an apple a day", "apple day"),
        ("Anna's", "annas"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation is removed, officially
        ("a-b", "ab"),
        ("the", ""),
    ],
)
def test_normalisation(raw: str, expected: str) -> None:
    assert normalize_answer(raw) == expected


def test_scores_of_single_answers() -> None:
    assert exact_match("In 1882.", ["1882", "in 1882"]) == 1.0
    assert exact_match("", [""]) == 1.0
    assert exact_match("the", [""]) == 1.0  # normalises to nothing
    assert token_f1("granite", ["grey granite"]) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert token_f1("granite granite", ["grey granite"]) == pytest.approx(1 / 2)  # one word shared, of two and two
    assert token_f1("", ["grey granite"]) == 0.0
    assert token_f1("x", [""]) == 0.0


def test_gold_answers_that_normalise_to_nothing_do_not_count() -> None:
    assert gold_answers(Question("q", "?", (Answer("the", 0), Answer("a tower", 3)))) == ["a tower"]
    assert gold_answers(Question("q", "?", (Answer("the", 0),))) == [""]
    assert gold_answers(Question("q", "?")) == [""]


def test_a_summary() -> None:
    """Year right; stone half right (F1 2/3); tower abstained; who refused rightly; why broken: not JSON."""
    predictions = {"year": "1882", "stone": "granite", "tower": "", "who": "", "why": "Because of 1882"}
    valid = {"year": True, "stone": True, "tower": True, "who": True, "why": False}
    summary = summarize(score_answers([DOCUMENT], predictions, valid))
    assert summary == {
        "exact": pytest.approx(100 * 2 / 5),
        "f1": pytest.approx(100 * (1 + 2 / 3 + 0 + 1 + 0) / 5),
        "total": 5,
        "HasAns_exact": pytest.approx(100 / 3),
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "HasAns_total": 3,
        "NoAns_exact": pytest.approx(50.0),
        "NoAns_f1": pytest.approx(50.0),
        "NoAns_total": 2,
        "valid_json": pytest.approx(80.0),
        "verbatim": pytest.approx(100.0),
    }


def test_verbatim_is_letter_for_letter() -> None:
    predictions = {"year": "1882", "stone": "Grey granite", "tower": "", "who": "", "why": ""}
    summary = summarize(score_answers([DOCUMENT], predictions, dict.fromkeys(predictions, True)))
    assert summary["verbatim"] == pytest.approx(50.0)
    assert summary["HasAns_exact"] == pytest.approx(100 * 2 / 3)  # the capital letter is no error officially
    silent = summarize(score_answers([DOCUMENT], dict.fromkeys(predictions, ""), dict.fromkeys(predictions, True)))
    assert silent["verbatim"] is None


def test_a_missing_prediction_is_an_error() -> None:
    with pytest.raises(KeyError, match="stone"):
        score_answers([DOCUMENT], {"year": "1882"}, {"year": True})
