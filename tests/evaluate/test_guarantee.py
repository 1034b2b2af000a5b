"""The guarantee: it holds in simulations with a known truth, of independent answers and of clustered ones."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from palmette.errors import DataError
from palmette.evaluate.clustered import design_effect, effective_size
from palmette.evaluate.guarantee import JudgedAnswer, choose_threshold, smallest_sample


@pytest.mark.parametrize(("target", "confidence"), [(0.05, 0.95), (0.2, 0.9), (0.01, 0.99)])
def test_the_smallest_sample_is_the_smallest(target: float, confidence: float) -> None:
    size = smallest_sample(target, confidence)
    assert (1 - target) ** size <= 1 - confidence < (1 - target) ** (size - 1)


def simulate(generator: np.random.Generator, size: int, slope: float) -> list[JudgedAnswer]:
    """Answers whose chance to be wrong falls with their confidence: (1 - confidence)^slope."""
    confidence = generator.uniform(size=size)
    wrong = generator.uniform(size=size) < (1 - confidence) ** slope
    return [JudgedAnswer(float(c), bool(w), str(i)) for i, (c, w) in enumerate(zip(confidence, wrong, strict=True))]


def true_error(threshold: float, slope: float) -> float:
    """E[(1 - c)^slope | c >= threshold] for uniform c: (1 - threshold)^slope / (slope + 1)."""
    return (1 - threshold) ** slope / (slope + 1)


@pytest.mark.parametrize(("slope", "target", "size"), [(2.0, 0.1, 400), (1.0, 0.2, 400), (4.0, 0.05, 400)])
def test_the_promise_holds(slope: float, target: float, size: int) -> None:
    """Of 1,000 calibrations at 90 % confidence at most about 100 may break it; 4 standard deviations above are 138.

    It is not kept by never answering: most calibrations find a threshold, and it is not far from the best one.
    """
    generator = np.random.default_rng(5)
    broken, found = 0, []
    for _ in range(1000):
        halves = simulate(generator, size, slope), simulate(generator, size, slope)
        try:
            guarantee = choose_threshold(*halves, target, 0.9)
        except DataError:
            continue
        found.append(guarantee.min_confidence)
        broken += true_error(guarantee.min_confidence, slope) > target
    assert broken <= 138
    assert len(found) > 700
    ideal = 1 - (target * (slope + 1)) ** (1 / slope)
    assert ideal < np.median(found) < ideal + 0.25


def test_a_promise_that_cannot_be_kept_is_refused() -> None:
    """Half of all answers are wrong whatever their confidence."""
    generator = np.random.default_rng(6)
    coins = [
        [JudgedAnswer(float(c), bool(w > 0.5), str(i)) for i, (c, w) in enumerate(generator.uniform(size=(300, 2)))]
        for _ in range(2)
    ]
    with pytest.raises(DataError, match=r"no threshold is shown to keep the promise: .* answers were wrong"):
        choose_threshold(*coins, 0.05, 0.95)


def sure(answers: int, documents: int) -> list[JudgedAnswer]:
    """Right answers, as evenly spread over documents as they can be."""
    return [JudgedAnswer(0.9, False, str(number % documents)) for number in range(answers)]


def test_too_small_a_set_is_refused_with_the_number_it_needs() -> None:
    with pytest.raises(DataError, match=r"at least 59 independent ones .* halves have 58 in 58 documents \(worth 58\)"):
        choose_threshold(sure(58, 58), sure(58, 58), 0.05, 0.95)
    enough = choose_threshold(sure(59, 59), sure(59, 59), 0.05, 0.95)
    assert (enough.num_answered, enough.num_wrong, enough.num_documents, enough.design_effect) == (59, 0, 59, 1.0)
    for target, confidence in ((0.0, 0.95), (0.05, 1.0)):
        with pytest.raises(DataError, match="Give a number between 0 and 1"):
            choose_threshold(sure(60, 60), sure(60, 60), target, confidence)


def test_answers_of_few_documents_are_worth_less() -> None:
    """200 answers of 40 documents: 1 + 4 * 0.1 = 1.4, and (1.6525 / 1.6849)^2 for the t quantiles: 200 / 1.4 * 0.9620.

    The quantiles are those of printed tables: t_{0.95} is 1.653 with 199 degrees of freedom and 1.685 with 39.
    """
    assert effective_size(200, 40, 1.4, 0.95) == pytest.approx(200 / 1.4 * (1.653 / 1.685) ** 2, rel=2e-3)
    made = choose_threshold(sure(200, 40), sure(200, 40), 0.05, 0.95)
    assert (made.num_documents, made.design_effect) == (40, 1.4)
    with pytest.raises(DataError, match=r"at least 20 documents, and the halves have 2000 in 19 documents"):
        choose_threshold(sure(2000, 19), sure(2000, 19), 0.05, 0.95)


def test_the_design_effect_of_documents_that_are_all_right_or_all_wrong() -> None:
    """Ten documents of 4 answers, 5 of them wrong as a whole: the variance is that of 10 answers, not of 40.

    By documents 0.25 / 9, and for independent answers 0.25 / 39, so the design effect is 39 / 9.
    """
    wrong_D, answered_D = np.array([4, 0] * 5), np.full(10, 4)
    assert design_effect(wrong_D, answered_D) == pytest.approx(39 / 9)


def clustered(generator: np.random.Generator, documents: int, risk: float, correlation: float) -> list[JudgedAnswer]:
    """Documents of 1 + Poisson(4) answers. Whether they are wrong is beta-binomial, whatever their confidence."""
    size_D = 1 + generator.poisson(4, size=documents)
    odds = (1 - correlation) / correlation if correlation else 0.0
    risk_D = generator.beta(risk * odds, (1 - risk) * odds, documents) if correlation else np.full(documents, risk)
    document_A = np.repeat(np.arange(documents), size_D)
    confidence_A, draw_A = generator.uniform(size=(2, len(document_A)))
    return [
        JudgedAnswer(float(c), bool(u < risk_D[d]), str(d))
        for c, u, d in zip(confidence_A, draw_A, document_A, strict=True)
    ]


def passes(documents: int, risk: float, correlation: float, repeats: int) -> float:
    """The share of calibrations that promise at most 10 % wrong with 95 % confidence, at a true share of wrong ones."""
    generator, count = np.random.default_rng(11), 0
    for _ in range(repeats):
        parts = [clustered(generator, documents, risk, correlation) for _ in range(2)]
        with contextlib.suppress(DataError):
            choose_threshold(parts[0], parts[1], 0.1, 0.95)
            count += 1
    return count / repeats


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("documents", [25, 60])
def test_the_promise_holds_where_the_answers_of_a_document_are_alike(documents: int, correlation: float) -> None:
    """The true share of wrong answers is just above the target, so every calibration that succeeds breaks the promise.

    Of 500 at most 5 % may, and 3 standard deviations above are 7.9 %. With independent answers assumed it is 8 to 14 %.
    """
    assert passes(documents, 0.1001, correlation, 500) <= 0.079


def test_power_is_kept_where_answers_are_independent() -> None:
    """At a quarter of the target's errors and 60 documents of 5 answers, nearly every calibration succeeds."""
    assert passes(60, 0.025, 0.0, 100) >= 0.95
