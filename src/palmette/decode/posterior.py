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
over the allowed spans and "?". Bayes' rule takes every window to mislead the model as often as a document that it was
trained on. `Decision.window_power` corrects that, and is fitted to long documents.

Of a very long document only some windows are read, and the windows are not equally likely: before anything is read, the
words tell that part i holds the answer with probability pi_i, if the document does (`decode/window_prior.py`). They are
taken to tell where the answer is, and not whether there is one. Then the odds above are pi_i * o_i in place of o_i / k.
The text of a window that was not read is unknown, so its likelihood ratio is averaged over all texts that could stand
there without an answer. That mean is 1: the sum of P(text) * P(text, answer) / P(text) over all texts is the sum of
P(text, answer), which is 1. So what is left of such a window is its prior:

    P(the answer stands in a window that was not read) / P(no answer) = prior odds * sum of pi_i over those windows

The prior odds of an answer are taken to be even. The mean is no bound. A window that was not read may hold anything, so
a decision is never certified before all windows are read.

Letters in the comments: S the odds of all scored spans together, U an upper bound of those of all unscored spans,
Z = S + U.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from palmette.decode.place import at_the_place
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

    def shifted(self, by: float) -> WindowScores:
        """The same scores with all log odds raised by a number."""
        spans = {text: (start, value + by) for text, (start, value) in self.spans.items()}
        return replace(self, spans=spans, unscored=self.unscored + by, bound=self.bound + by)


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
        num_read: how many of them were read.
        unread: log odds that the answer stands in a window that was not read. -inf if all were read.
    """

    spans: tuple[tuple[str, int, float], ...]
    unscored: float
    bound: float
    excess: float
    num_passes: int
    slack: float = 0.0
    num_windows: int = 1
    num_read: int = 1
    unread: float = -math.inf

    @classmethod
    def merge(
        cls, windows: Sequence[WindowScores], prior: Sequence[float] | None = None, num_windows: int | None = None
    ) -> SpanPosterior:
        """The posterior of a document from the scores of the windows that were read.

        Args:
            windows: the scores of these windows.
            prior: the probability of each of them that it holds the answer, if the document holds one. With None all
                windows were read, and are equally likely.
            num_windows: the number of windows of the document. All were read if None.
        """
        if prior is not None:
            shifted = [window.shifted(math.log(share)) for window, share in zip(windows, prior, strict=True)]
            found = cls._merge(shifted, 0.0)
            left = 0.0 if num_windows in (None, len(windows)) else max(0.0, 1.0 - math.fsum(prior))
            unread = math.log(left) if left else -math.inf
            return replace(found, num_windows=num_windows or len(windows), unread=unread)
        return cls._merge(windows, math.log(len(windows)))

    @classmethod
    def _merge(cls, windows: Sequence[WindowScores], prior: float) -> SpanPosterior:
        """The posterior if `prior` is subtracted from the sum of the log odds of all windows."""
        places: dict[str, int] = {}
        odds: dict[str, list[float]] = {}
        for window in windows:
            for text, (start, value) in window.spans.items():
                places[text] = min(start, places.get(text, start))
                odds.setdefault(text, []).append(value)
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
            num_read=len(windows),
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
        unread: log odds that the answer stands in a window that was not read.
    """

    best: float
    best_at_most: float
    rivals: float
    scored: float
    unscored: float
    slack: float = 0.0
    unread: float = -math.inf

    @property
    def answered(self) -> float:
        """Log odds of any answer at all, with the bound of the unscored spans counted in full: log Z."""
        return log_sum_exp((self.scored, self.unscored, self.unread))

    def raised(self, by: float) -> Evidence:
        """The same evidence with all log odds that come from the model raised by a number."""
        return replace(
            self,
            best=self.best + by,
            best_at_most=self.best_at_most + by,
            rivals=self.rivals + by,
            scored=self.scored + by,
            unscored=self.unscored + by,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """How probabilities become answers. With the defaults, the most probable outcome is the answer.

    There are three outcomes. An answer is given if every rule below allows it. Else the refusal is "unsure" if the
    document is more likely than not to hold an answer, and "absent" if it is not.

    1. The best span is more probable than no answer.
    2. It pays. A wrong answer costs C = `cost_wrong`, the refusal of a question that has an answer costs 1, and right
       decisions cost nothing. So the answer costs C * (1 - P(span)) on average, and a refusal costs 1 - P(no answer).
       The answer costs less exactly where its worth, P(span) + (1 - P(no answer)) / C, is above 1. With C = 1 this is
       rule 1, and with a larger C it implies rule 1. The probabilities are a model's, so calibration fits the number
       that takes the place of 1, `min_worth`.
    3. `max_no_answer` and `min_confidence`, where they are set.

    Attributes:
        temperature: divides the log odds of an answer against none. Above 1 the model is less sure whether there is an
            answer. The probability of one span among all spans does not change.
        window_power: the odds of an answer in a document of k windows are multiplied by k to this power. 0 is Bayes'
            rule for windows that mislead the model as often as those that it was trained on. Most windows of a long
            document have nothing to do with the question and hardly mislead it, so calibration fits a higher number.
        max_no_answer: answer only if the probability of no answer is at most this. Calibrations of earlier versions
            set it. No such limit if None.
        min_confidence: answer only if the probability of the answer is at least this. A guarantee sets it.
        cost_wrong: what a wrong answer costs, if refusing a question that has an answer costs 1. At least 1.
        min_worth: answer only if the worth of the answer is at least this.
        always_answer: give the best span of every document, however improbable. No other rule counts then.

    Raises:
        ValueError: the temperature is not above 0, `window_power` is not finite, the cost is below 1, or `min_worth` is
            below 0.
    """

    temperature: float = 1.0
    window_power: float = 0.0
    max_no_answer: float | None = None
    min_confidence: float = 0.0
    cost_wrong: float = 1.0
    min_worth: float = 1.0
    always_answer: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"a temperature of {self.temperature!r} is not above 0")
        if not math.isfinite(self.window_power):
            raise ValueError(f"a window_power of {self.window_power!r} is not a finite number")
        if not 1.0 <= self.cost_wrong < math.inf:
            raise ValueError(f"a cost of {self.cost_wrong!r} for a wrong answer is not a number from 1 on")
        if not self.min_worth >= 0.0:
            raise ValueError(f"a min_worth of {self.min_worth!r} is below 0")

    @property
    def forces_span(self) -> bool:
        """Whether the best span has to be found even if "?" is likelier. A guarantee was tested on such posteriors."""
        return self.always_answer or self.min_confidence > 0.0

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

    def worth(self, best: float, answered: float) -> float:
        """P(span) + P(any answer) / `cost_wrong`, for a span with log odds `best`.

        With exact probabilities the answer costs less than its refusal where this is above 1.
        """
        return self.confidence(best, answered) + (1.0 - self.no_answer(answered)) / self.cost_wrong

    def likelier(self, best: float, answered: float) -> bool:
        """Whether a span with log odds `best` is more probable than no answer."""
        return best + answered * (1.0 / self.temperature - 1.0) > 0.0

    def verdict(self, evidence: Evidence) -> tuple[Literal["answer", "absent", "unsure"], bool]:
        """The decision, and whether it is proved to be the one that scoring every allowed span would lead to.

        If everything were scored, the log odds of any answer would lie somewhere between `low` and `high`. A rule is
        proved to hold, or not to hold, by its values at both ends and wherever it may turn between them.
        """
        low, high = evidence.scored - evidence.slack, evidence.answered
        if evidence.best > -math.inf and all(self._rules(evidence.best, high)):
            best = evidence.best - evidence.slack  # at least
            allowed = (all(self._rules(best, answered)) for answered in self._turns(best, low, high))
            return "answer", best >= evidence.rivals and all(allowed)
        top = max(evidence.best_at_most, evidence.rivals)  # no span can exceed it, and no span exceeds all together
        rows = [self._rules(top, answered) for answered in self._turns(top, max(low, top), max(high, top))]
        refused = high == -math.inf or any(not any(rule) for rule in zip(*rows, strict=True))
        if high > 0.0:  # P(no answer) < 1/2, whatever the temperature
            return "unsure", refused and low > 0.0
        return "absent", refused

    def _rules(self, best: float, answered: float) -> tuple[bool, ...]:
        """Whether each rule allows a span with log odds `best` to be given."""
        if self.always_answer:
            return ()
        if best == -math.inf:
            return (False,) * 4
        return (
            self.likelier(best, answered),
            self._pays(best, answered),
            self.max_no_answer is None or self.no_answer(answered) <= self.max_no_answer,
            self.confidence(best, answered) >= self.min_confidence,
        )

    def _pays(self, best: float, answered: float) -> bool:
        """Whether `worth` is at least `min_worth`: by logarithms, since near 1 the worth itself is rounded.

        With t = `min_worth`, w = 1 / `cost_wrong`, T the temperature and Z the odds of any answer, multiplying by
        1 + Z^(1/T) turns the condition into best * Z^(1/T - 1) >= t + (t - w) * Z^(1/T).
        """
        if self.min_worth == 0.0:
            return True
        any_answer = answered / self.temperature
        span, difference = best + any_answer - answered, self.min_worth - 1.0 / self.cost_wrong
        rest = math.log(abs(difference)) + any_answer if difference else -math.inf
        if difference >= 0.0:
            return span >= log_sum_exp((math.log(self.min_worth), rest))
        return log_sum_exp((span, rest)) >= math.log(self.min_worth)

    def _turns(self, best: float, low: float, high: float) -> list[float]:
        """Both ends of a range of the log odds of any answer, and where a rule may turn between them.

        `likelier` and P(no answer) only rise or only fall. The difference of the sides of `_pays` has its summit or
        its trough where Z = best * (1 - T) / (t - w), the confidence its summit where Z^(1/T) = 1/T - 1.
        """
        turns, temperature = [], self.temperature
        difference = self.min_worth - 1.0 / self.cost_wrong
        if (1.0 - temperature) * difference > 0.0 and best > -math.inf:
            turns.append(best + math.log((1.0 - temperature) / difference))
        if temperature < 1.0:
            turns.append(temperature * math.log(1.0 / temperature - 1.0))
        return [low, high, *(turn for turn in turns if low < turn < high)]

    def by_windows(self, num_windows: int) -> float:
        """By how much the log odds of an answer rise in a document of so many windows."""
        return self.window_power * math.log(num_windows)

    def evidence(self, posterior: SpanPosterior) -> Evidence:
        """The evidence of a posterior, corrected for the number of windows.

        The corrections are for a model. What was not read is a prior, so it is not raised, and the temperature is
        undone there.
        """
        return self.corrected(posterior.evidence, posterior)

    def corrected(self, evidence: Evidence, posterior: SpanPosterior) -> Evidence:
        """The same, of evidence that was computed before."""
        raised = evidence.raised(self.by_windows(posterior.num_windows))
        return replace(raised, unread=self.temperature * posterior.unread)

    def decide(self, posterior: SpanPosterior, num_candidates: int | None = NUM_CANDIDATES) -> Prediction:
        """The answer, and the probabilities of the best spans with the unscored ones counted fully against them.

        Args:
            posterior: the scored spans.
            num_candidates: how many of them become candidates. All if None.
        """
        evidence, by = self.evidence(posterior), self.by_windows(posterior.num_windows)
        kind, certain = self.verdict(evidence)
        no_answer = self.no_answer(evidence.answered)
        candidates = tuple(
            Candidate(text, start, start + len(text), self.confidence(value + by, evidence.answered))
            for text, start, value in posterior.spans[:num_candidates]
        )
        refusal = Prediction(
            text="",
            probability=no_answer,
            no_answer_probability=no_answer,
            candidates=candidates,
            unscored=self.confidence(evidence.unscored, evidence.answered),
            certified=certain and posterior.unread == -math.inf,
            num_passes=posterior.num_passes,
            num_windows=posterior.num_windows,
            num_read=posterior.num_read,
            unread=self.confidence(evidence.unread, evidence.answered),
            place_probability=self.confidence(log_sum_exp(at_the_place(posterior.spans)) + by, evidence.answered),
        )
        if kind != "answer":
            return replace(refusal, refusal=kind)
        best = candidates[0]
        return replace(refusal, text=best.text, start=best.start, end=best.end, probability=best.probability)
