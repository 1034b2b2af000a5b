"""What the log-probabilities of choices say: which choice a model takes, how often it is right, and how sure that is.

The definitions are lm-eval's (api/task.py, 0.4.13). `acc` takes the choice with the highest log-probability,
`acc_norm` the highest per character of the choice, `acc_bytes` per byte of its UTF-8 form, and `acc_mutual_info` the
one that gains most from its context. The first of equal choices counts. The Brier score is that of the probabilities
among the choices.
lighteval's `loglikelihood_acc_norm_nospace` is `acc_norm`: both leave out the blank before a choice.

The standard error is the sample's standard deviation over the root of the number of items. The 95 % interval of a share
is Wilson's (1927), which also holds near 0 and 1, and for the Brier score it is 1.96 standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")
BRIER = "brier"
Z = 1.959963984540054  # standard errors of a 95 % interval


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model makes of an item.

    Attributes:
        id: the name of the item.
        subject: its subject, or "".
        gold: the index of the right choice.
        choices: the texts of the choices.
        logprobs: the log-probability of each (nats).
        alone: that of each without its context. Empty if it was not measured.
    """

    id: str
    subject: str
    gold: int
    choices: tuple[str, ...]
    logprobs: tuple[float, ...]
    alone: tuple[float, ...] = ()

    def scores(self, measure: str) -> tuple[float, ...]:
        """The score of each choice by which a measure takes one.

        >>> one = Outcome("1", "", 0, ("four", "né"), (-4.0, -2.4))
        >>> one.scores("acc"), one.scores("acc_norm"), one.scores("acc_bytes")
        ((-4.0, -2.4), (-1.0, -1.2), (-1.0, -0.7999999999999999))
        """
        if measure == "acc_norm":
            return tuple(one / len(text) for one, text in zip(self.logprobs, self.choices, strict=True))
        if measure == "acc_bytes":
            return tuple(one / len(text.encode()) for one, text in zip(self.logprobs, self.choices, strict=True))
        if measure == "acc_mutual_info":
            return tuple(one - alone for one, alone in zip(self.logprobs, self.alone, strict=True))
        return self.logprobs

    def taken(self, measure: str) -> int:
        """The index of the choice that a measure takes."""
        scores = self.scores(measure)
        return scores.index(max(scores))

    def right(self, measure: str) -> bool:
        """Whether that is the right one."""
        return self.taken(measure) == self.gold

    def tied(self, measure: str) -> bool:
        """Whether another choice has the same score as the one that is taken."""
        scores = self.scores(measure)
        return scores.count(max(scores)) > 1

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each choice, if one of them is taken for certain."""
        most = max(self.logprobs)
        weights = [math.exp(one - most) for one in self.logprobs]
        return tuple(weight / math.fsum(weights) for weight in weights)

    @property
    def brier(self) -> float:
        """The squared distance of the probabilities from the truth: 0 is best, 2 is worst."""
        return math.fsum((p - (index == self.gold)) ** 2 for index, p in enumerate(self.probabilities))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over items.

    Attributes:
        value: the mean: a share from 0 to 1, or the Brier score from 0 to 2.
        stderr: its standard error. None for fewer than two items.
        low, high: its 95 % interval. None for fewer than two items.
        number: how many items there are.
    """

    value: float
    stderr: float | None
    low: float | None
    high: float | None
    number: int


def measures_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The measures that outcomes have."""
    mutual = all(outcome.alone for outcome in outcomes)
    return tuple(name for name in (*SHARES, BRIER) if mutual or name != "acc_mutual_info")


def figures(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Every measure over items, as if they were drawn independently.

    Over several subjects this is the mean weighted by their sizes, as lm-eval pools MMLU. Its standard error is the
    pooled one (see `pooled`).
    """
    subjects: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        subjects.setdefault(outcome.subject, []).append(outcome)
    found = {}
    for name in measures_of(outcomes):
        parts = [figure([value_of(outcome, name) for outcome in part], name) for part in subjects.values()]
        found[name] = parts[0] if len(parts) == 1 else pooled(parts, name)
    return found


def value_of(outcome: Outcome, measure: str) -> float:
    """What an item adds to a measure."""
    return outcome.brier if measure == BRIER else float(outcome.right(measure))


def figure(values: Sequence[float], measure: str) -> Figure:
    """The mean of values.

    >>> figure([1.0, 1.0, 0.0, 0.0], "acc").stderr
    0.28867513459481287
    """
    number, mean = len(values), math.fsum(values) / len(values)
    if number < 2:
        return Figure(mean, None, None, None, number)
    variance = math.fsum((value - mean) ** 2 for value in values) / (number - 1)
    return _figure(mean, math.sqrt(variance / number), number, measure)


def pooled(parts: Sequence[Figure], measure: str) -> Figure:
    """The mean over subjects, weighted by their sizes, with lm-eval's pooled standard error.

    It is the root of sum((n_s - 1) n_s e_s^2) / (n - S) / n, for S subjects of n_s items with standard errors e_s, and
    n items in all.
    """
    number = sum(part.number for part in parts)
    mean = math.fsum(part.value * part.number for part in parts) / number
    if number <= len(parts):
        return Figure(mean, None, None, None, number)
    spread = math.fsum((part.number - 1) * part.number * (part.stderr or 0.0) ** 2 for part in parts)
    return _figure(mean, math.sqrt(spread / (number - len(parts)) / number), number, measure)


def _figure(mean: float, stderr: float, number: int, measure: str) -> Figure:
    if measure == BRIER:
        return Figure(mean, stderr, max(mean - Z * stderr, 0.0), min(mean + Z * stderr, 2.0), number)
    low, high = wilson(mean, number)
    return Figure(mean, stderr, low, high, number)


def wilson(share: float, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    >>> [round(end, 4) for end in wilson(0.4, 10)]
    [0.1682, 0.6873]
    """
    spread = Z**2 / number
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / number + spread / (4 * number))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def by_subject(outcomes: Sequence[Outcome]) -> Mapping[str, dict[str, Figure]]:
    """The measures of each subject, in alphabetical order. Empty if there is only one."""
    names = sorted({outcome.subject for outcome in outcomes})
    if len(names) < 2:
        return {}
    return {name: figures([outcome for outcome in outcomes if outcome.subject == name]) for name in names}
