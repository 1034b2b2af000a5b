"""Calibration: fitted numbers against closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from palmette.data.records import Answer, DataSet, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.errors import DataError, RunError
from palmette.evaluate.calibration import (
    Case,
    check_data,
    fit,
    fit_max_no_answer,
    fit_temperature,
    halves,
    negative_log_likelihood,
)
from palmette.inference.calibration import CALIBRATION, Calibration, text_hash


def case(number: int, log_odds: float, *, answerable: bool, document: int | None = None) -> Case:
    """A question whose only span, "white", has these odds against "?"; it is right if the question has an answer."""
    text = f"Tower {number if document is None else document} is white."
    answers = (Answer("white", text.find("white")),) if answerable else ()
    scores = WindowScores({"white": (text.find("white"), log_odds)}, -math.inf, -math.inf, 1)
    question = Question(f"q{number}", "Of what colour?", answers)
    return Case(Document(text, text, (question,)), question, SpanPosterior.merge([scores]))


def test_the_temperature_of_a_coin() -> None:
    """Log odds 3, right 3 times of 4: the likelihood is highest where sigmoid(3 / T) = 3 / 4, so T = 3 / ln 3."""
    cases = [case(i, 3.0, answerable=i % 4 != 0) for i in range(40)]
    assert fit_temperature(cases) == pytest.approx(3 / math.log(3), rel=1e-3)
    # Mean of -log: 3/4 of log(1 + e^-3), 1/4 of log(1 + e^3).
    expected = 0.75 * math.log1p(math.exp(-3)) + 0.25 * math.log1p(math.exp(3))
    assert negative_log_likelihood(cases, 1.0) == pytest.approx(expected)


def test_what_was_not_looked_into_counts_as_answers() -> None:
    """Odds 1 for a scored span, 2 for the rest, 1 for "?": an answer has 3 of 4."""
    posterior = SpanPosterior.merge([WindowScores({"white": (8, 0.0)}, math.log(2), math.log(2), 1)])
    document = Document("d", "Tower A is white, of granite.", ())
    question = Question("q", "Of what?", (Answer("granite", 21),))
    assert negative_log_likelihood([Case(document, question, posterior)], 1.0) == pytest.approx(math.log(4 / 3))


def test_to_answer_nothing_can_be_best() -> None:
    """One question, sure of a wrong answer: no threshold but one below every probability of no answer."""
    assert (
        not Decision(max_no_answer=fit_max_no_answer([case(0, 800.0, answerable=False)], Decision()))
        .decide(case(1, 800.0, answerable=True).posterior)
        .text
    )


def test_the_threshold_gives_most_right_decisions() -> None:
    """P(no answer) is 1 / (1 + odds). Answering pays up to 0.8 here: two right below it, then four wrong ones.

    Answered: .1 right, .2 wrong, .5 right, .8 right, .9 wrong, .95 wrong; the total is highest after .8.
    """
    doubts = [(0.1, True), (0.2, False), (0.5, True), (0.8, True), (0.9, False), (0.95, False)]
    cases = [case(i, math.log((1 - p) / p), answerable=right) for i, (p, right) in enumerate(doubts)]
    assert fit_max_no_answer(cases, Decision()) == pytest.approx(0.85)
    assert fit_max_no_answer(cases, Decision(temperature=2.0)) == pytest.approx(
        (1 / (1 + (0.2 / 0.8) ** 0.5) + 1 / (1 + (0.1 / 0.9) ** 0.5)) / 2
    )


def test_equal_doubts_are_not_parted() -> None:
    cases = [case(i, 0.0, answerable=i == 0) for i in range(4)]
    assert fit_max_no_answer(cases, Decision()) < 0.5


def data(cases: list[Case]) -> DataSet:
    return DataSet("made.json", tuple(case.document for case in cases), "abc")


FOR = {"weights": "w1", "max_words": 30}


def test_what_is_fitted_is_kept_with_what_it_was_fitted_on(tmp_path: Path) -> None:
    cases = [case(i, 3.0 - i % 7, answerable=i % 3 != 0) for i in range(60)]
    made = fit(cases, data(cases), FOR)
    made.write(tmp_path)
    assert Calibration.read(tmp_path) == made
    made.check_fits(FOR)
    with pytest.raises(RunError, match="fitted for weights = 'w1', and this is 'w2'"):
        made.check_fits({**FOR, "weights": "w2"})
    with pytest.raises(DataError, match=r"1 of 2 documents, .*Tower 3.* were used to calibrate"):
        made.check_unseen([Document("new", "Unseen.", ()), cases[3].document], "test.json")
    made.check_unseen([Document("new", "Unseen.", ())], "test.json")
    for broken in ("{}", (tmp_path / CALIBRATION).read_text().replace('"temperature": ', '"temperature": -')):
        (tmp_path / CALIBRATION).write_text(broken)
        with pytest.raises(RunError, match="palmette calibrate"):
            Calibration.read(tmp_path)


def test_a_promise_is_tested_on_documents_that_were_not_fitted() -> None:
    cases = [case(i, 4.0 if i % 3 else -4.0, answerable=i % 3 != 0, document=i // 3) for i in range(240)]
    documents = [c.document for c in cases]
    first, second = halves(documents)
    assert {text_hash(d) for d in first}.isdisjoint(map(text_hash, second))
    assert (len(first), len(second)) == (120, 120)
    made = fit(cases, data(cases), FOR, target_error=0.05)
    assert made.guarantee is not None
    assert made.guarantee.num_tested == made.guarantee.num_answered == 80
    assert made.decision.min_confidence == made.guarantee.min_confidence
    assert made.decision.forces_span


def test_data_that_calibrate_nothing_are_refused_first() -> None:
    both = [case(i, 1.0, answerable=i % 2 == 0, document=0) for i in range(6)]
    one = Document("one", both[0].document.text, tuple(c.question for c in both))
    check_data([one], "dev.json")
    with pytest.raises(DataError, match="a half of its documents has no question"):
        check_data([one], "dev.json", target_error=0.05)
    with pytest.raises(DataError, match="it has no question without one"):
        check_data([case(i, 1.0, answerable=True).document for i in range(5)], "dev.json")
    with pytest.raises(DataError, match="the target error is 5"):
        check_data([one], "dev.json", target_error=5)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It counts neither documents nor windows, and names no base model."""
    cases = [case(i, 4.0 if i % 3 else -4.0, answerable=i % 3 != 0) for i in range(180)]
    fit(cases, data(cases), FOR, target_error=0.05).write(tmp_path)
    written = json.loads((tmp_path / CALIBRATION).read_text())
    del written["max_windows"], written["guarantee"]["num_documents"], written["guarantee"]["design_effect"]
    (tmp_path / CALIBRATION).write_text(json.dumps(written))
    old = Calibration.read(tmp_path)
    assert old.guarantee is not None
    assert (old.guarantee.num_documents, old.guarantee.design_effect, old.max_windows) == (None, None, None)
    assert old.warn_of_windows([100]) is None
    old.check_fits({**FOR, "base": "b"})


