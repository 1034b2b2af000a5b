"""A ranking of models from votes, with everything that says how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from palmette.arena import bradley_terry
from palmette.arena.bradley_terry import MEAN_RATING, RATING_PER_NAT, RIDGE, Fit, Pairs, Values
from palmette.arena.counting import counts, elo, win_rates
from palmette.arena.robustness import Flip, fewest_to_flip
from palmette.arena.style import FEATURES, contrast
from palmette.arena.voters import Flag, flags
from palmette.arena.votes import Vote
from palmette.errors import DataError
from palmette.evaluate.bootstrap import weighted_intervals
from palmette.numbers import count

Ties = Literal["half", "drop"]
_WON = {"left": 1.0, "right": 0.0, "tie": 0.5, "both bad": 0.5}
_TIED = ("tie", "both bad")
_FEW_VOTERS = 10
_TWO_SIDED = 1.959964  # standard errors of a 95 % interval


@dataclass(slots=True)
class ModelVotes:
    """The votes on one model, by what they said. `ties` are those that are not "both bad"."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def votes(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties + self.both_bad

    def only(self, kind: Literal["wins", "losses"], ties: Ties) -> bool:
        """Whether all votes that count are of one kind."""
        others = self.losses if kind == "wins" else self.wins
        return not others and (ties == "drop" or not self.ties + self.both_bad)


@dataclass(frozen=True, slots=True)
class RankedModel:
    """One model of a ranking. Ratings are on the scale of Elo, with a mean of 1000.

    Attributes:
        model: its name.
        ranks: its best and worst rank, if all differences lie in their simultaneous 95 % intervals.
        rating: its Bradley-Terry rating.
        interval: the 95 % interval by the sandwich with the votes of one person as one observation.
        interval_of_all: the interval that holds for all models together. It is wider.
        drawn: the 95 % interval by drawing voters with replacement. None where it was not asked for.
        tally: its votes, counted.
        count: wins and half of the ties, weighted.
        win_rate: the mean win rate over the models that it met.
        elo: Elo's rating after the votes in their order.
    """

    model: str
    ranks: tuple[int, int]
    rating: float
    interval: tuple[float, float]
    interval_of_all: tuple[float, float]
    drawn: tuple[float, float] | None
    tally: ModelVotes
    count: float
    win_rate: float
    elo: float


@dataclass(frozen=True, slots=True)
class Slope:
    """What a feature of style is worth to voters.

    Attributes:
        feature: one of `style.FEATURES`.
        points: rating points for one standard deviation more of it than the other answer has.
        low, high: the 95 % interval.
    """

    feature: str
    points: float
    low: float
    high: float


@dataclass(frozen=True)
class Leaderboard:
    """A ranking.

    Attributes:
        rows: the models, best first.
        slopes: what style is worth, for the features that differ in any vote. Empty without style control.
        num_votes, num_voters: how many there are. Votes of nobody in particular count as one voter each.
        together: whether the intervals take the votes of one person as one observation. There may be too few people.
        ties: what was done with ties.
        left_share: the share of left answers among those that won, with its 95 % interval over voters.
        tied, both_bad: shares of all votes.
        unbeaten, winless: models that never lost, or never won. Only the prior keeps them at a finite rating.
        flip: the votes that decide who is first. None if none were found among a third of them.
        flags: votes to look at.
        pair_wins: {model: {other: (wins and half of the ties, votes)}}.
    """

    rows: tuple[RankedModel, ...]
    slopes: tuple[Slope, ...]
    num_votes: int
    num_voters: int
    together: bool
    ties: Ties
    left_share: tuple[float, tuple[float, float] | None] | None
    tied: float
    both_bad: float
    unbeaten: tuple[str, ...]
    winless: tuple[str, ...]
    flip: Flip | None
    flags: tuple[Flag, ...]
    pair_wins: Mapping[str, Mapping[str, tuple[float, int]]]

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def cautions(self) -> Iterator[str]:
        """What weakens the ranking, in sentences."""
        if not self.together:
            yield (
                f"Only {count(self.num_voters, 'voter')} for {count(len(self.rows), 'model')}, so the intervals take "
                "every vote for independent and may be too narrow."
            )
        elif self.num_voters < _FEW_VOTERS:
            yield f"There are {self.num_voters} voters: with fewer than {_FEW_VOTERS} the intervals are too narrow."
        if self.left_share and (ends := self.left_share[1]) and not ends[0] <= 0.5 <= ends[1]:
            side = "left" if self.left_share[0] > 0.5 else "right"
            share = f"{100 * self.left_share[0]:.1f} % go to the left one"
            yield f"The {side} answer wins more often than chance explains: {share}."
        for names, what in ((self.unbeaten, "lost"), (self.winless, "won")):
            if names:
                yield f"Never {what}: {', '.join(names)}. Only the prior keeps the rating finite."


