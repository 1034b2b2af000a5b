"""Intervals by the cluster bootstrap, against exact distributions and by simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.evaluate.bootstrap import Difference, intervals, paired_difference
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers

TEXT = "The tower is granite."


def run_of(
    documents: Sequence[Sequence[int]], no_answer: Sequence[Sequence[float]] | None = None
) -> list[ScoredAnswer]:
    """One run: for each document, which of its questions (all answerable) were answered rightly."""
    scored = []
    for d, flags in enumerate(documents):
        questions = tuple(Question(f"{d}.{q}", "What?", (Answer("granite", 13),)) for q in range(len(flags)))
        predictions = {
            question.id: Prediction(
                "granite" if right else "tower", no_answer_probability=no_answer[d][q] if no_answer else None
            )
            for q, (question, right) in enumerate(zip(questions, flags, strict=True))
        }
        scored += score_answers([Document(f"d{d}", TEXT, questions)], predictions)
    return scored


def test_equal_documents_give_the_binomial_distribution() -> None:
    """30 documents, 12 of them all right: a sample's number of right documents is binomial(30, 0.4).

    20,000 samples put the quantiles of this discrete distribution on its own, which scipy knows; each document has 4
    questions, which changes nothing.
    """
    scored = run_of([[1] * 4] * 12 + [[0] * 4] * 18)
    found = intervals(scored, None, num_samples=20_000, level=0.9)
    expected = [100 * stats.binom.ppf(q, 30, 0.4) / 30 for q in (0.05, 0.95)]
    assert found["exact"] == pytest.approx(tuple(expected))
    assert found["strict_exact"] == found["correct_has_answer"] == found["exact"]
    assert found["valid_json"] == (100.0, 100.0)
    assert "verbatim" in found
    assert not {"brier", "mean_passes", "correct_no_answer", "NoAns_exact"} & set(found)  # None on the data


def test_two_documents_of_unlike_length() -> None:
    """One question right, three wrong: a sample is 100, 25 or 0 percent with probability 1/4, 1/2, 1/4: a ratio of
    sums.
    """
    scored = run_of([[1], [0, 0, 0]])
    assert intervals(scored, None, level=0.4)["exact"] == (25.0, 25.0)
    assert intervals(scored, None, level=0.9)["exact"] == (0.0, 100.0)


def test_an_interval_that_ignores_documents_is_too_narrow() -> None:
    """Documents that stand or fall as a whole, 40 of 8 questions, right with probability 0.6; 100 data sets.

    By document the 95 % interval should hold the truth nearly as often (percentile intervals of 40 clusters: about 93
    %; 0.86 is almost three standard errors, 0.025, below). Drawn by question it is narrower by the square root of 8,
    and holds it with probability P(|Z| < 1.96 / 2.83) = 0.51.
    """
    generator = np.random.default_rng(5)
    held = {"document": 0, "question": 0}
    for seed in range(100):
        scored = run_of([[int(right)] * 8 for right in generator.random(40) < 0.6])
        by_document = intervals(scored, None, num_samples=200, seed=seed)["exact"]
        by_question = intervals(scored, None, num_samples=200, seed=seed, cluster=lambda a: a.question.id)["exact"]
        held["document"] += by_document[0] <= 60 <= by_document[1]
        held["question"] += by_question[0] <= 60 <= by_question[1]
    assert held["document"] / 100 > 0.86
    assert 0.36 < held["question"] / 100 < 0.66  # three standard errors, 0.05, around 0.51


def test_means_by_sums_equal_means_of_the_drawn_answers() -> None:
    """The quick way, by sums of documents, and the slow one, by the answers themselves, see the same draws."""
    generator = np.random.default_rng(1)
    scored = run_of([generator.integers(0, 2, size=generator.integers(1, 6)).tolist() for _ in range(20)])

    def slowly(drawn: Sequence[ScoredAnswer]) -> dict[str, float]:
        return {"drawn_f1": 100 * float(np.mean([answer.f1 for answer in drawn])), "drawn": float(len(drawn))}

    found = intervals(scored, slowly, num_samples=100)
    assert found["drawn_f1"] == pytest.approx(found["f1"])
    assert found["drawn"][0] < len(scored) < found["drawn"][1]  # documents of unlike length


def test_measures_that_are_no_means() -> None:
    """AUROC of 10 documents, each with an answerable and an unanswerable question, parted the same way in all: always
    3/4.

    No-answer probabilities: answerable 0.2, 0.6; unanswerable 0.4, 0.8: 3 of 4 pairs are in order, in every sample.
    """
    documents, predictions = [], {}
    for d in range(10):
        questions = tuple(Question(f"{d}.{q}", "What?", (Answer("granite", 13),) if q < 2 else ()) for q in range(4))
        documents.append(Document(f"d{d}", TEXT, questions))
        for question, probability in zip(questions, (0.2, 0.6, 0.4, 0.8), strict=True):
            predictions[question.id] = Prediction("", probability=0.75, no_answer_probability=probability)
    found = intervals(score_answers(documents, predictions), num_samples=50)
    assert found["auroc_answerable"] == pytest.approx((0.75, 0.75))
    assert found["aurc"] == pytest.approx((0.5, 0.5))
    assert found["ece"] == pytest.approx((0.25, 0.25))
    assert found["brier"] == pytest.approx(((0.75**2 + 0.25**2) / 2,) * 2)
    assert "median_passes" not in found


def test_the_seed_decides() -> None:
    generator = np.random.default_rng(3)
    scored = run_of([[int(right)] for right in generator.random(50) < 0.5])
    weights = {answer.question.id: generator.random() for answer in scored}

    def weight(drawn: Sequence[ScoredAnswer]) -> dict[str, float]:
        return {"weight": sum(weights[answer.question.id] for answer in drawn)}

    assert intervals(scored, weight, num_samples=50) == intervals(scored, weight, num_samples=50)
    assert intervals(scored, weight, num_samples=50) != intervals(scored, weight, num_samples=50, seed=1)


def test_one_document_teaches_nothing_about_others() -> None:
    scored = run_of([[1, 0, 1]])
    for ask in (lambda: intervals(scored), lambda: paired_difference(scored, scored), lambda: intervals([])):
        with pytest.raises(DataError, match="at least 2"):
            ask()


def test_a_run_against_itself() -> None:
    scored = run_of([[1, 0], [0, 0], [1, 1]])
    for difference in paired_difference(scored, scored[::-1], num_samples=50).values():
        assert difference == Difference(0.0, 0.0, 0.0, 1.0)


def test_a_paired_difference_is_binomial_too() -> None:
    """b is right where a is, and on 6 documents of 40 more: the difference of a sample is -binomial(40, 6/40)
    documents.

    No sample turns the order round; that of no difference at all has probability 0.85^40 = 0.0015. Each run alone
    varies with the 20 documents that both have right, which cancel in the pairs.
    """
    a = run_of([[1, 1]] * 20 + [[0, 0]] * 20)
    b = run_of([[1, 1]] * 26 + [[0, 0]] * 14)
    found = paired_difference(a, b, None, num_samples=20_000)["exact"]
    assert found.value == pytest.approx(-15.0)
    ends = [-100 * stats.binom.ppf(q, 40, 6 / 40) / 40 for q in (0.975, 0.025)]
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    # 2 (1 + k) / 20001 with k binomial(20000, 0.0015): three standard deviations.
    assert found.p == pytest.approx(
        2 * (1 + 20_000 * 0.85**40) / 20_001, abs=2 * 3 * (20_000 * 0.85**40) ** 0.5 / 20_001
    )
    turned = paired_difference(b, a, None, num_samples=20_000)["exact"]
    assert (turned.value, turned.low, turned.high, turned.p) == pytest.approx((15.0, -found.high, -found.low, found.p))
    alone = intervals(a, None)["exact"]
    assert alone[1] - alone[0] > 1.3 * (found.high - found.low)  # sqrt(0.25 / (0.15 * 0.85)) = 1.40


def test_p_counts_no_difference_on_both_sides() -> None:
    """One document of two better: samples are +2, +1, 0 documents with probability 1/4, 1/2, 1/4; so p is about 2 /
    4.
    """
    a, b = run_of([[1], [0]]), run_of([[0], [0]])
    found = paired_difference(a, b, None, num_samples=4000)["exact"]
    assert found.value == 50.0
    assert found.p == pytest.approx(0.5, abs=2 * 3 * (0.25 * 0.75 / 4000) ** 0.5)  # three standard deviations


def test_runs_on_other_questions_cannot_be_compared() -> None:
    with pytest.raises(DataError, match=r"question '1\.1'"):
        paired_difference(run_of([[1], [1, 0]]), run_of([[1], [1]]))
    with pytest.raises(DataError, match=r"question '1\.1'"):
        paired_difference(run_of([[1], [1]]), run_of([[1], [1, 0]]))
