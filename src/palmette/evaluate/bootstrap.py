"""How far measures would move on other documents: intervals by the cluster bootstrap, for one run and for two compared.

The questions of one document are correlated, so documents are drawn with replacement, each with all of its questions
(Davison and Hinkley, 1997, section 3.8, and Field and Welsh, 2007). Measures that are means over questions need only
the sum and the count of each document, so a sample is a product of these with the drawn counts. Other measures are
computed again on the drawn questions. Both use the same draws.

Intervals are percentile intervals. They are somewhat narrow for fewer than about 30 documents, and they say nothing
about another seed of the training. A maximum or an absolute value (best_exact, ece) is biased upwards in the samples
too, so its interval may miss the measured value. Letters: N questions, D documents, M means, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palmette.errors import DataError
from palmette.evaluate.confidence import Values
from palmette.evaluate.squad_metrics import ScoredAnswer, question_values, whole_measures

Measure = Callable[[Sequence[ScoredAnswer]], Mapping[str, float | None]]
Cluster = Callable[[ScoredAnswer], str]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of one run less that of another on the same questions.

    Attributes:
        value: the difference, in the measure's unit.
        low, high: its interval.
        p: twice the share of samples in which the difference is 0 or has the other sign, both counts plus one:
            min(1, 2 (1 + k) / (1 + S)), where k of S samples are so. 1 if the difference is 0.
            It answers whether other documents could have reversed the order. It is no permutation test.
    """

    value: float
    low: float
    high: float
    p: float


def document_of(answer: ScoredAnswer) -> str:
    """The cluster of a question: its document."""
    return answer.document.id