def rank(
    votes: Sequence[Vote],
    *,
    ties: Ties = "half",
    style: bool = False,
    ridge: float = RIDGE,
    num_samples: int = 300,
    seed: int = 0,
) -> Leaderboard:
    """Rank the models of some votes.

    Args:
        votes: the votes.
        ties: "half" takes a tie for half a win of each side, "drop" leaves ties out of the strengths.
        style: estimate the strengths at equal style. Every vote needs both styles.
        ridge: the precision of the prior, see `bradley_terry`.
        num_samples: how often voters are drawn for the second kind of interval. None of it with 0.
        seed: seed of the draws.

    Raises:
        DataError: the votes do not connect all models, a vote has no style where style is asked for, or there are none.
    """
    used, pairs = _used(votes, ties, style=style)
    found = bradley_terry.fit(pairs, ridge)
    covariance_PP = bradley_terry.covariance(pairs, found)
    size = len(pairs.models)
    drawn = _drawn(pairs, found, ridge, num_samples, seed)
    rows = _rows(votes, pairs, found, covariance_PP[:size, :size], drawn, seed)
    return Leaderboard(
        rows=rows,
        slopes=tuple(_slopes(pairs, found, covariance_PP)) if style else (),
        num_votes=len(used),
        num_voters=int(pairs.voter_N.max()) + 1,
        together=bradley_terry.is_sandwich(pairs, found),
        ties=ties,
        left_share=_left_share(votes),
        tied=_share(votes, lambda vote: vote.outcome in _TIED),
        both_bad=_share(votes, lambda vote: vote.outcome == "both bad"),
        unbeaten=tuple(row.model for row in rows if row.tally.only("wins", ties)),
        winless=tuple(row.model for row in rows if row.tally.only("losses", ties)),
        flip=fewest_to_flip(pairs, found, ridge),
        flags=tuple(flags(used, pairs, found, ridge)),
        pair_wins=_pair_wins(pairs),
    )


def order(votes: Sequence[Vote], *, ties: Ties = "half", style: bool = False, ridge: float = RIDGE) -> list[str]:
    """The models of some votes, best first, without anything that `rank` says about them. Its arguments and errors."""
    _, pairs = _used(votes, ties, style=style)
    strength_M = bradley_terry.fit(pairs, ridge).parameter_P[: len(pairs.models)]
    return [pairs.models[model] for model in np.argsort(-strength_M, kind="stable").tolist()]


def _used(votes: Sequence[Vote], ties: Ties, *, style: bool) -> tuple[list[Vote], Pairs]:
    """The votes that count, also as arrays."""
    used = [vote for vote in votes if ties == "half" or vote.outcome not in _TIED]
    if not used:
        raise DataError("there are no votes to rank models by", "Give votes that are not ties, or count ties as half.")
    pairs = _arrays(used, style=style)
    _check_connected(pairs)
    return used, pairs


def _arrays(votes: Sequence[Vote], *, style: bool) -> Pairs:
    models, number_S = bradley_terry.numbered([vote.left for vote in votes] + [vote.right for vote in votes])
    _, voter_N = bradley_terry.numbered([vote.voter or f"\0{index}" for index, vote in enumerate(votes)])
    return Pairs(
        models,
        number_S[: len(votes)],
        number_S[len(votes) :],
        np.array([_WON[vote.outcome] for vote in votes]),
        np.array([vote.weight for vote in votes]),
        _features(votes) if style else np.empty((len(votes), 0)),
        voter_N,
    )


def _features(votes: Sequence[Vote]) -> Values:
    """The contrasts of style [N, F], each divided by its standard deviation. A feature that never differs is left 0."""
    bare = next((vote for vote in votes if vote.styles is None), None)
    if bare is not None:
        raise DataError(
            f"vote {bare.id!r} does not hold its answers, so their style is unknown",
            "Give 'answer_a' and 'answer_b', or 'conversation_a' and 'conversation_b', in every row.",
        )
    contrast_NF = np.stack([contrast(*vote.styles) for vote in votes if vote.styles is not None])
    deviation_F = contrast_NF.std(axis=0)
    feature_NF: Values = np.divide(contrast_NF, deviation_F, out=np.zeros_like(contrast_NF), where=deviation_F > 0)
    return feature_NF


def _check_connected(pairs: Pairs) -> None:
    parts = bradley_terry.parts(pairs)
    if len(parts) > 1:
        named = "; ".join(
            ", ".join(part[:5]) + (f" and {len(part) - 5} more" if len(part) > 5 else "") for part in parts
        )
        raise DataError(
            f"the votes fall into {len(parts)} parts that never met: {named}",
            "Collect votes between them, or rank each part by itself.",
        )


