"""Votes to look at: the same vote twice, votes too fast to read anything, and people whose votes fit nobody.

They are flagged and stay in the ranking. Whoever looks at them decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist, median
from typing import Literal

import numpy as np

from palmette.arena.bradley_terry import Fit, Pairs, Values, fit, probabilities, score, subset
from palmette.arena.votes import Vote

# Somebody who gives so many votes, one every so many seconds at most on the median, reads no answers.
_BURST_VOTES, _BURST_SECONDS = 5, 3.0
_LEVEL = 0.01  # of all voters together that one who votes like the others is flagged as fitting nobody


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason to look at somebody's votes.

    Attributes:
        voter: who voted.
        kind: "repeated" for votes on a pair and prompt that this person had judged before, "fast", or "against all".
        votes: how many votes this is about.
        figure: for "fast" the median seconds between votes, for "against all" how many standard errors this person
            agrees less with the ranking by the others than the others do, and 0 for "repeated".
    """

    voter: str
    kind: Literal["repeated", "fast", "against all"]
    votes: int
    figure: float = 0.0


def flags(votes: Sequence[Vote], pairs: Pairs, found: Fit, ridge: float) -> list[Flag]:
    """All flags, by kind. Votes of nobody in particular have none.

    Args:
        votes: the votes.
        pairs: the same votes as arrays.
        found: the fit to them.
        ridge: the precision of its prior.
    """
    named = [index for index, vote in enumerate(votes) if vote.voter]
    by_voter: dict[str, list[int]] = {}
    for index in named:
        by_voter.setdefault(votes[index].voter, []).append(index)
    return [
        *_repeated(votes, by_voter),
        *_fast(votes, by_voter),
        *_against_all(pairs, found, ridge, by_voter),
    ]


def _repeated(votes: Sequence[Vote], by_voter: dict[str, list[int]]) -> Iterator[Flag]:
    for voter, indices in by_voter.items():
        asked = Counter(
            (frozenset((votes[index].left, votes[index].right)), votes[index].prompt)
            for index in indices
            if votes[index].prompt
        )
        again = sum(number - 1 for number in asked.values())
        if again:
            yield Flag(voter, "repeated", again)


def _fast(votes: Sequence[Vote], by_voter: dict[str, list[int]]) -> Iterator[Flag]:
    for voter, indices in by_voter.items():
        times = sorted(time for index in indices if (time := votes[index].time) is not None)
        if len(times) >= _BURST_VOTES:
            between = median(later - earlier for earlier, later in pairwise(times))
            if between <= _BURST_SECONDS:
                yield Flag(voter, "fast", len(times), between)


def _against_all(pairs: Pairs, found: Fit, ridge: float, by_voter: dict[str, list[int]]) -> Iterator[Flag]:
    """People whose votes agree less with the ranking by all others than chance explains.

    With p the probability that the left answer wins by the votes of the others, somebody who votes like them has an
    expected sum of (won - p) * (2 p - 1) of 0, and a variance of at most the sum of p * (1 - p) * (2 p - 1)^2. Ties
    only make it smaller.
    """
    if len(by_voter) < 3:
        return
    critical = NormalDist().inv_cdf(1.0 - _LEVEL / len(by_voter))
    for voter, indices in by_voter.items():
        if _agreement(pairs, indices, _nearly_without(pairs, found, indices)) < -critical / 2.0:
            deviations = _agreement(pairs, indices, _without(pairs, found, ridge, indices))
            if deviations < -critical:
                yield Flag(voter, "against all", len(indices), deviations)


def _agreement(pairs: Pairs, indices: Sequence[int], p_K: Values) -> float:
    """How much somebody's votes agree with given probabilities, in standard errors of somebody who votes by them."""
    variance = float(np.sum(p_K * (1.0 - p_K) * (2.0 * p_K - 1.0) ** 2))
    agreement = float(np.sum((pairs.won_N[indices] - p_K) * (2.0 * p_K - 1.0)))
    return agreement / variance**0.5 if variance > 0.0 else 0.0


def _nearly_without(pairs: Pairs, found: Fit, indices: Sequence[int]) -> Values:
    """The probabilities of some votes by the others, to first order: without fitting again [K]."""
    some = subset(pairs, indices)
    residual_K = some.weight_N * (some.won_N - found.probability_N[indices])
    return probabilities(some, found.parameter_P - found.inverse_PP @ score(some, residual_K))


def _without(pairs: Pairs, found: Fit, ridge: float, indices: Sequence[int]) -> Values:
    """The probabilities of some votes by a fit to the others [K]."""
    kept_N = np.ones(len(pairs.won_N))
    kept_N[indices] = 0.0
    left_out = replace(pairs, weight_N=pairs.weight_N * kept_N)
    return fit(left_out, ridge, found.parameter_P).probability_N[indices]
