"""Calibration: fitted numbers against closed forms."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palmette.data.records import Answer, DataSet, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.errors import DataError, RunError
from palmette.evaluate.calibration import (
    Case,
    check_data,
    fit,
    fit_min_worth,
    fit_odds,
    halves,
    mean_cost,
    negative_log_likelihood,
)
from palmette.inference.calibration import CALIBRATION, Calibration, Costs, text_hash


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
    assert fit_odds(cases).temperature == pytest.approx(3 / math.log(3), rel=1e-3)
    # Mean of -log: 3/4 of log(1 + e^-3), 1/4 of log(1 + e^3).
    expected = 0.75 * math.log1p(math.exp(-3)) + 0.25 * math.log1p(math.exp(3))
    known = [(one, one.posterior.evidence) for one in cases]
    assert negative_log_likelihood(known, Decision()) == pytest.approx(expected)


def test_the_power_of_the_number_of_windows() -> None:
    """As above for documents of one window. Those of ten have log odds -2 on average, and half of them are answered.

    So (-2 + power * ln 10) / T = 0. The power is 0 where all documents have one size, since nothing tells it.
    """
    short = [case(i, 3.0, answerable=i % 4 != 0) for i in range(40)]
    long = [in_ten_windows(case(100 + i, -2.0 + math.log(10), answerable=i % 2 == 0)) for i in range(40)]
    fitted = fit_odds(short + long)
    assert fitted.temperature == pytest.approx(3 / math.log(3), rel=1e-3)
    assert fitted.window_power == pytest.approx(2 / math.log(10), rel=1e-3)
    assert fit_odds(short).window_power == fit_odds(long).window_power == 0.0


def in_ten_windows(one: Case) -> Case:
    """The case in a document of nine more windows, which hold nothing."""
    (text, start, odds), *_ = one.posterior.spans
    windows = [WindowScores({text: (start, odds)}, -math.inf, -math.inf, 1)]
    windows += [WindowScores({}, -math.inf, -math.inf, 1)] * 9
    return replace(one, posterior=SpanPosterior.merge(windows))


def test_what_was_not_looked_into_counts_as_answers() -> None:
    """Odds 1 for a scored span, 2 for the rest, 1 for "?": an answer has 3 of 4."""
    posterior = SpanPosterior.merge([WindowScores({"white": (8, 0.0)}, math.log(2), math.log(2), 1)])
    document = Document("d", "Tower A is white, of granite.", ())
    question = Question("q", "Of what?", (Answer("granite", 21),))
    asked = Case(document, question, posterior)
    assert negative_log_likelihood([(asked, posterior.evidence)], Decision()) == pytest.approx(math.log(4 / 3))


def test_to_answer_nothing_can_be_best() -> None:
    """One question, sure of a wrong answer: no threshold but one above every worth."""
    cost_two = Decision(cost_wrong=2.0)
    fitted = replace(cost_two, min_worth=fit_min_worth([case(0, 800.0, answerable=False)], cost_two))
    assert not fitted.decide(case(1, 800.0, answerable=True).posterior).text


def surest_first(*answers: tuple[float, bool]) -> list[Case]:
    """Questions with these probabilities of their only span, and whether it is right."""
    return [case(i, math.log(p / (1 - p)), answerable=right) for i, (p, right) in enumerate(answers)]


def test_the_threshold_makes_decisions_cost_least() -> None:
    """With one span, P(span) = P(any answer) = p, so the worth is 1.5 p where a wrong answer costs 2.

    Answering a right span saves the refusal's 1, answering a wrong one costs 2. From the surest on, the sums are
    -1, -2, 0, -1, -2, -3, -1: least after the sixth, between 0.6 and 0.55.
    """
    cases = surest_first(
        (0.99, True), (0.9, True), (0.8, False), (0.7, True), (0.65, True), (0.6, True), (0.55, False)
    )  # fmt: skip
    assert fit_min_worth(cases, Decision(cost_wrong=2.0)) == pytest.approx(1.5 * 0.575)
    # At a cost of 4 the third is never made good: -1, -2, 2, 1, 0, -1. The worth is 1.25 p.
    assert fit_min_worth(cases, Decision(cost_wrong=4.0)) == pytest.approx(1.25 * 0.85)
    # Temperature 2 halves the log odds.
    cooled = [1 / (1 + ((1 - p) / p) ** 0.5) for p in (0.6, 0.55)]
    assert fit_min_worth(cases, Decision(temperature=2.0, cost_wrong=2.0)) == pytest.approx(1.5 * sum(cooled) / 2)


def test_equal_worths_are_not_parted() -> None:
    """Of four alike one is right: -1 + 3 * 2 altogether, so none is given."""
    cases = [case(i, 0.5, answerable=i == 0) for i in range(4)]
    assert fit_min_worth(cases, Decision(cost_wrong=2.0)) > 1.5


def test_answers_below_absence_have_no_say() -> None:
    """Right answers at 0.4 would save 1 each, but absence is likelier, so they are never given."""
    cases = surest_first((0.9, True), *[(0.4, True)] * 5, (0.3, False))
    fitted = Decision(min_worth=fit_min_worth(cases, Decision()))
    assert [bool(fitted.decide(one.posterior).text) for one in cases] == [True] + [False] * 6


def test_costs_are_counted_before_and_after() -> None:
    """Before, all likelier than absence are given: two right, two wrong, one refused that has an answer.

    Before (2 * 2 + 1) / 5. After: 0.9 only is given, and two of the others have an answer. Refusing all: 3 / 5.
    """
    cases = surest_first((0.9, True), (0.8, False), (0.7, False), (0.6, True), (0.4, True))
    assert mean_cost(cases, Decision(), 2.0) == pytest.approx(1.0)
    made = fit(cases, data(cases), FOR, cost_wrong=2.0)
    assert made.costs == Costs(2.0, before=pytest.approx(1.0), after=pytest.approx(0.4), refusing=pytest.approx(0.6))
    assert "a wrong answer costs 2" in "\n".join(made.explain())
    assert "1.000 without the calibration, 0.400 with it, 0.600 if all are refused" in "\n".join(made.explain())
    with pytest.raises(DataError, match=r"the cost of a wrong answer is 0\.5"):
        fit(cases, data(cases), FOR, cost_wrong=0.5)


def test_a_calibration_decides_at_other_costs_too(tmp_path: Path) -> None:
    """With one span its probability orders the answers. From the surest on, answering costs, beside refusing:

    at a cost of 1 in sum -1, 0, -1, -2, -3, so all five that are likelier than absence are given, and at a cost of 5
    in sum -1, 4, 3, 2, 1, so the first is given alone.
    """
    cases = surest_first((0.9, True), (0.8, False), (0.7, True), (0.65, True), (0.6, True), (0.4, True))
    made = fit(cases, data(cases), FOR, cost_wrong=4.0)
    assert [one.costs.wrong for one in made.at_costs] == [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0]
    made.write(tmp_path)
    read = Calibration.read(tmp_path)
    assert read == made == read.at_cost(4.0)

    def given(cost: float) -> int:
        decision = read.at_cost(cost).decision
        assert decision.cost_wrong == cost
        return sum(bool(decision.decide(one.posterior).text) for one in cases)

    assert (given(1.0), given(5.0)) == (5, 1)
    # At 1: one wrong answer, and one refused that has an answer. At 5: four refused.
    assert read.at_cost(1.0).costs == Costs(1.0, pytest.approx(2 / 6), pytest.approx(2 / 6), pytest.approx(5 / 6))
    assert read.at_cost(5.0).costs == Costs(5.0, pytest.approx(6 / 6), pytest.approx(4 / 6), pytest.approx(5 / 6))
    with pytest.raises(RunError, match=r"no rule for a cost of 7.*1, 1\.5, 2, 3, 4, 5, 10, or calibrate with --cost"):
        read.at_cost(7.0)
    with pytest.raises(RunError, match=r"no rule for a cost of 2.*Calibrate again"):
        replace(read, at_costs=()).at_cost(2.0)


def test_on_simulated_questions_the_fit_comes_near_the_least_cost() -> None:
    """A reader whose log odds are twice too large, so that no rule for exact probabilities fits it.

    P(right) = sigmoid(x / 2) with x the log odds of the only span. Answering costs C (1 - P), refusing costs P, so the
    best rule answers where P > C / (1 + C), that is x > 2 log C. Half of 4,000 questions are fitted on, and the other
    half are decided by both rules.
    """
    draw = np.random.default_rng(5)
    odds = draw.normal(0.0, 4.0, 4000)
    right = draw.random(4000) < 1 / (1 + np.exp(-odds / 2))
    cases = [case(i, float(x), answerable=bool(r)) for i, (x, r) in enumerate(zip(odds, right, strict=True))]
    fits, tests = cases[:2000], cases[2000:]
    for cost in (2.0, 5.0):
        made = fit(fits, data(fits), FOR, cost_wrong=cost)
        assert made.decision.temperature == pytest.approx(2.0, rel=0.1)
        given = odds[2000:] > 2 * math.log(cost)
        least = np.where(given, cost * ~right[2000:], right[2000:]).mean()
        assert mean_cost(tests, made.decision, cost) == pytest.approx(least, rel=0.03)
        assert mean_cost(tests, Decision(), cost) > 1.05 * least, "the case is one that calibration helps"


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
    """It counts neither documents nor windows nor costs, and names no base model."""
    cases = [case(i, 4.0 if i % 3 else -4.0, answerable=i % 3 != 0) for i in range(180)]
    fit(cases, data(cases), FOR, target_error=0.05).write(tmp_path)
    written = json.loads((tmp_path / CALIBRATION).read_text())
    del written["max_windows"], written["guarantee"]["num_documents"], written["guarantee"]["design_effect"]
    del written["costs"]
    written["decision"] = {"temperature": 1.5, "max_no_answer": None, "min_confidence": 0.7}
    (tmp_path / CALIBRATION).write_text(json.dumps(written))
    old = Calibration.read(tmp_path)
    assert old.guarantee is not None
    assert (old.guarantee.num_documents, old.guarantee.design_effect, old.max_windows) == (None, None, None)
    assert old.warn_of_windows([100]) is None
    old.check_fits({**FOR, "base": "b"})
    assert old.costs is None
    # Its guarantee was tested on answers that beat "?" before the temperature. Below 0.5 those may be others.
    for changed in ({"min_confidence": 0.4}, {"temperature": 0.8}):
        (tmp_path / CALIBRATION).write_text(json.dumps({**written, "decision": {**written["decision"], **changed}}))
        with pytest.raises(RunError, match="an earlier version tested its guarantee by another rule"):
            Calibration.read(tmp_path)
    plain = {"temperature": 2.7, "max_no_answer": 0.59, "min_confidence": 0.0}
    (tmp_path / CALIBRATION).write_text(json.dumps({**written, "guarantee": None, "decision": plain}))
    assert Calibration.read(tmp_path).decision == Decision(temperature=2.7, max_no_answer=0.59)
    assert list(Calibration.read(tmp_path).explain())[1].endswith("the probability of no answer is at most 0.590")


def test_longer_documents_than_those_of_the_calibration_are_flagged() -> None:
    cases = [case(i, 4.0 if i % 3 else -4.0, answerable=i % 3 != 0) for i in range(180)]
    window = WindowScores({"white": (9, 0.0)}, -math.inf, -math.inf, 1)
    cases[0] = replace(cases[0], posterior=SpanPosterior.merge([window, window, window]))
    plain, promised = fit(cases, data(cases), FOR), fit(cases, data(cases), FOR, target_error=0.05)
    assert plain.max_windows == promised.max_windows == 3
    assert plain.warn_of_windows([1, 3]) is None
    line = plain.warn_of_windows([1, 4, 7])
    assert line is not None
    assert line.startswith("2 documents have up to 7 parts, and the calibration was fitted on documents of at")
    one = promised.warn_of_windows([4]) or ""
    assert one.startswith("This document has 4 parts")
    assert "The guarantee does not cover that." in one
    assert (plain.warn_of_windows([1, 4], rows=True) or "").startswith("The document of one row has 4 parts")
    assert (plain.warn_of_windows([5, 4], rows=True) or "").startswith("The documents of 2 rows have up to 5 parts")


def test_a_calibration_is_keyed_to_the_base_model() -> None:
    cases = [case(i, 3.0 - i % 7, answerable=i % 3 != 0) for i in range(60)]
    made = fit(cases, data(cases), {**FOR, "base": "b1"})
    with pytest.raises(RunError, match="fitted for base = 'b1', and this is 'b2'"):
        made.check_fits({**FOR, "base": "b2"})