def intervals(
    scored: Sequence[ScoredAnswer],
    measure: Measure | None = whole_measures,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    cluster: Cluster = document_of,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the means of `question_values`, and of what `measure` gives.

    A measure that is None on the data has no interval. Samples in which it is None do not count.

    Args:
        scored: answers with their scores.
        measure: measures that are not means over questions, called once for each sample with the drawn answers. With
            `whole_measures` a call takes 10 to 20 milliseconds for 12,000 answers. Only the means if None.
        num_samples: how often D documents are drawn from the D there are.
        seed: random seed. The same seed draws the same documents.
        level: the share of samples between the two ends.
        cluster: the unit that is drawn. Give `lambda answer: answer.document.title` to draw whole articles.

    Returns:
        {name: (low, high)} in the measures' units.

    Raises:
        DataError: fewer than two documents, from which nothing can be learned about others.
    """
    cluster_N, num_clusters = _clusters(scored, cluster)
    run = _Run(scored, measure, cluster_N, num_clusters)
    sample_SM = np.array([run.sample(draw) for draw in _draws(num_clusters, num_samples, seed)])
    found = {name: sample_S[~np.isnan(sample_S)] for name, sample_S in zip(run.values, sample_SM.T, strict=True)}
    return {name: _ends(sample_S, level) for name, sample_S in found.items() if sample_S.size}


def paired_difference(
    a: Sequence[ScoredAnswer],
    b: Sequence[ScoredAnswer],
    measure: Measure | None = whole_measures,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    cluster: Cluster = document_of,
) -> dict[str, Difference]:
    """Each measure of run a less that of run b, the documents of a sample being drawn once for both.

    Args:
        a: one run's answers with their scores.
        b: another's, to the same questions in any order.
        measure: see `intervals`.
        num_samples: see `intervals`.
        seed: see `intervals`.
        level: see `intervals`.
        cluster: see `intervals`.

    Returns:
        {name: difference} for the measures that both runs have.

    Raises:
        DataError: fewer than two documents, or questions that differ.
    """
    b = _aligned(a, b)
    cluster_N, num_clusters = _clusters(a, cluster)
    runs = [_Run(scored, measure, cluster_N, num_clusters) for scored in (a, b)]
    samples: tuple[list[Values], list[Values]] = ([], [])
    for draw in _draws(num_clusters, num_samples, seed):
        for run, sample in zip(runs, samples, strict=True):
            sample.append(run.sample(draw))
    sample_of_a, sample_of_b = (
        dict(zip(run.values, np.array(sample).T, strict=True)) for run, sample in zip(runs, samples, strict=True)
    )
    found = {}
    for name in sample_of_a.keys() & sample_of_b.keys():
        sample_S = sample_of_a[name] - sample_of_b[name]
        sample_S = sample_S[~np.isnan(sample_S)]
        if sample_S.size:
            found[name] = _difference(runs[0].values[name] - runs[1].values[name], sample_S, level)
    return {name: found[name] for name in runs[0].values if name in found}


def ratio_intervals(
    columns: Mapping[str, tuple[Values, Values]],
    documents: Sequence[str],
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of ratios of sums, documents being drawn with all that belongs to them.

    Two documents have one completion each, with the rewards 0 and 1. A quarter of the samples hold only the first one,
    and a quarter only the second.

    >>> ratio_intervals({"reward": (np.array([0.0, 1.0]), np.ones(2))}, ["a", "b"])
    {'reward': (0.0, 1.0)}

    Args:
        columns: the numerators and the denominators [N], by name. Every denominator is positive.
        documents: the document of each of the N.
        num_samples: see `intervals`.
        seed: see `intervals`.

    Returns:
        {} for fewer than two documents.
    """
    cluster_N, num_clusters = _numbered(documents)
    if num_clusters < 2:
        return {}
    of_DM, per_DM = (_sums(cluster_N, [pair[side] for pair in columns.values()], num_clusters) for side in (0, 1))
    draw_SD = np.array(list(_draws(num_clusters, num_samples, seed)))
    sample_SM = (draw_SD @ of_DM) / (draw_SD @ per_DM)
    ends_M2 = np.quantile(sample_SM, [0.025, 0.975], axis=0).T.tolist()
    return {name: (low, high) for name, (low, high) in zip(columns, ends_M2, strict=True)}


def weighted_intervals(
    clusters: Sequence[str],
    measure: Callable[[Indices], Mapping[str, float | None]],
    *,
    num_samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of anything that can be computed from how often each unit counts.

    >>> weighted_intervals(["a", "b"], lambda count_N: {"first": count_N[0] / count_N.sum()})
    {'first': (0.0, 1.0)}

    Args:
        clusters: the cluster of each of N units. Clusters are drawn with all of their units.
        measure: measures of a sample, of which it is given how often each unit was drawn [N].
        num_samples: see `intervals`.
        seed: see `intervals`.
        level: see `intervals`.

    Returns:
        {name: (low, high)}. Samples in which a measure is None do not count. {} for fewer than two clusters.
    """
    cluster_N, num_clusters = _numbered(clusters)
    if num_clusters < 2:
        return {}
    found: dict[str, list[float]] = {}
    for draw_D in _draws(num_clusters, num_samples, seed):
        for name, value in measure(draw_D[cluster_N]).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: _ends(np.array(values), level) for name, values in found.items()}


class _Run:
    """One run's measures, on the data (`values`) and on samples of its documents."""

    def __init__(
        self, scored: Sequence[ScoredAnswer], measure: Measure | None, cluster_N: Indices, num_clusters: int
    ) -> None:
        self._scored, self._measure, self._cluster_N = scored, measure, cluster_N
        columns = {name: value_N for name, value_N in question_values(scored).items() if not np.isnan(value_N).all()}
        self._sum_DM, self._count_DM = (
            _sums(cluster_N, kind, num_clusters)
            for kind in (
                [np.nan_to_num(value_N) for value_N in columns.values()],
                [1.0 - np.isnan(value_N) for value_N in columns.values()],
            )
        )
        means = self._means(np.ones(num_clusters, dtype=np.int64))
        self.values: dict[str, float] = dict(zip(columns, means.tolist(), strict=True))
        self._others = [
            (name, value)
            for name, value in (measure(scored) if measure else {}).items()
            if value is not None and name not in columns
        ]
        self.values |= dict(self._others)

    def sample(self, draw_D: Indices) -> Values:
        """The measures, in the order of `values`, with each cluster taken so many times. NaN where there is none."""
        means = self._means(draw_D)
        if not self._others or not self._measure:
            return means
        drawn = np.repeat(np.arange(len(self._scored)), draw_D[self._cluster_N])
        found = self._measure([self._scored[index] for index in drawn.tolist()])
        others = [found.get(name) for name, _ in self._others]
        return np.concatenate([means, np.array(others, dtype=np.float64)])

    def _means(self, draw_D: Indices) -> Values:
        sum_M, count_M = draw_D @ self._sum_DM, draw_D @ self._count_DM
        means: Values = np.divide(sum_M, count_M, out=np.full_like(sum_M, np.nan), where=count_M > 0)
        return means


def _draws(num_clusters: int, num_samples: int, seed: int) -> Iterator[Indices]:
    """How often each cluster is drawn, sample by sample."""
    generator = np.random.default_rng(seed)
    share = np.full(num_clusters, 1.0 / num_clusters)
    for _ in range(num_samples):
        yield generator.multinomial(num_clusters, share)


def _clusters(scored: Sequence[ScoredAnswer], cluster: Cluster) -> tuple[Indices, int]:
    """The number of each question's cluster, and how many there are."""
    cluster_N, num_clusters = _numbered([cluster(answer) for answer in scored])
    if num_clusters < 2:
        raise DataError(
            f"{num_clusters} documents among {len(scored)} questions: an interval needs at least 2",
            "Evaluate on more documents, or report the measures without intervals.",
        )
    return cluster_N, num_clusters


def _numbered(names: Sequence[str]) -> tuple[Indices, int]:
    """Names as numbers in the order in which they first appear, and how many different ones there are."""
    numbers: dict[str, int] = {}
    name_N = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return name_N, len(numbers)


def _sums(cluster_N: Indices, columns: Sequence[Values], num_clusters: int) -> Values:
    """The sum of each column over each cluster [D, M]."""
    return np.stack([np.bincount(cluster_N, value_N, num_clusters) for value_N in columns], axis=1)


def _aligned(a: Sequence[ScoredAnswer], b: Sequence[ScoredAnswer]) -> list[ScoredAnswer]:
    """The answers of b in the order of a."""
    ids_a, of_b = {answer.question.id for answer in a}, {answer.question.id: answer for answer in b}
    alone = next(
        (answer.question.id for answer in (*a, *b) if (answer.question.id in ids_a) != (answer.question.id in of_b)),
        None,
    )
    if alone is not None:
        raise DataError(
            f"question {alone!r} was put to only one of the two runs ({len(a)} and {len(b)} questions)",
            "Compare runs on the same data.",
        )
    aligned = [of_b[answer.question.id] for answer in a]
    for one, other in zip(a, aligned, strict=True):
        if (one.question, one.document.text) != (other.question, other.document.text):
            raise DataError(
                f"question {one.question.id!r} has another text, document or gold answer in the second run",
                "Compare runs on the same version of the data.",
            )
    return aligned


def _ends(sample_S: Values, level: float) -> tuple[float, float]:
    low, high = np.quantile(sample_S, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _difference(value: float, sample_S: Values, level: float) -> Difference:
    against = sample_S.size if value == 0 else int(np.sum(sample_S * value <= 0))
    return Difference(value, *_ends(sample_S, level), min(1.0, 2 * (1 + against) / (1 + sample_S.size)))
