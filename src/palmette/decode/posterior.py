"""What a search found, on one scale over all windows of a document, and what to decide from it.

Everything is said as odds against "?" (the document does not answer): in one window the odds of a span are P(span) / P("?"). They
need no normaliser, so windows can be merged. A document has several windows; the answer stands in one of them or nowhere, and what a
window says is taken to be independent of the others: then the odds of a string add up over the windows, and "?" has odds 1. With one
window this is the model's own distribution over the allowed spans and "?".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from palmette.decode.prediction import Candidate, Prediction

NUM_CANDIDATES = 5


def log_sum_exp(values: Iterable[float]) -> float:
    """log(sum(exp(values))); -inf for none.

    >>> round(math.exp(log_sum_exp([math.log(2), math.log(3)])), 9)
    5.0
    """
    found = list(values)
    top = max(found, default=-math.inf)
    return top + math.log(sum(math.exp(value - top) for value in found)) if top > -math.inf else top


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What the search of one window found.

    Attributes:
        spans: {text: (first place in the document, log odds against "?")} of the scored spans.
        frontier: log odds of each branch that was not looked into.
        num_passes: forward passes taken.
    """

    spans: dict[str, tuple[int, float]]
    frontier: tuple[float, ...]
    num_passes: int


@dataclass(frozen=True, slots=True)
class SpanPosterior:
    """The scored spans of a document for one question.

    Attributes:
        spans: (text, first place, log odds against "?"), best first.
        unscored: log odds of all that was not looked into, together, from above.
        bound: log odds that no string can exceed which is not among `spans`.
        excess: log odds of what a scored span may gain from windows that did not score it, from above.
        num_passes: forward passes until the decision; of the window that took most.
    """

    spans: tuple[tuple[str, int, float], ...]
    unscored: float
    bound: float
    excess: float
    num_passes: int

    @classmethod
    def merge(cls, windows: Sequence[WindowScores]) -> SpanPosterior:
        """Put the windows of a document together."""
        places: dict[str, int] = {}
        odds: dict[str, list[float]] = {}
        for window in windows:
            for text, (start, value) in window.spans.items():
                places[text] = min(start, places.get(text, start))
                odds.setdefault(text, []).append(value)
        spans = [(text, places[text], log_sum_exp(values)) for text, values in odds.items()]
        spans.sort(key=lambda span: (-span[2], span[1], len(span[0])))
        tops = [max(window.frontier, default=-math.inf) for window in windows]
        return cls(
            spans=tuple(spans),
            unscored=log_sum_exp(value for window in windows for value in window.frontier),
            bound=log_sum_exp(tops),
            # Within one window the strings are distinct: what is scored is scored.
            excess=log_sum_exp(tops) if len(windows) > 1 else -math.inf,
            num_passes=max(window.num_passes for window in windows),
        )

    @property
    def best(self) -> float:
        """Log odds of the best scored span."""
        return self.spans[0][2] if self.spans else -math.inf

    def proves(self, *, answers: bool) -> bool:
        """Whether scoring every allowed span could not change the answer.

        Args:
            answers: whether the best span is given; then it is proved to be the most probable span. Else what is proved is which of
                the spans and "?" is most probable.
        """
        if answers:
            return self.best >= self.rivals
        best_in_full = log_sum_exp((self.best, self.excess))
        return max(best_in_full, self.rivals) <= 0.0 or self.best >= max(self.rivals, 0.0)

    @property
    def rivals(self) -> float:
        """Log odds that no span but the best scored one can exceed."""
        runner_up = log_sum_exp((self.spans[1][2], self.excess)) if len(self.spans) > 1 else -math.inf
        return max(self.bound, runner_up)


@dataclass(frozen=True, slots=True)
class Decision:
    """How a posterior becomes an answer; the defaults answer with what is most probable.

    Attributes:
        temperature: all log odds are divided by it: above 1 makes the model less sure of itself.
        max_no_answer: answer where the probability of no answer is no more than this; None: where a span is likelier than "?".
        min_confidence: say nothing ("unsure") where the answer is less probable than this.
    """

    temperature: float = 1.0
    max_no_answer: float | None = None
    min_confidence: float = 0.0

    def decide(self, posterior: SpanPosterior) -> Prediction:
        """The answer. Probabilities are those of the scored spans against all there could be, so they err on the low side."""
        scaled = [value / self.temperature for _, _, value in posterior.spans]
        unscored = posterior.unscored / self.temperature
        total = log_sum_exp((0.0, unscored, *scaled))
        candidates = tuple(
            Candidate(text, start, start + len(text), math.exp(value - total))
            for (text, start, _), value in zip(posterior.spans[:NUM_CANDIDATES], scaled, strict=False)
        )
        no_answer = math.exp(-total)
        best = posterior.best
        answers = best > 0.0 if self.max_no_answer is None else bool(candidates) and no_answer <= self.max_no_answer
        common = Prediction(
            text="",
            refusal="absent",
            probability=no_answer,
            no_answer_probability=no_answer,
            candidates=candidates,
            unscored=math.exp(unscored - total),
            certified=posterior.proves(answers=answers),
            num_passes=posterior.num_passes,
        )
        if not answers:
            return common
        given = candidates[0]
        if given.probability < self.min_confidence:
            return replace(common, refusal="unsure", probability=given.probability)
        return replace(
            common, refusal="", text=given.text, start=given.start, end=given.end, probability=given.probability
        )
