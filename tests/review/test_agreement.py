"""Agreement against another library and exact fractions, and simulations whose true agreement is known."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import krippendorff
import numpy as np
import pytest

from palmette.evaluate.kappa import cohen_kappa
from palmette.review.agreement import krippendorff_alpha, measure_agreement
from palmette.review.state import State, fold
from tests.support.reviewing import event, shown, verdict


def ratings(generator: np.random.Generator, people: int, units: int, kinds: int, missing: float) -> np.ndarray:
    """What people say about units [people, units], as numbers. NaN where nobody asked."""
    truth = generator.integers(kinds, size=units)
    said = np.where(generator.random((people, units)) < 0.7, truth, generator.integers(kinds, size=(people, units)))
    return np.where(generator.random((people, units)) < missing, np.nan, said)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("people", [2, 5])
def test_alpha_is_that_of_the_package_krippendorff(people: int, missing: float) -> None:
    generator = np.random.default_rng(people)
    for _ in range(20):
        table = ratings(generator, people, 30, 4, missing)
        units = [[int(value) for value in column if not np.isnan(value)] for column in table.T]
        expected = krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
        assert krippendorff_alpha(units) == pytest.approx(expected, abs=1e-12)


def test_kappa_is_that_of_exact_fractions() -> None:
    """(observed - expected) / (1 - expected), as Cohen (1960) has it, from the table of both people's verdicts."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = ratings(generator, 2, 25, 3, 0.0).astype(int).tolist()
        observed = Fraction(sum(a == b for a, b in zip(one, other, strict=True)), 25)
        rows, columns = Counter(one), Counter(other)
        expected = sum((Fraction(rows[kind] * columns[kind], 25 * 25) for kind in rows), Fraction(0))
        wanted = float((observed - expected) / (1 - expected))
        assert cohen_kappa(zip(one, other, strict=True)) == pytest.approx(wanted, abs=1e-12)


def test_kappa_of_fifty_proposals() -> None:
    """20 times both say yes, 15 times both no, and 5 and 10 times they differ: 0.7 observed, 0.5 expected, 0.4."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4, abs=1e-12)


def test_the_example_of_krippendorff() -> None:
    """Krippendorff (2011), section C: four observers, twelve units, nominal alpha 0.743."""
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in column if value is not None] for column in zip(*table, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_agreement_is_undefined_where_nothing_can_be_told_from_chance() -> None:
    assert krippendorff_alpha([["a"], ["b"]]) is None, "nobody was asked what another was"
    assert krippendorff_alpha([["a", "a", "a"]]) is None
    assert krippendorff_alpha([]) is None
    assert cohen_kappa([]) is None
    assert cohen_kappa([("a", "a")] * 3) is None
    with pytest.raises(ValueError, match="more than one value"):
        krippendorff.alpha(reliability_data=[[1, 1], [1, 1]], level_of_measurement="nominal")


def judged(right: list[dict[str, bool]]) -> State:
    """A review in which people found the suggestions of questions right or wrong."""
    events = []
    for number, given in enumerate(right):
        for name, good in given.items():
            question = f"q{number}"
            events.append(event("shown", name, question, id=len(events) + 1, shown=shown("7:40")))
            kind = "accept" if good else "reject"
            said = verdict(kind, "7:40" if good else None)
            events.append(event("verdict", name, question, id=len(events) + 1, verdict=said))
    return fold(events)


def test_alpha_of_a_review_is_what_the_simulation_gives_people() -> None:
    """Suggestions are right half of the time, and each person sees the truth with probability 0.9.

    Two people agree with probability 0.81 + 0.01 = 0.82, and by chance with 0.5. So alpha and kappa are 0.64.
    """
    generator = np.random.default_rng(1)
    truth = generator.random(4000) < 0.5
    state = judged([{name: bool(one == (generator.random() < 0.9)) for name in ("ann", "bob")} for one in truth])
    found = measure_agreement(state, {f"q{n}": f"d{n % 400}" for n in range(4000)}, num_samples=200)
    assert (found.num_questions, found.num_pairs) == (4000, 4000)
    assert found.measures["raw_verdict"].value == pytest.approx(0.82, abs=0.02)
    for measure in (found.measures["alpha_verdict"], found.kappa["ann", "bob"]):
        assert measure.value == pytest.approx(0.64, abs=0.04)
        assert measure.interval is not None
        low, high = measure.interval
        assert low < 0.64 < high
        assert high - low < 0.06


def test_intervals_cover_the_true_agreement_where_documents_differ() -> None:
    """In half of the documents two people always agree, in the other half they guess: clustered by construction.

    They agree with probability (1 + 0.5) / 2 = 0.75, by chance with 0.5, so alpha is 0.5. Of 100 reviews of 40
    documents with 8 questions at least 85 of the 95 % intervals must hold it (binomial at 0.93: P(fewer) < 0.005), and
    intervals that took questions as independent would hold it in far fewer.
    """
    generator = np.random.default_rng(2)
    documents, each = 40, 8
    covered = independent = 0
    for _ in range(100):
        guessed = generator.random(documents) < 0.5
        right = []
        for document in range(documents):
            for _ in range(each):
                first = bool(generator.random() < 0.5)
                right.append({"ann": first, "bob": bool(generator.random() < 0.5) if guessed[document] else first})
        state = judged(right)
        for by, counts in (("document", True), ("question", False)):
            clusters = {f"q{n}": f"{n // each if by == 'document' else n}" for n in range(documents * each)}
            interval = measure_agreement(state, clusters, num_samples=200).measures["alpha_verdict"].interval
            assert interval is not None
            inside = interval[0] <= 0.5 <= interval[1]
            covered += inside and counts
            independent += inside and not counts
    assert covered >= 85
    assert independent < covered - 10


def test_answers_are_compared_as_squad_does() -> None:
    """Exact match ignores the article; F1 of "boat" and "the red boat" is 2 * 1 * (1/2) / (3/2) = 2/3."""
    text = "the boat. the red boat."
    questions = {
        "same": ("the boat", "the boat"),
        "article": ("boat", "the boat"),
        "longer": ("boat", "the red boat"),
        "none": (None, None),
        "one": ("boat", None),
    }
    events = []
    for question, answers in questions.items():
        for name, answer in zip(("ann", "bob"), answers, strict=True):
            said = verdict("edit", answer, document=text) if answer else verdict("no_answer")
            events.append(event("verdict", name, question, id=len(events) + 1, verdict=said))
    found = measure_agreement(fold(events), dict.fromkeys(questions, "d"))
    values = {name: measure.value for name, measure in found.measures.items()}
    assert values["raw_answer"] == pytest.approx(2 / 5)
    assert values["exact"] == pytest.approx(3 / 5)
    assert values["f1"] == pytest.approx((1 + 1 + 2 / 3 + 1 + 0) / 5)
    assert values["raw_verdict"] is None, "nobody was shown a suggestion"
    assert all(measure.interval is None for measure in found.measures.values()), "one document"