def test_longer_documents_than_those_of_the_calibration_are_flagged() -> None:
    cases = [case(i, 4.0 if i % 3 else -4.0, answerable=i % 3 != 0) for i in range(180)]
    window = WindowScores({"white": (9, 0.0)}, -math.inf, -math.inf, 1)
    cases[0] = replace(cases[0], posterior=SpanPosterior.merge([window, window, window]))
    plain, promised = fit(cases, data(cases), FOR), fit(cases, data(cases), FOR, target_error=0.05)
    assert plain.max_windows == promised.max_windows == 3
    assert plain.warn_of_windows([1, 3]) is None
    line = plain.warn_of_windows([1, 4, 7])
    assert line is not None
    assert line.startswith(
        "2 documents were read in up to 7 windows, and the calibration was fitted on documents of at"
    )
    one = promised.warn_of_windows([4]) or ""
    assert one.startswith("This document was read in 4 windows")
    assert "The guarantee does not cover that." in one


def test_a_calibration_is_keyed_to_the_base_model() -> None:
    cases = [case(i, 3.0 - i % 7, answerable=i % 3 != 0) for i in range(60)]
    made = fit(cases, data(cases), {**FOR, "base": "b1"})
    with pytest.raises(RunError, match="fitted for base = 'b1', and this is 'b2'"):
        made.check_fits({**FOR, "base": "b2"})
