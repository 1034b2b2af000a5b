"""How far a judge agrees with people, and what it is swayed by.

The unit is a comparison: one question, one turn, two models. Where several people voted on it, most of them decide, and
it is a tie where no verdict has more votes than each other one. A verdict that was unread counts as one that nobody
agrees with. Intervals draw questions with replacement, each with all of its comparisons. Letters: N comparisons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from palmette.errors import DataError
from palmette.evaluate.bootstrap import weighted_intervals
from palmette.evaluate.kappa import weighted_kappa
from palmette.judge.pair_verdicts import ComparedTurn, PairVerdict
from palmette.judge.text import Choice

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Measure = Callable[[Counts], float | None]

FLOOR = 0.2  # that a judge's kappa must surely exceed
_CODE: dict[Choice | None, int] = {"A": 0, "B": 1, "tie": 2, None: 3}
_TIE, _UNREAD = 2, 3
_SHARE = np.array([1.0, 0.0, 0.5, np.nan])
_RIDGE = 0.01  # of a slope per nat of length: it stays finite where the longer answer always wins
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        value: its value. None if it is undefined.
        interval: its 95 % interval. None where there is none.
        number: how many verdicts or pairs it rests on.
    """

    value: float | None
    interval: tuple[float, float] | None
    number: int


Figures = dict[str, Figure]


@dataclass(frozen=True)
class Validation:
    """What is known of a judge.

    Attributes:
        judge: its name.
        comparisons: those that both the judge and people judged.
        only_judge, only_people: comparisons without the other.
        unread: verdicts of the judge that were unread, of all that it gave.
        figures: by name, see `validate`.
        floor: the least lower bound of kappa for leaderboards.
    """

    judge: str
    comparisons: int
    only_judge: int
    only_people: int
    unread: int
    figures: Mapping[str, Figure]
    floor: float

    @property
    def trusted(self) -> bool:
        """Whether the lower bound of kappa on decided comparisons reaches the floor.

        Ties are left out here, since a judge that knows none is not a worse one for that.
        """
        kappa = self.figures.get("kappa_decided")
        ends = kappa.interval if kappa is not None else None
        return ends is not None and ends[0] >= self.floor

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {**asdict(self), "trusted": self.trusted}


def validate(
    judged: Sequence[PairVerdict],
    voted: Sequence[PairVerdict],
    *,
    own: Collection[str] = (),
    floor: float = FLOOR,
    num_samples: int = 1000,
    seed: int = 0,
) -> Validation:
    """Compare a judge's verdicts with people's votes.

    - agreement, kappa: raw agreement and Cohen's kappa with the majority, ties being verdicts like others.
    - agreement_decided, kappa_decided: the same where neither side says tie. An unread verdict counts as a wrong one.
    - agreement_votes: agreement with each vote by itself, as the paper on MT-Bench counts.
    - agreement_people, agreement_people_decided: how far two people agree on one comparison.
    - inconsistent: share of all the judge's comparisons on which both orders led to different verdicts.
    - first: share of the first answer among the single verdicts that have a winner, in files with both orders.
      0.5 is no bias.
    - length_judge, length_people: log-odds of an answer that is e times as long as the other, by a logistic fit.
    - length_bias: the difference of both.
    - longer_agreement, longer_kappa: of "the longer one wins" with people, where people decided.
    - judge_agreement, judge_kappa: the judge's on the same comparisons.
    - own: how much more often the judge prefers its own models than people do, as a difference of win rates.

    Args:
        judged: the judge's verdicts, at most one on each comparison.
        voted: people's votes.
        own: models of the judge's own family, for self-preference.
        floor: see `Validation`.
        num_samples: samples of the bootstrap.
        seed: its seed.

    Raises:
        DataError: the judge judged a comparison twice, or none that people voted on.
    """
    by_judge, votes = _once(judged), _by_comparison(voted)
    shared = sorted(by_judge.keys() & votes.keys())
    if not shared:
        raise DataError(
            f"the judge's {len(by_judge)} comparisons and the people's {len(votes)} have none in common",
            "Questions, turns and models must have the same names in both files.",
        )
    table = _Table([by_judge[one] for one in shared], [votes[one] for one in shared], own)
    alone = {"inconsistent": _inconsistent(judged), "first": _first(judged)}
    figures = {
        **_figures(table.measures(), [one.question for one in shared], num_samples, seed),
        **_figures(alone, [one.compared.question for one in judged], num_samples, seed),
    }
    return Validation(
        ", ".join(sorted({one.judge for one in judged} - {""})),
        len(shared),
        len(by_judge) - len(shared),
        len(votes) - len(shared),
        sum(one.choice is None for one in judged),
        figures,
        floor,
    )


