"""Which pairs are drawn, with which probabilities, and that votes weighted by these estimate what they should."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from palmette.arena import bradley_terry
from palmette.arena.bradley_terry import Pairs
from palmette.arena.drawing import ALIKE, FIRST, DrawnPair, draw, draw_pair
from palmette.arena.events import Said, Shown
from palmette.arena.folder import AnswerPair
from palmette.arena.precision import falls
from palmette.arena.state import Tally

MODELS = ("a", "b", "c", "d", "e")
PAIRS = [frozenset(pair) for pair in itertools.combinations(MODELS, 2)]


def vote(tally: Tally, left: str, right: str, said: Said = "left", times: int = 1, prompt: str = "p") -> None:
    tally.count(Shown(prompt, left, right, "", "", 1.0), said, times)


def tally_of(votes: int, **more: int) -> Tally:
    """So many votes on every pair, half of them for each model, and more on some pairs: ab=9."""
    tally = Tally()
    for pair in PAIRS:
        left, right = sorted(pair)
        number = votes + more.get(left + right, 0)
        vote(tally, left, right, "left", number // 2)
        vote(tally, left, right, "right", number - number // 2)
    return tally


def frequencies(make: Callable[[], Any], number: int) -> tuple[Counter[Any], dict[Any, Any]]:
    """How often each pair of models is drawn, and what was said of it last."""
    drawn, stated = Counter[Any](), {}
    for _ in range(number):
        found = make()
        drawn[found.models] += 1
        stated[found.models] = found
    return drawn, stated


def check_frequencies(drawn: Counter[Any], share: Mapping[Any, float]) -> None:
    """Every share lies within four standard errors of what was said."""
    number = drawn.total()
    assert set(drawn) == set(share)
    for key, expected in share.items():
        error = (expected * (1 - expected) / number) ** 0.5
        assert abs(drawn[key] / number - expected) < 4 * error, key


def test_at_first_the_pairs_with_the_fewest_votes_come_with_the_same_probability() -> None:
    """Of six pairs one has votes and one is open before somebody else, so four are left: 1 in 4 each.

    Of two prompts one has a vote on c and d, so there the other comes. For the other pairs it is 1 in 8.
    """
    pairs = [frozenset(pair) for pair in itertools.combinations("abcd", 2)]
    possible = {
        pair: {name: AnswerPair(name, tuple(sorted(pair)), ("x", "y"), False, None) for name in "pq"}  # type: ignore[arg-type]
        for pair in pairs
    }
    tally, source = Tally(), random.Random(7)
    vote(tally, "a", "b", times=2)
    tally.keys["p", frozenset("cd")] = 1
    waiting = [Shown("p", "a", "c", "", "", 1.0)]
    prompts = Counter[Any]()

    def make() -> DrawnPair:
        found = draw(possible, tally, waiting, source)
        assert found is not None
        prompts[found[0].key] += 1
        return found[1]

    drawn, stated = frequencies(make, 20_000)
    check_frequencies(drawn, dict.fromkeys(pairs[2:], 0.25))
    assert {pair: found.probability for pair, found in stated.items()} == {
        **dict.fromkeys(pairs[2:], 1 / 8),
        frozenset("cd"): 1 / 4,
    }
    assert {found.weight for found in stated.values()} == {1.0}
    assert ("p", frozenset("cd")) not in prompts
    assert 0.45 < prompts["p", frozenset("bd")] / drawn[frozenset("bd")] < 0.55


def test_later_pairs_come_as_often_as_is_stored_and_weigh_the_inverse() -> None:
    tally, source = tally_of(FIRST, ab=40, cd=8), random.Random(3)
    drawn, stated = frequencies(lambda: draw_pair(PAIRS, tally, (), source), 4_000)
    check_frequencies(drawn, {pair: found.probability for pair, found in stated.items()})
    assert sum(found.probability for found in stated.values()) == pytest.approx(1.0)
    for found in stated.values():
        assert found.weight * found.probability * len(PAIRS) == pytest.approx(1.0)
        assert found.weight <= 1 / ALIKE
    least = min(stated.values(), key=lambda found: found.probability)
    assert least.models == frozenset("ab")  # it has 45 votes, and the others 5 or 13


def test_preferring_begins_after_five_votes_for_each_pair() -> None:
    source = random.Random(0)
    before, after = tally_of(FIRST, ab=-1), tally_of(FIRST)
    found = draw_pair(PAIRS, before, (), source)
    assert found is not None
    assert (found.models, found.probability) == (frozenset("ab"), 1.0)
    assert len(frequencies(lambda: draw_pair(PAIRS, after, (), source), 500)[0]) == len(PAIRS)
    assert draw_pair([], after, (), source) is None


def test_the_variance_falls_by_what_another_vote_takes_off_it() -> None:
    """By the inverse of the information with one vote more, and with one less: half of the difference, nearly.

    Information is a sum over votes. So the trace of its inverse, with the vote added at the same strengths, is what it
    would be after the vote.
    """
    tally = tally_of(FIRST, ab=11, ae=7, bc=3)
    strength = {model: 0.4 * index for index, model in enumerate(MODELS)}
    for pair in PAIRS:
        one, other = sorted(pair)
        number = tally.pairs[pair]
        share = 1.0 / (1.0 + np.exp(strength[other] - strength[one]))
        tally.wins[one, other], tally.wins[other, one] = number * share, number * (1.0 - share)

    def variance(extra: frozenset[str] | None) -> float:
        information = bradley_terry.RIDGE * np.eye(len(MODELS))
        for pair in PAIRS:
            x = np.array([(model == min(pair)) - float(model == max(pair)) for model in MODELS])
            p = 1.0 / (1.0 + np.exp(strength[max(pair)] - strength[min(pair)]))
            information += (tally.pairs[pair] + (pair == extra)) * p * (1.0 - p) * np.outer(x, x)
        return float(np.trace(np.linalg.inv(information)))

    expected = [variance(None) - variance(pair) for pair in PAIRS]
    # The prior draws the fitted strengths a little together, so they are not quite those that were put in.
    assert falls(PAIRS, tally) == pytest.approx(expected, rel=0.01)


def test_a_model_that_joins_later_comes_first() -> None:
    tally = tally_of(3 * FIRST)
    pairs = [*PAIRS, *(frozenset((model, "new")) for model in MODELS)]
    source = random.Random(1)
    drawn, _ = frequencies(lambda: draw_pair(pairs, tally, (), source), 400)
    of_new = sum(number for pair, number in drawn.items() if "new" in pair)
    # A third of the pairs: their even share of one half, and nearly all of the other. At the most 0.67 of all draws.
    assert 240 < of_new < 280


def simulated(win: Mapping[frozenset[str], float], votes: int, voters: int, source: random.Random) -> Pairs:
    """Votes on pairs as they are drawn. `win`: the probability that the first model of a pair by name wins."""
    tally, weights = Tally(), []
    columns: dict[str, list[Any]] = defaultdict(list)
    for _ in range(votes):
        found = draw_pair(PAIRS, tally, (), source)
        assert found is not None
        left, right = sorted(found.models)
        won = source.random() < win[found.models]
        vote(tally, left, right, "left" if won else "right")
        columns["left"].append(MODELS.index(left))
        columns["right"].append(MODELS.index(right))
        columns["won"].append(float(won))
        columns["voter"].append(source.randrange(voters))
        weights.append(found.weight)
    _, voter_N = np.unique(columns["voter"], return_inverse=True)
    weight_N = np.array(weights) / np.mean(weights)
    return Pairs(
        MODELS,
        np.array(columns["left"]),
        np.array(columns["right"]),
        np.array(columns["won"]),
        weight_N,
        np.empty((votes, 0)),
        voter_N,
    )


def test_weighted_estimates_cover_known_strengths() -> None:
    """Votes by known strengths on pairs that are drawn one after the other, where each draw depends on the votes."""
    true_M = np.array([1.2, 0.5, 0.0, -0.5, -1.2])
    win = {pair: _logistic(true_M[MODELS.index(min(pair))] - true_M[MODELS.index(max(pair))]) for pair in PAIRS}
    source, covered, errors, spread = random.Random(11), [], [], []
    for _ in range(80):
        pairs = simulated(win, 150, 150, source)
        assert np.ptp(pairs.weight_N) > 0.2  # some pairs are preferred
        found = bradley_terry.fit(pairs)
        error_M = np.sqrt(np.diag(bradley_terry.covariance(pairs, found)))
        covered += (np.abs(found.parameter_P - true_M) <= 1.96 * error_M).tolist()
        errors.append(found.parameter_P - true_M)
        spread.append(error_M)
    # 400 intervals, of which about 200 are independent: three standard errors.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.045)
    bias_M = np.mean(errors, axis=0)
    assert np.abs(bias_M).max() < 4 * np.std(errors, axis=0).max() / 80**0.5
    assert np.mean(spread, axis=0) == pytest.approx(np.std(errors, axis=0), rel=0.25)


def _logistic(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))


def test_weights_make_up_for_preferred_pairs_where_no_strengths_explain_who_wins() -> None:
    """a beats b, b beats c, and c beats a. Then an estimate depends on which pairs are voted on.

    What is wanted is what votes on all pairs alike would give, which is known here. Pairs are drawn with fixed shares
    of 8 to 4 to 1. Of 60,000 votes the weighted estimate lies near it, and the one without weights does not.
    """
    win = dict.fromkeys(PAIRS, 0.5) | {frozenset("ab"): 0.9, frozenset("bc"): 0.9, frozenset("ac"): 0.1}
    generator, number = np.random.default_rng(5), 60_000
    preferred = {frozenset("ab"): 8.0, frozenset("ac"): 4.0, frozenset("ad"): 4.0, frozenset("ae"): 4.0}
    share_K = np.array([preferred.get(pair, 1.0) for pair in PAIRS])
    share_K /= share_K.sum()
    drawn_N = generator.choice(len(PAIRS), number, p=share_K)
    won_N = (generator.random(number) < np.array([win[pair] for pair in PAIRS])[drawn_N]).astype(float)
    ends = np.array([[MODELS.index(end) for end in sorted(pair)] for pair in PAIRS])

    def fitted(index_N: Any, won: Any, weight_N: Any) -> Any:
        votes = Pairs(MODELS, ends[index_N, 0], ends[index_N, 1], won, weight_N, np.empty((len(won), 0)), index_N)
        return bradley_terry.fit(votes).parameter_P

    every = np.arange(len(PAIRS))
    wanted = fitted(every, np.array([win[pair] for pair in PAIRS]), np.full(len(PAIRS), number / len(PAIRS)))
    weight_N = 1.0 / share_K[drawn_N]
    weighted = fitted(drawn_N, won_N, weight_N / weight_N.mean())
    plain = fitted(drawn_N, won_N, np.ones(number))
    assert np.abs(weighted - wanted).max() < 0.04
    assert np.abs(plain - wanted).max() > 0.1
