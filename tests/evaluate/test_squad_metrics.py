"""The SQuAD v2 metrics, against values worked out by hand from the official script's definitions, and its prediction
files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.evaluate.official import NA_PROB, PREDICTIONS, read_official, write_official
from palmette.evaluate.squad_metrics import score_answers, summarize
from palmette.tasks.answer_match import exact_match, gold_answers, normalize_answer, strict_match, token_f1

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


def refuse(probability: float | None = None, no_answer: float | None = None, num_passes: int = 0) -> Prediction:
    return Prediction(
        "", refusal="absent", probability=probability, no_answer_probability=no_answer, num_passes=num_passes
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


def test_strict_match_forgives_nothing() -> None:
    year = DOCUMENT.questions[0]
    assert [strict_match(text, year) for text in ("1882", "in 1882", "In 1882", "1882.", "")] == [1, 1, 0, 0, 0]
    assert [strict_match(text, DOCUMENT.questions[3]) for text in ("", "the")] == [1, 0]
    # Officially this question has no gold answer left, and "" is right; strictly "the" is.
    article = Question("article", "?", (Answer("the", 0),))
    assert [strict_match(text, article) for text in ("the", "")] == [1, 0]


def test_an_answer_of_articles_alone_is_no_refusal() -> None:
    """The official script normalises it to nothing, and so takes it for one."""
    document = Document("d", "the end", (Question("q", "Why?"),))
    found = summarize(score_answers([document], {"q": Prediction("the")}))
    assert (found["NoAns_exact"], found["correct_no_answer"], found["answered"]) == (100.0, 0.0, 100.0)


def test_a_summary_without_probabilities() -> None:
    """Year right; stone half right (F1 2/3); tower abstained; who refused rightly; why broken: not JSON."""
    predictions = {
        "year": Prediction("1882"),
        "stone": Prediction("granite"),
        "tower": refuse(),
        "who": refuse(),
        "why": Prediction("Because of 1882", valid_json=False, completion="Because of 1882"),
    }
    assert summarize(score_answers([DOCUMENT], predictions)) == {
        "exact": pytest.approx(100 * 2 / 5),
        "f1": pytest.approx(100 * (1 + 2 / 3 + 0 + 1 + 0) / 5),
        "total": 5,
        "HasAns_exact": pytest.approx(100 / 3),
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "HasAns_total": 3,
        "NoAns_exact": pytest.approx(50.0),
        "NoAns_f1": pytest.approx(50.0),
        "NoAns_total": 2,
        "strict_exact": pytest.approx(40.0),
        "valid_json": pytest.approx(80.0),
        "exact_of_valid_json": pytest.approx(50.0),  # year and who, of four
        "verbatim": pytest.approx(100.0),
        "correct_no_answer": pytest.approx(50.0),
        "correct_has_answer": pytest.approx(100 / 3),
        "answered": pytest.approx(60.0),
        "certified": None,
        "brier": None,
        "mean_passes": None,
        "auroc_answerable": None,
        "ece": None,
        "aurc": None,
        "median_passes": None,
    }


def test_a_summary_with_probabilities() -> None:
    """The same answers, all of them valid, with probabilities.

    Thresholds: 2 questions are unanswerable, so everything refused scores 2. By rising no-answer probability, exact:
    year +1 = 3 at 0.1; why, answered, -1 = 2; stone +0; tower +0; who, refused, +0. F1: 3 at 0.1; 2; stone + 2/3.
    AUROC: who (0.9) lies above year, stone, tower (0.1, 0.3, 0.7), why (0.2) above year alone: 4 of 6 pairs.
    Calibration, one bin each: 0.9 right, 0.55 wrong, 0.7 wrong, 0.95 right (with 0.9), 0.6 wrong.
    Bin of 0.9 and 0.95: |0.925 - 1| * 2/5; the others: 0.55, 0.7, 0.6, of weight 1/5.
    Risk: right, right, wrong (0.7), wrong, wrong: 0, 0, 1/3, 2/4, 3/5.
    """
    predictions = {
        "year": Prediction("1882", probability=0.9, no_answer_probability=0.1, certified=True, num_passes=2),
        "stone": Prediction("granite", probability=0.55, no_answer_probability=0.3, certified=True, num_passes=2),
        "tower": refuse(0.7, 0.7, 7),
        "who": refuse(0.95, 0.9, 1),
        "why": Prediction("1882", probability=0.6, no_answer_probability=0.2),
    }
    summary = summarize(score_answers([DOCUMENT], predictions))
    assert list(summary) == [
        "exact",
        "f1",
        "total",
        "HasAns_exact",
        "HasAns_f1",
        "HasAns_total",
        "NoAns_exact",
        "NoAns_f1",
        "NoAns_total",
        "strict_exact",
        "valid_json",
        "exact_of_valid_json",
        "verbatim",
        "correct_no_answer",
        "correct_has_answer",
        "answered",
        "certified",
        "brier",
        "mean_passes",
        "best_exact",
        "best_exact_thresh",
        "best_f1",
        "best_f1_thresh",
        "auroc_answerable",
        "ece",
        "aurc",
        "median_passes",
    ]
    assert summary["best_exact"] == pytest.approx(60.0)
    assert summary["best_exact_thresh"] == 0.1
    assert summary["best_f1"] == pytest.approx(60.0)
    assert summary["best_f1_thresh"] == 0.1
    assert summary["auroc_answerable"] == pytest.approx(4 / 6)
    assert summary["ece"] == pytest.approx((2 * 0.075 + 0.55 + 0.7 + 0.6) / 5)
    assert summary["brier"] == pytest.approx((0.1**2 + 0.55**2 + 0.7**2 + 0.05**2 + 0.6**2) / 5)
    assert summary["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 2 / 4 + 3 / 5) / 5)
    assert summary["certified"] == pytest.approx(50.0)  # of the 4 whose passes were counted
    assert summary["mean_passes"] == pytest.approx(12 / 4)  # why was never counted
    assert summary["median_passes"] == pytest.approx(2.0)


def thresholds(*rows: tuple[bool, str, float]) -> dict[str, float | int | None]:
    """best_* of questions whose gold answer is "grey granite", or none:

    (answerable, prediction, no-answer probability).
    """
    gold = (Answer("grey granite", 20),)
    questions = tuple(Question(str(i), "?", gold if row[0] else ()) for i, row in enumerate(rows))
    predictions = {str(i): Prediction(text, no_answer_probability=p) for i, (_, text, p) in enumerate(rows)}
    summary = summarize(score_answers([Document("d", DOCUMENT.text, questions)], predictions))
    return {name: value for name, value in summary.items() if name.startswith("best_")}


def test_best_thresholds_differ_for_exact_and_f1() -> None:
    """From 2 of 5. Exact: 3 at 0.1, 2, 2, 3 again at 0.6, 3. F1: 3, 2, 2 2/3, 3 2/3 at 0.6, 3 2/3."""
    assert thresholds(
        (True, "grey granite", 0.6),
        (False, "granite", 0.2),
        (True, "grey granite", 0.1),
        (False, "", 0.9),
        (True, "granite", 0.3),
    ) == {
        "best_exact": pytest.approx(60.0),
        "best_exact_thresh": 0.1,
        "best_f1": pytest.approx(100 * (3 + 2 / 3) / 5),
        "best_f1_thresh": 0.6,
    }


def test_equal_probabilities_go_in_the_order_of_the_data_and_may_be_parted() -> None:
    """Right first: 1 + 1 = 2 before 2 - 1. Wrong first: 1 - 1 + 1 never exceeds the 1 of refusing everything."""
    right, wrong = (True, "grey granite", 0.5), (False, "granite", 0.5)
    assert thresholds(right, wrong)["best_exact"] == 100.0
    assert thresholds(right, wrong)["best_exact_thresh"] == 0.5
    assert thresholds(wrong, right)["best_exact"] == 50.0
    assert thresholds(wrong, right)["best_exact_thresh"] == 0.0


def test_an_article_given_for_an_unanswerable_question_is_right_officially_but_costs_its_threshold() -> None:
    """ "the" normalises to nothing, so exact is 1; find_best_thresh only asks whether there is any text: 1 - 1 = 0."""
    assert thresholds((False, "the", 0.0)) == {
        "best_exact": 100.0,
        "best_exact_thresh": 0.0,
        "best_f1": 100.0,
        "best_f1_thresh": 0.0,
    }
    assert thresholds((False, "the", 0.1), (True, "grey granite", 0.2))["best_exact"] == 50.0


def test_one_prediction_without_probability_takes_the_measures_away() -> None:
    known = Prediction("1882", probability=0.9, no_answer_probability=0.1)
    predictions = {**dict.fromkeys(("year", "stone", "tower", "who"), known), "why": refuse()}
    summary = summarize(score_answers([DOCUMENT], predictions))
    assert not any(name.startswith("best_") for name in summary)
    assert [summary[name] for name in ("auroc_answerable", "ece", "aurc", "brier")] == [None] * 4


def test_one_kind_of_question_alone() -> None:
    answerable = Document("d", DOCUMENT.text, DOCUMENT.questions[:3])
    known = Prediction("1882", probability=0.9, no_answer_probability=0.1)
    summary = summarize(score_answers([answerable], dict.fromkeys(("year", "stone", "tower"), known)))
    assert "HasAns_exact" in summary
    assert not any(name.startswith("NoAns_") for name in summary)
    assert summary["correct_no_answer"] is None
    assert summary["auroc_answerable"] is None


def test_verbatim_is_letter_for_letter() -> None:
    predictions = dict.fromkeys(("tower", "who", "why"), refuse())
    predictions |= {"year": Prediction("1882"), "stone": Prediction("Grey granite")}
    summary = summarize(score_answers([DOCUMENT], predictions))
    assert summary["verbatim"] == pytest.approx(50.0)
    assert summary["HasAns_exact"] == pytest.approx(100 * 2 / 3)  # the capital letter is no error officially
    assert summary["correct_has_answer"] == pytest.approx(100 / 3)  # but strictly it is
    silent = summarize(score_answers([DOCUMENT], dict.fromkeys(predictions, refuse())))
    assert silent["verbatim"] is None
    assert silent["answered"] == 0.0


def test_a_missing_prediction_is_an_error() -> None:
    with pytest.raises(KeyError, match="stone"):
        score_answers([DOCUMENT], {"year": Prediction("1882")})


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(DataError, match="no question"):
        summarize([])


DOCUMENTS = [
    Document("a", "The tower is granite.", (Question("q1", "What?", (Answer("granite", 13),)), Question("q2", "Who?"))),
    Document("b", "At 7:40.", (Question("q3", "When?", (Answer("7:40", 3),)),)),
]


def test_official_files_come_back_as_they_went(tmp_path: Path) -> None:
    predictions = {
        "q3": Prediction("Grüße", no_answer_probability=0.1, valid_json=False, completion="Grüße"),
        "q1": Prediction("granite", start=13, end=20, probability=0.7, no_answer_probability=0.25),
        "q2": Prediction("", refusal="absent", probability=0.9, no_answer_probability=1 / 3),
    }
    write_official(tmp_path, DOCUMENTS, predictions)
    assert list(json.loads((tmp_path / PREDICTIONS).read_text("utf-8")).items()) == [
        ("q1", "granite"),
        ("q2", ""),
        ("q3", "Grüße"),
    ]
    assert json.loads((tmp_path / NA_PROB).read_text("utf-8")) == {"q1": 0.25, "q2": 1 / 3, "q3": 0.1}
    assert read_official(DOCUMENTS, tmp_path / PREDICTIONS, tmp_path / NA_PROB) == {
        "q1": Prediction("granite", start=13, end=20, no_answer_probability=0.25, valid_json=None),
        "q2": Prediction("", refusal="absent", no_answer_probability=1 / 3, valid_json=None),
        "q3": Prediction("Grüße", no_answer_probability=0.1, valid_json=None),  # it does not stand in its document
    }
    official = {"exact", "f1", "HasAns_exact", "NoAns_f1", "best_exact", "best_f1_thresh", "auroc_answerable"}
    read = read_official(DOCUMENTS, tmp_path / PREDICTIONS, tmp_path / NA_PROB)
    ours, theirs = (summarize(score_answers(DOCUMENTS, some)) for some in (predictions, read))
    assert {name: ours[name] for name in official} == {name: theirs[name] for name in official}


def test_no_probabilities_no_file(tmp_path: Path) -> None:
    write_official(tmp_path, DOCUMENTS, dict.fromkeys(("q1", "q2", "q3"), Prediction("granite")))
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS]
    found = read_official(DOCUMENTS, tmp_path / PREDICTIONS)
    assert found["q1"] == Prediction("granite", start=13, end=20, valid_json=None)


@pytest.mark.parametrize(
    ("predictions", "na_prob", "message"),
    [
        ('{"q1": "x", "q3": "y"}', None, r"predictions\.json: no value for question 'q2' \(1 of 3"),
        ('{"q1": "", "q2": "", "q3": "", "q9": ""}', None, r"predictions\.json: 'q9' is no question"),
        ('{"q1": "", "q2": "", "q3": "", "q1": "x"}', None, r"predictions\.json: 'q1' is given twice, '' and 'x'"),
        ('{"q1": "", "q2": null, "q3": ""}', None, r"predictions\.json: question 'q2' has None, which is missing"),
        (r'{"q1": "\ud800", "q2": "", "q3": ""}', None, r"predictions\.json: question 'q1' has half a surrogate"),
        ("[]", None, r"predictions\.json holds a list, not an object"),
        ('{"q1": ', None, r"predictions\.json: not JSON"),
        (None, None, r"cannot read .*predictions\.json"),
        ('{"q1": "", "q2": "", "q3": ""}', '{"q1": 0, "q2": 1}', r"na_prob\.json: no value for question 'q3'"),
        ('{"q1": "", "q2": "", "q3": ""}', '{"q1": 0, "q2": 1, "q3": 1.5}', r"na_prob\.json: question 'q3' has 1\.5"),
        ('{"q1": "", "q2": "", "q3": ""}', '{"q1": 0, "q2": NaN, "q3": 1}', r"na_prob\.json: question 'q2' has nan"),
        ('{"q1": "", "q2": "", "q3": ""}', '{"q1": true, "q2": 0, "q3": 1}', r"na_prob\.json: question 'q1' has True"),
        (
            '{"q1": "", "q2": "", "q3": ""}',
            '{"q1": "0.1", "q2": 0, "q3": 1}',
            r"na_prob\.json: question 'q1' has '0\.1'",
        ),
    ],
)
def test_broken_files_are_named(tmp_path: Path, predictions: str | None, na_prob: str | None, message: str) -> None:
    if predictions is not None:
        (tmp_path / PREDICTIONS).write_text(predictions, "utf-8")
    if na_prob is not None:
        (tmp_path / NA_PROB).write_text(na_prob, "utf-8")
    with pytest.raises(DataError, match=message):
        read_official(DOCUMENTS, tmp_path / PREDICTIONS, tmp_path / NA_PROB if na_prob else None)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_bytes(b'{"q1": "\xe9"}')
    with pytest.raises(DataError, match="byte 8 is not UTF-8"):
        read_official(DOCUMENTS, tmp_path / PREDICTIONS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q2": Prediction("")}, "question 'q2' has no no_answer_probability, but 2 of 3 have one"),
        ({"q2": Prediction("", no_answer_probability=1.25)}, "question 'q2' has 1.25"),
        ({"q9": Prediction("", no_answer_probability=0.5)}, "'q9' is no question"),
    ],
)
def test_predictions_that_make_no_official_file(tmp_path: Path, changes: dict[str, Prediction], message: str) -> None:
    predictions = dict.fromkeys(("q1", "q2", "q3"), Prediction("x", no_answer_probability=0.5))
    with pytest.raises(DataError, match=re.escape(message)):
        write_official(tmp_path, DOCUMENTS, {**predictions, **changes})
    assert not list(tmp_path.iterdir())
