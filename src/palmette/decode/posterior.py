"""The scores of a search on one scale over all windows of a document, and the decision that follows from them.

All scores are odds against "?" (the document does not answer). Odds need no normaliser, so windows can be merged.

A window answers for its own part of the document, which is where its spans begin. In one window the odds of a span are
P(span) / P(this part holds no answer). The denominator is the probability of "?" plus that of the spans that the window
shows and that belong to a neighbour.

The model was trained on documents, so its prior is that of a document. With probability p it holds the answer, and with
1 - p it does not. A document of k windows holds its answer in one of their parts, each as likely as the others (p / k),
or in none. The texts of the windows are taken to be independent given where the answer stands. Let o_i be the odds that
window i gives by itself. Then, by Bayes' rule:

    P(span in part i) / P(no answer) = (p / k) / (1 - p) * likelihood ratio = o_i / k

So the odds of a string are the mean over the windows, not the sum. With one window this is the model's own distribution
over the allowed spans and "?".

Letters in the comments: S the odds of all scored spans together, U an upper bound of those of all unscored spans,
Z = S + U.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from palmette.decode.prediction import Candidate, Prediction

NUM_CANDIDATES = 5


def log_sum_exp(values: Iterable[float]) -> float:
    """log(sum(exp(values))). -inf without values.

    >>> round(math.exp(log_sum_exp([math.log(2), math.log(3)])), 9)
    5.0
    """
    terms = list(values)
    top = max(terms, default=-math.inf)
    return top + math.log(sum(math.exp(value - top) for value in terms)) if top > -math.inf else top


@dataclass(frozen=True, slots=True)
class WindowScores:
    """The scores of one window.

    Attributes:
        spans: {text: (first position in the document, log odds against "?")} of the scored spans.
        unscored: an upper bound of the log odds of all unscored spans together.
        bound: log odds that no unscored span can exceed.
        num_passes: the number of forward passes.
        slack: by how much all these log odds may be too high, because spans of the neighbours were not all scored.
        has_twins: whether a scored span may stand among the unscored ones too, with or without a blank before it.
    """

    spans: dict[str, tuple[int, float]]
    unscored: float
    bound: float
    num_passes: int
    slack: float = 0.0
    has_twins: bool = False


@dataclass(frozen=True, slots=True)
class SpanPosterior:
    """The scored spans of a document for one question.

    Attributes:
        spans: (text, first position, log odds against "?"), best first.
        unscored: an upper bound of the log odds of all unscored spans together.
        bound: log odds that no string can exceed that is not among `spans`.
        excess: an upper bound of the log odds that a scored span may gain from windows that did not score it.
        num_passes: the number of forward passes of the window that took most.
        slack: by how much the log odds of scored spans may be too high, in the window where this is largest.
        num_windows: the number of windows of the document.
    """

    spans: tuple[tuple[str, int, float], ...]
    unscored: float
    bound: float
    excess: float
    num_passes: int
    slack: float = 0.0
    num_windows: int = 1

    @classmethod
    def merge(cls, windows: Sequence[WindowScores]) -> SpanPosterior:
        """The posterior of a document from the scores of its windows."""
        places: dict[str, int] = {}
        odds: dict[str, list[float]] = {}
        for window in windows:
            for text, (start, value) in window.spans.items():
                places[text] = min(start, places.get(text, start))
                odds.setdefault(text, []).append(value)
        prior = math.log(len(windows))  # each window has its share of the document's prior
        spans = [(text, places[text], log_sum_exp(values) - prior) for text, values in odds.items()]
        spans.sort(key=lambda span: (-span[2], span[1], len(span[0])))
        bound = log_sum_exp(window.bound for window in windows) - prior
        return cls(
            spans=tuple(spans),
            unscored=log_sum_exp(window.unscored for window in windows) - prior,
            bound=bound,
            # Where the strings of a window are distinct, a scored string of a single window has no unscored part.
            excess=bound if len(windows) > 1 or any(window.has_twins for window in windows) else -math.inf,
            num_passes=max(window.num_passes for window in windows),
            slack=max(window.slack for window in windows),
            num_windows=len(windows),
        )

    @property
    def evidence(self) -> Evidence:
        """The evidence for a decision."""
        best = self.spans[0][2] if self.spans else -math.inf
        runner_up = log_sum_exp((self.spans[1][2], self.excess)) if len(self.spans) > 1 else -math.inf
        scored = log_sum_exp(value for _, _, value in self.spans)
        return Evidence(
            best, log_sum_exp((best, self.excess)), max(self.bound, runner_up), scored, self.unscored, self.slack
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """The log odds against "?" from which a decision follows.

    Attributes:
        best: the log odds of the best scored span.
        best_at_most: the most that they could be if everything were scored.
        rivals: log odds that no other span can exceed.
        scored: the log odds of all scored spans together, log S.
        unscored: an upper bound of the log odds of all unscored spans together, log U.
        slack: by how much `best` and `scored` may be too high.
    """

    best: float
    best_at_most: float
    rivals: float
    scored: float
    unscored: float
    slack: float = 0.0

    @property
    def answered(self) -> float:
        """Log odds of any answer at all, with the bound of the unscored spans counted in full: log Z."""
        return log_sum_exp((self.scored, self.unscored))


@dataclass(frozen=True, slots=True)
class Decision:
    """How probabilities become answers. With the defaults, the most probable outcome is the answer.

    Attributes:
        temperature: divides the log odds of an answer against none. Above 1 the model is less sure whether there is an
            answer. The probability of one span among all spans does not change.
        max_no_answer: answer if the probability of no answer is at most this. With None, answer if a span is likelier
            than no answer.
        min_confidence: refuse as "unsure" if the answer is less probable than this.

    Raises:
        ValueError: the temperature is not above 0.
    """

    temperature: float = 1.0
    max_no_answer: float | None = None
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"a temperature of {self.temperature!r} is not above 0")

    @property
    def forces_span(self) -> bool:
        """Whether the best span has to be found even if "?" is likelier. A guarantee was tested on such posteriors."""
        return self.min_confidence > 0.0 or (self.max_no_answer or 0.0) >= 1.0

    def no_answer(self, answered: float) -> float:
        """The probability of no answer if the log odds of any answer are `answered`."""
        return 1.0 / (1.0 + math.exp(min(answered / self.temperature, 700.0)))

    def confidence(self, best: float, answered: float) -> float:
        """The probability of a span with log odds `best` if those of any answer are `answered`."""
        if best == -math.inf:
            return 0.0
        # 1 - no_answer, precise where it is small
        any_answer = 1.0 / (1.0 + math.exp(min(-answered / self.temperature, 700.0)))
        return any_answer * math.exp(min(best - answered, 0.0))

    def verdict(self, evidence: Evidence) -> tuple[Literal["answer", "absent", "unsure"], bool]:
        """The decision, and whether it is proved to be the one that scoring every allowed span would lead to."""
        best = evidence.best - evidence.slack  # at least
        best_proved = best >= evidence.rivals
        low, high = evidence.scored - evidence.slack, evidence.answered
        if self.max_no_answer is None:
            answers = evidence.best > 0.0
            certain = (best_proved and best > 0.0) if answers else max(evidence.best_at_most, evidence.rivals) <= 0.0
        else:
            answers = evidence.best > -math.inf and self.no_answer(high) <= self.max_no_answer
            if answers:
                certain = best_proved and self.no_answer(low) <= self.max_no_answer
            else:
                certain = high == -math.inf or self.no_answer(high) > self.max_no_answer
        if not answers:
            return "absent", certain
        # With Z between S and S + U the confidence is least at an end, and largest at an end or at its summit.
        ends = [self.confidence(best, low), self.confidence(best, high)]
        if self.confidence(evidence.best, high) >= self.min_confidence:
            return "answer", certain and min(ends) >= self.min_confidence
        steepness = 1.0 / self.temperature
        summit = math.log(steepness - 1.0) / steepness if steepness > 1.0 else -math.inf
        largest = [self.confidence(evidence.best_at_most, z) for z in (low, high, min(max(summit, low), high))]
        return "unsure", certain and max(largest) < self.min_confidence

    def decide(self, posterior: SpanPosterior) -> Prediction:
        """The answer, and the probabilities of the best spans with the unscored ones counted fully against them."""
        evidence = posterior.evidence
        kind, certain = self.verdict(evidence)
        no_answer = self.no_answer(evidence.answered)
        candidates = tuple(
            Candidate(text, start, start + len(text), self.confidence(value, evidence.answered))
            for text, start, value in posterior.spans[:NUM_CANDIDATES]
        )
        refusal = Prediction(
            text="",
            probability=no_answer,
            no_answer_probability=no_answer,
            candidates=candidates,
            unscored=self.confidence(evidence.unscored, evidence.answered),
            certified=certain,
            num_passes=posterior.num_passes,
            num_windows=posterior.num_windows,
        )
        if kind != "answer":
            return replace(refusal, refusal=kind)
        best = candidates[0]
        return replace(refusal, text=best.text, start=best.start, end=best.end, probability=best.probability)