def _figures(
    found: Mapping[str, tuple[Measure, int]], questions: Sequence[str], num_samples: int, seed: int
) -> Figures:
    """Measures with their intervals, where each comparison belongs to a question."""
    measures = {name: measure for name, (measure, number) in found.items() if number}
    intervals = weighted_intervals(
        questions,
        lambda count_N: {name: measure(count_N) for name, measure in measures.items()},
        num_samples=num_samples,
        seed=seed,
    )
    ones, figures = np.ones(len(questions), dtype=np.int64), {}
    for name, measure in measures.items():
        value = measure(ones)
        figures[name] = Figure(value, None if value is None else intervals.get(name), found[name][1])
    return figures


def _once(judged: Sequence[PairVerdict]) -> dict[ComparedTurn, PairVerdict]:
    found: dict[ComparedTurn, PairVerdict] = {}
    for one in judged:
        if one.compared in found:
            about = one.compared
            raise DataError(
                f"the judge judged {about.models[0]} and {about.models[1]} twice on question {about.question}, "
                f"turn {about.turn}",
                "Give the verdicts of one judge, and both orders of a pair in one row (g1_winner, g2_winner).",
            )
        found[one.compared] = one
    return found


def _by_comparison(voted: Sequence[PairVerdict]) -> dict[ComparedTurn, list[PairVerdict]]:
    found: dict[ComparedTurn, list[PairVerdict]] = {}
    for one in voted:
        if one.choice is not None:
            found.setdefault(one.compared, []).append(one)
    return found


def _majority(votes: Sequence[PairVerdict]) -> Choice:
    counted = Counter(one.choice for one in votes).most_common(2)
    first = counted[0][0]
    return "tie" if first is None or (len(counted) > 1 and counted[0][1] == counted[1][1]) else first


class _Table:
    """Verdicts on N comparisons, arranged so that a sample needs sums only.

    Args:
        judged: the judge's verdict on each.
        voted: people's votes on each.
        own: models of the judge's family.
    """

    def __init__(
        self, judged: Sequence[PairVerdict], voted: Sequence[Sequence[PairVerdict]], own: Collection[str]
    ) -> None:
        self._judged, self._voted, self._own = judged, voted, own
        self._said_N = np.array([_CODE[one.choice] for one in judged])
        self._people_N = np.array([_CODE[_majority(votes)] for votes in voted])
        lengths = [
            next((one.lengths for one in (verdict, *votes) if one.lengths), None)
            for verdict, votes in zip(judged, voted, strict=True)
        ]
        self._longer_N = np.array([np.nan if two is None else np.log((two[0] + 1) / (two[1] + 1)) for two in lengths])

    def measures(self) -> dict[str, tuple[Measure, int]]:
        """Each measure as a function of how often each comparison counts, and what it rests on."""
        said, people = self._said_N, self._people_N
        everything = np.arange(len(said))
        decided = np.flatnonzero((said != _TIE) & (people != _TIE))
        found = {
            **_agreement("agreement", "kappa", said, people, everything),
            **_agreement("agreement_decided", "kappa_decided", said, people, decided),
            "agreement_votes": self._votes(),
            "agreement_people": self._people(ties=True),
            "agreement_people_decided": self._people(ties=False),
        }
        return {**found, **self._length(), **self._self_preference()}

    def _votes(self) -> tuple[Measure, int]:
        said = [(n, _CODE[one.choice] == self._said_N[n]) for n, votes in enumerate(self._voted) for one in votes]
        return _mean_of(said)

    def _people(self, *, ties: bool) -> tuple[Measure, int]:
        said = [
            (n, one.choice == other.choice)
            for n, votes in enumerate(self._voted)
            for one, other in combinations(votes, 2)
            if ties or "tie" not in (one.choice, other.choice)
        ]
        return _mean_of(said)

    def _length(self) -> dict[str, tuple[Measure, int]]:
        longer, said, people = self._longer_N, self._said_N, self._people_N
        known = np.flatnonzero(~np.isnan(longer) & (longer != 0.0))
        by_judge, by_people = (known[codes[known] < _TIE] for codes in (said, people))
        if not by_judge.size or not by_people.size:
            return {}
        of_judge, of_people = (_slope(longer, codes, at) for codes, at in ((said, by_judge), (people, by_people)))
        longest = np.where(longer > 0, _CODE["A"], _CODE["B"])
        both = by_people[said[by_people] != _TIE]

        def bias(count_N: Counts) -> float | None:
            one, other = of_judge(count_N), of_people(count_N)
            return None if one is None or other is None else one - other

        return {
            "length_judge": (of_judge, len(by_judge)),
            "length_people": (of_people, len(by_people)),
            "length_bias": (bias, len(known)),
            **_agreement("longer_agreement", "longer_kappa", longest, people, both),
            **_agreement("judge_agreement", "judge_kappa", said, people, both),
        }

    def _self_preference(self) -> dict[str, tuple[Measure, int]]:
        rows = []
        for n, verdict in enumerate(self._judged):
            mine = [model in self._own for model in verdict.compared.models]
            if sum(mine) == 1 and verdict.choice is not None:
                more = _SHARE[self._said_N[n]] - _SHARE[self._people_N[n]]
                rows.append((n, more if mine[0] else -more))
        return {"own": _mean_of(rows)}


