"""Measures against numbers derived by hand, scipy, and simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from palmette.choice.compare import compare_results, mcnemar, paired_interval
from palmette.choice.measures import Outcome, by_subject, figure, figures, wilson
from palmette.choice.results import ITEMS, Result, outcome_record
from palmette.errors import RunError

SETTINGS = {
    "task": "choices",
    "task_sha256": "t",
    "rule": "lm-eval",
    "rendered": False,
    "shots": 0,
    "seed": None,
    "limit": None,
    "data": {"source": "a.jsonl", "sha256": "a"},
    "shots_data": None,
    "headline": "acc",
    "chat_template": False,
    "dtype": "float32",
}


def outcome(name: str, logprobs: tuple[float, ...], gold: int = 0, subject: str = "") -> Outcome:
    return Outcome(name, subject, gold, tuple("ab"[: len(logprobs)]), logprobs)


def test_lengths_count_characters_or_bytes() -> None:
    """-6 over 2 characters or 4 bytes, -4 over 2 of each: -3 and -1.5 against -2."""
    one = Outcome("1", "", 0, ("жю", "ab"), (-6.0, -4.0))
    assert [one.taken(name) for name in ("acc", "acc_norm", "acc_bytes")] == [1, 1, 0]


def test_mutual_information_subtracts_what_a_choice_has_alone() -> None:
    one = Outcome("1", "", 1, ("a", "b"), (-1.0, -2.0), (-1.5, -4.0))
    assert one.right("acc_mutual_info")
    assert not one.right("acc")


def test_ties_go_to_the_first() -> None:
    one = outcome("1", (-1.0, -1.0), gold=1)
    assert one.tied("acc")
    assert not one.right("acc")


def test_the_brier_score_of_even_odds() -> None:
    """Two choices of equal probability: (1/2)^2 + (1/2)^2 = 1/2."""
    assert outcome("1", (-700.0, -700.0)).brier == pytest.approx(0.5)


def test_wilson_is_scipy_and_covers() -> None:
    for right, number in ((0, 7), (3, 10), (50, 50), (421, 1000)):
        expected = stats.binomtest(right, number).proportion_ci(method="wilson")
        assert wilson(right / number, number) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_standard_error_is_that_of_the_sample() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    assert figure(values, "acc").stderr == pytest.approx(stats.sem(values))
    assert figure([1.0], "acc").stderr is None


def test_subjects_pool_by_their_sizes() -> None:
    """3 of 4 and 1 of 2 right: 4 of 6. Variances 0.25 and 0.5: sqrt((3 * 0.25 + 1 * 0.5) / 4 / 6)."""
    right, wrong = (-1.0, -2.0), (-2.0, -1.0)
    rows = [("x", right)] * 3 + [("x", wrong), ("y", right), ("y", wrong)]
    outcomes = [outcome(str(index), logprobs, subject=name) for index, (name, logprobs) in enumerate(rows)]
    found = figures(outcomes)["acc"]
    assert (found.value, found.number) == (pytest.approx(4 / 6), 6)
    assert found.stderr == pytest.approx(math.sqrt(1.25 / 4 / 6))
    assert {name: one["acc"].value for name, one in by_subject(outcomes).items()} == {"x": 0.75, "y": 0.5}


def results(changes: dict[str, object]) -> tuple[Result, Result]:
    a = tuple(outcome(str(index), (-1.0, -2.0) if index < 6 else (-2.0, -1.0)) for index in range(10))
    b = tuple(outcome(str(index), (-1.0, -2.0) if index > 2 else (-2.0, -1.0)) for index in range(10))
    return Result(SETTINGS, a), Result({**SETTINGS, **changes}, b)


def test_a_comparison_is_paired() -> None:
    """B wins items 6 to 9 and loses 0 to 2: 0.6 against 0.7. With one more of each among 12, 5/12 less 4/12."""
    found = compare_results(*results({"chat_template": True}))
    acc = next(one for one in found.compared if one.name == "acc")
    assert (acc.a, acc.b, acc.better) == (0.6, 0.7, "unclear")
    half = 1.959964 * math.sqrt((9 / 12 - (1 / 12) ** 2) / 12)
    assert (acc.low, acc.high) == pytest.approx((1 / 12 - half, 1 / 12 + half), abs=1e-6)
    assert acc.p == pytest.approx(stats.binomtest(3, 7).pvalue)
    assert [pair[0].id for pair in found.only_b] == ["6", "7", "8", "9"]
    assert [pair[0].id for pair in found.only_a] == ["0", "1", "2"]
    assert found.notes == ("B was asked through its chat template, and A was not.",)
    both = {"chat_template": True, "template_sha256": "a"}
    one, other = (results({**both, **more})[1] for more in ({}, {"template_sha256": "b"}))
    assert compare_results(one, one).notes == ()
    assert compare_results(one, other).notes == ("A and B have different chat templates.",)
    older = Result({key: value for key, value in one.settings.items() if key != "template_sha256"}, one.outcomes)
    assert compare_results(older, other).notes == compare_results(other, older).notes == ()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rule": "lighteval-cloze"}, "differ in their rule: 'lm-eval' and 'lighteval-cloze'"),
        ({"shots": 5}, "number of examples: 0 and 5"),
        ({"task": "piqa"}, "task"),
        ({"data": {"source": "b.jsonl", "sha256": "b"}}, "other items: a.jsonl and b.jsonl"),
    ],
)
def test_other_settings_are_not_compared(change: dict[str, object], named: str) -> None:
    with pytest.raises(RunError, match=named):
        compare_results(*results(change))


def test_the_interval_of_a_difference_covers_the_truth() -> None:
    """Both are right on an item with probabilities 0.6 and 0.5 that are dependent. 500 samples of 200 items."""
    draws, covered = np.random.default_rng(0), 0
    for _ in range(500):
        luck, own = draws.random(200), draws.random(200)
        a = tuple(outcome(str(i), (-1.0, -2.0) if x < 0.6 else (-2.0, -1.0)) for i, x in enumerate(luck))
        mixed = np.where(own < 0.5, luck, draws.random(200))
        b = tuple(outcome(str(i), (-1.0, -2.0) if x < 0.5 else (-2.0, -1.0)) for i, x in enumerate(mixed))
        acc = compare_results(Result(SETTINGS, a), Result(SETTINGS, b)).compared[0]
        covered += acc.low <= -0.1 <= acc.high
    assert 0.92 <= covered / 500 <= 0.98


def test_mcnemars_test_is_scipys() -> None:
    for won, lost in ((6, 0), (5, 0), (4, 3), (10, 2), (300, 260)):
        assert mcnemar(won, lost) == mcnemar(lost, won) == pytest.approx(stats.binomtest(won, won + lost).pvalue)
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(("number", "better"), [(1, "unclear"), (2, "unclear"), (5, "unclear"), (6, "B"), (60, "B")])
def test_a_few_items_that_all_go_one_way_decide_nothing(number: int, better: str) -> None:
    """Of five, all go one way with probability 2 / 32 by chance, of six with 2 / 64. Differences do not vary here."""
    a = tuple(outcome(str(i), (-2.0, -1.0)) for i in range(number))
    b = tuple(outcome(str(i), (-1.0, -2.0)) for i in range(number))
    acc, *_, brier = compare_results(Result(SETTINGS, a), Result(SETTINGS, b)).compared
    assert (acc.name, acc.difference, acc.better) == ("acc", 1.0, better)
    assert (brier.name, brier.low, brier.high, brier.better) == ("brier", None, None, "unclear")
    assert (acc.low is None) is (number < 2)
    if acc.low is not None and acc.high is not None:
        assert acc.high - acc.low > 0.01


def test_equal_models_are_seldom_told_apart() -> None:
    """Two models that are right with the same probability, on few items. At most 5 in 100 such pairs get a winner."""
    draws = np.random.default_rng(1)
    for number in (4, 8, 16, 40):
        winners = 0
        for won, lost, _ in draws.multinomial(number, [0.2, 0.2, 0.6], size=1000):
            low, high = paired_interval(int(won), int(lost), number)
            assert low is not None
            assert high is not None
            winners += (low > 0 or high < 0) and mcnemar(int(won), int(lost)) <= 0.05
        assert winners <= 60


def test_a_result_keeps_the_name_of_every_odd_item(tmp_path: Path) -> None:
    one = Result(
        {**SETTINGS, "title": "t"}, (outcome("1", (-1.0, -2.0)),), 1.0, {"merged": [str(i) for i in range(100)]}
    )
    (tmp_path / "settings.json").write_text(json.dumps(one.settings))
    (tmp_path / ITEMS).write_text(json.dumps(outcome_record(one.outcomes[0])) + "\n")
    one.write(tmp_path, [])
    assert Result.read(tmp_path).odd == one.odd
