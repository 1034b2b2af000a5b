"""How far people agree, corrected for chance, with intervals over documents.

Krippendorff's alpha for nominal data (Krippendorff, 2011, "Computing Krippendorff's alpha-reliability") takes any
number of people and missing verdicts. Cohen's kappa (`evaluate/kappa.py`) is for two people. Both are 1 for full
agreement and 0 for what chance gives. They are undefined (None) where everybody always says the same, since nothing
then tells agreement from habit. The raw share of agreement beside them still says something there. Letters: U units,
C categories, N pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from palmette.evaluate.bootstrap import weighted_intervals
from palmette.evaluate.kappa import weighted_kappa
from palmette.review.state import Judgement, State
from palmette.tasks.answer_match import exact_match, token_f1

Counts = npt.NDArray[np.int64]
Interval = tuple[float, float]
_KAPPA = "kappa of "


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of agreement.

    Attributes:
        value: its value. None if it is undefined.
        interval: its 95 % interval. None with fewer than two documents, or where the value is None.
    """

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far people agree.

    Attributes:
        num_questions: questions with verdicts of two people or more.
        num_pairs: pairs of verdicts of two people on one question.
        measures: by name, see `measure_agreement`.
        kappa: Cohen's kappa of each two people, on whether the suggestion is right.
    """

    num_questions: int
    num_pairs: int
    measures: Mapping[str, Measure]
    kappa: Mapping[tuple[str, str], Measure]


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal data.

    Args:
        units: the categories that people gave each unit. Units with fewer than two do not count.

    >>> krippendorff_alpha([["a", "a"], ["b", "b"]]), krippendorff_alpha([["a", "a"], ["a", "a"]])
    (1.0, None)
    """
    count_UC = _counts(units)
    return _alpha(count_UC, np.ones(len(count_UC), dtype=np.int64))


def measure_agreement(
    state: State, documents: Mapping[str, str], *, num_samples: int = 1000, seed: int = 0
) -> Agreement:
    """Measure how far the verdicts of a review agree.

    - raw_verdict: share of pairs that agree on whether the suggestion is right.
    - alpha_verdict: Krippendorff's alpha of the same.
    - raw_answer: share of pairs with the same answer, letter for letter, among pairs in which both gave one.
    - alpha_answer: Krippendorff's alpha of the same. Answers to different questions are seldom equal by chance, so it
      is near raw_answer.
    - exact, f1: the SQuAD scores of one answer against the other, 0 to 1. "No answer" is an answer.

    Args:
        state: the state of the review.
        documents: the document of each question, which is what intervals draw.
        num_samples: samples of the bootstrap.
        seed: random seed of the bootstrap.
    """
    by_question: dict[str, list[Judgement]] = {}
    for (_, question), judged in sorted(state.judgements.items()):
        by_question.setdefault(question, []).append(judged)
    shared = {question: judged for question, judged in by_question.items() if len(judged) > 1}
    table = _Table(list(shared.values()))
    clusters = [documents[question] for question in shared]
    values = table.measures(np.ones(len(shared), dtype=np.int64))
    intervals = weighted_intervals(clusters, table.measures, num_samples=num_samples, seed=seed)
    found = {name: Measure(value, None if value is None else intervals.get(name)) for name, value in values.items()}
    pairs = {name: name.removeprefix(_KAPPA).split("\n") for name in found if name.startswith(_KAPPA)}
    return Agreement(
        len(shared),
        sum(len(judged) * (len(judged) - 1) // 2 for judged in shared.values()),
        {name: measure for name, measure in found.items() if name not in pairs},
        {(one, other): found[name] for name, (one, other) in pairs.items()},
    )


class _Table:
    """The verdicts of questions with several, arranged so that a sample needs sums only.

    Args:
        judged: the verdicts on each of U questions.
    """

    def __init__(self, judged: Sequence[Sequence[Judgement]]) -> None:
        self._right_UC = _counts([[one.right for one in unit if one.right is not None] for unit in judged])
        self._label_UC = _counts([[one.label for one in unit if one.label is not None] for unit in judged])
        right: list[tuple[int, bool, bool]] = []
        answers: list[tuple[int, float, float, float]] = []
        of_two: dict[tuple[str, str], list[tuple[int, bool, bool]]] = {}
        for unit, given in enumerate(judged):
            for one, other in combinations(given, 2):
                if one.right is not None and other.right is not None:
                    right.append((unit, one.right, other.right))
                    of_two.setdefault((one.event.annotator, other.event.annotator), []).append(right[-1])
                if (a := one.label) is not None and (b := other.label) is not None:
                    answers.append((unit, float(a == b), exact_match(a, [b]), token_f1(a, [b])))
        self._right = np.array(right, dtype=np.int64).reshape(-1, 3)
        self._answers = np.array(answers, dtype=np.float64).reshape(-1, 4)
        self._of_two = {names: np.array(pairs, dtype=np.int64) for names, pairs in of_two.items()}

    def measures(self, weight_U: Counts) -> dict[str, float | None]:
        """All measures, where each question counts so many times."""
        agree_N = (self._right[:, 1] == self._right[:, 2]).astype(np.float64)
        answered_N = weight_U[self._answers[:, 0].astype(np.int64)]
        found = {
            "raw_verdict": _mean(agree_N, weight_U[self._right[:, 0]]),
            "alpha_verdict": _alpha(self._right_UC, weight_U),
            "raw_answer": _mean(self._answers[:, 1], answered_N),
            "alpha_answer": _alpha(self._label_UC, weight_U),
            "exact": _mean(self._answers[:, 2], answered_N),
            "f1": _mean(self._answers[:, 3], answered_N),
        }
        kappas = {
            f"{_KAPPA}{one}\n{other}": weighted_kappa(said[:, 1:], weight_U[said[:, 0]])
            for (one, other), said in self._of_two.items()
        }
        return {**found, **kappas}


def _counts(units: Iterable[Sequence[Hashable]]) -> Counts:
    """How many people gave each unit each category [U, C]."""
    given = list(units)
    number: dict[Hashable, int] = {}
    for unit in given:
        for category in unit:
            number.setdefault(category, len(number))
    count_UC = np.zeros((len(given), len(number)), dtype=np.int64)
    for row, unit in enumerate(given):
        for category in unit:
            count_UC[row, number[category]] += 1
    return count_UC


def _alpha(count_UC: Counts, weight_U: Counts) -> float | None:
    """Krippendorff's alpha by the coincidences of values: those of a unit with m values count 1 / (m - 1) each."""
    number_U = count_UC.sum(1)
    paired_U = number_U > 1
    count_UC, number_U, weight_U = count_UC[paired_U], number_U[paired_U], weight_U[paired_U]
    total_C = weight_U @ count_UC
    total = float(total_C.sum())
    if total < 2:
        return None
    agreeing = float(weight_U @ ((count_UC * (count_UC - 1)).sum(1) / (number_U - 1)))
    expected = float((total_C * (total_C - 1)).sum()) / (total - 1)
    if expected >= total:
        return None  # one category alone
    return 1.0 - (total - agreeing) / (total - expected)


def _mean(value_N: npt.NDArray[np.float64], weight_N: Counts) -> float | None:
    """The mean of values, each counting so many times."""
    total = int(weight_N.sum())
    return float(weight_N @ value_N) / total if total else None