def _agreement(raw: str, kappa: str, one_N: Counts, other_N: Counts, at: Counts) -> dict[str, tuple[Measure, int]]:
    """Agreement and kappa of two raters on some of the comparisons."""
    pair_K2 = np.stack([one_N[at], other_N[at]], axis=1)
    return {
        raw: _mean_of(list(zip(at.tolist(), (pair_K2[:, 0] == pair_K2[:, 1]).tolist(), strict=True))),
        kappa: (lambda count_N: weighted_kappa(pair_K2, count_N[at]), len(at)),
    }


def _mean_of(rows: Sequence[tuple[int, float]]) -> tuple[Measure, int]:
    """The mean of values that each belong to a comparison."""
    at = np.array([n for n, _ in rows], dtype=np.int64)
    value_K = np.array([value for _, value in rows], dtype=np.float64)

    def mean(count_N: Counts) -> float | None:
        total = int(count_N[at].sum())
        return float(count_N[at] @ value_K) / total if total else None

    return mean, len(rows)


def _inconsistent(judged: Sequence[PairVerdict]) -> tuple[Measure, int]:
    """Whether both orders led to different verdicts, where that is known."""
    if any(one.orders for one in judged):
        return _mean_of([(n, one.inconsistent) for n, one in enumerate(judged) if one.inconsistent is not None])
    if any(one.inconsistent for one in judged):  # files that only mark contradictions have no mark on the others
        return _mean_of([(n, bool(one.inconsistent)) for n, one in enumerate(judged) if one.choice is not None])
    return _mean_of([])


def _first(judged: Sequence[PairVerdict]) -> tuple[Measure, int]:
    """Whether the answer that was shown first won, for each single verdict with a winner."""
    said = []
    for n, one in enumerate(judged):
        if one.orders is not None:
            shown = ((one.orders.first, "A"), (one.orders.second, "B"))
            said += [(n, choice == first) for choice, first in shown if choice in ("A", "B")]
    return _mean_of(said)


def _slope(longer_N: Values, code_N: Counts, at: Counts) -> Measure:
    """The slope of a logistic fit of "A wins" on the log of the ratio of lengths, without an intercept."""
    x_K, won_K = longer_N[at], (code_N[at] == _CODE["A"]).astype(np.float64)

    def slope(count_N: Counts) -> float | None:
        weight_K = count_N[at]
        if not weight_K.any():
            return None
        value = 0.0
        for _ in range(_ROUNDS):
            p_K = 1.0 / (1.0 + np.exp(-value * x_K))
            step = (weight_K @ (x_K * (won_K - p_K)) - _RIDGE * value) / (
                weight_K @ (x_K**2 * p_K * (1.0 - p_K)) + _RIDGE
            )
            value += float(np.clip(step, -1.0, 1.0))
            if abs(step) < 1e-9:
                break
        return value

    return slope