def _drawn(pairs: Pairs, found: Fit, ridge: float, num_samples: int, seed: int) -> dict[str, tuple[float, float]]:
    def strengths(count_N: Any) -> dict[str, float | None]:
        sample = replace(pairs, weight_N=pairs.weight_N * count_N)
        parameter_P = bradley_terry.fit(sample, ridge, found.parameter_P).parameter_P
        return dict(zip(pairs.models, parameter_P.tolist(), strict=False))

    if not num_samples:
        return {}
    return weighted_intervals(list(map(str, pairs.voter_N)), strengths, num_samples=num_samples, seed=seed)


def _rows(
    votes: Sequence[Vote],
    pairs: Pairs,
    found: Fit,
    covariance_MM: Values,
    drawn: Mapping[str, tuple[float, float]],
    seed: int,
) -> tuple[RankedModel, ...]:
    size = len(pairs.models)
    strength_M, error_M = found.parameter_P[:size], np.sqrt(np.diag(covariance_MM))
    critical = bradley_terry.simultaneous(covariance_MM, seed)
    ranges = bradley_terry.rank_ranges(strength_M, covariance_MM, critical.differences)
    count_M, rate_M, elo_M = counts(pairs), win_rates(pairs), elo(pairs)
    tallies = _tallies(votes)

    def rating(strength: float) -> float:
        return float(MEAN_RATING + RATING_PER_NAT * strength)

    def ends(model: int, width: float) -> tuple[float, float]:
        return rating(strength_M[model] - width * error_M[model]), rating(strength_M[model] + width * error_M[model])

    rows = []
    for model in np.argsort(-strength_M, kind="stable").tolist():
        name = pairs.models[model]
        rows.append(
            RankedModel(
                model=name,
                ranks=ranges[model],
                rating=rating(strength_M[model]),
                interval=ends(model, _TWO_SIDED),
                interval_of_all=ends(model, critical.strengths),
                drawn=(rating(drawn[name][0]), rating(drawn[name][1])) if name in drawn else None,
                tally=tallies[name],
                count=float(count_M[model]),
                win_rate=float(rate_M[model]),
                elo=float(elo_M[model]),
            )
        )
    return tuple(rows)


def _tallies(votes: Sequence[Vote]) -> dict[str, ModelVotes]:
    found: dict[str, ModelVotes] = {}
    for vote in votes:
        for model, side in ((vote.left, "left"), (vote.right, "right")):
            tally = found.setdefault(model, ModelVotes())
            if vote.outcome == "tie":
                tally.ties += 1
            elif vote.outcome == "both bad":
                tally.both_bad += 1
            elif vote.outcome == side:
                tally.wins += 1
            else:
                tally.losses += 1
    return found


def _slopes(pairs: Pairs, found: Fit, covariance_PP: Values) -> Iterator[Slope]:
    for index in np.flatnonzero(bradley_terry.differs(pairs)).tolist():
        feature, index = FEATURES[index], index + len(pairs.models)
        value, width = found.parameter_P[index], _TWO_SIDED * float(covariance_PP[index, index]) ** 0.5
        yield Slope(feature, *(float(RATING_PER_NAT * end) for end in (value, value - width, value + width)))


def _left_share(votes: Sequence[Vote]) -> tuple[float, tuple[float, float] | None] | None:
    decided = [vote for vote in votes if vote.outcome not in _TIED]
    if not decided:
        return None
    left_N = np.array([vote.outcome == "left" for vote in decided], dtype=np.float64)

    def share(count_N: Any) -> dict[str, float | None]:
        return {"left": float(count_N @ left_N / count_N.sum()) if count_N.sum() else None}

    voters = [vote.voter or f"\0{index}" for index, vote in enumerate(decided)]
    return float(left_N.mean()), weighted_intervals(voters, share).get("left")


def _share(votes: Sequence[Vote], of: Callable[[Vote], bool]) -> float:
    return sum(map(of, votes)) / len(votes)


def _pair_wins(pairs: Pairs) -> dict[str, dict[str, tuple[float, int]]]:
    found: dict[str, dict[str, tuple[float, int]]] = {name: {} for name in pairs.models}
    for left, right, won in zip(pairs.left_N.tolist(), pairs.right_N.tolist(), pairs.won_N.tolist(), strict=True):
        for model, other, share in ((left, right, won), (right, left, 1.0 - won)):
            wins, number = found[pairs.models[model]].get(pairs.models[other], (0.0, 0))
            found[pairs.models[model]][pairs.models[other]] = (wins + share, number + 1)
    return found
