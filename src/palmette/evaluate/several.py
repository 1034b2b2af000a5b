"""Several evaluations of the same questions: which is best, and which of the others are no worse for certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palmette.evaluate.bootstrap import Difference, document_of, paired_difference
from palmette.evaluate.holm import holm
from palmette.evaluate.squad_metrics import ScoredAnswer, summarize

_SAMPLES = 4000  # a p is at least 2 / (samples + 1), and Holm's correction multiplies it


@dataclass(frozen=True, slots=True)
class Standing:
    """One of several evaluations.

    Attributes:
        name: its name.
        value: its measure.
        difference: this one less the best one, paired by document. None for the best itself, and for fewer than two
            documents.
        p: the p of the difference after Holm's correction for as many comparisons as there are others. None where there
            is no difference.
    """

    name: str
    value: float
    difference: Difference | None
    p: float | None

    @property
    def worse(self) -> bool:
        """Whether it is worse than the best one beyond what other documents could reverse, at 5 % for all together."""
        return self.p is not None and self.p <= 0.05


def standings(
    evaluations: Mapping[str, Sequence[ScoredAnswer]], measure: str = "exact", *, seed: int = 0
) -> list[Standing]:
    """Evaluations of the same questions, best first, each compared with the best one.

    The best one was chosen by these very questions, so its own figure is too good. Measure it on others.

    Args:
        evaluations: the answers of each, by its name.
        measure: a mean over questions, such as "exact" or "f1", of which more is better.
        seed: seed of the bootstrap.

    Raises:
        DataError: the questions differ.
    """
    values = {name: float(summarize(scored)[measure] or 0.0) for name, scored in evaluations.items()}
    order = sorted(values, key=lambda name: -values[name])
    best, others = order[0], order[1:]
    several = len({document_of(answer) for answer in evaluations[best]}) > 1
    found = {
        name: paired_difference(evaluations[name], evaluations[best], None, num_samples=_SAMPLES, seed=seed)[measure]
        for name in (others if several else ())
    }
    adjusted = dict(zip(found, holm([difference.p for difference in found.values()]), strict=True))
    return [Standing(name, values[name], found.get(name), adjusted.get(name)) for name in order]
