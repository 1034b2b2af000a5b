"""From the logits of a span head to an answer: the best spans over all windows of a document, and the score of no answer.

After the evaluation on SQuAD v2 of Devlin et al. (2019), "BERT", section 4.3. What differs: all spans up to the longest one
allowed are compared, not those of the 20 best starts and the 20 best ends alone; a start counts in every window that shows it, not
only where it has most context; an answer begins and ends with a token, not with a word between blanks. Letters: T tokens of a
window, W lengths of a span.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palmette.baselines.windows import EncodedWindow
from palmette.data.text import skip_marks
from palmette.decode.prediction import Candidate, Prediction

NUM_BEST = 20
Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredSpan:
    """Characters of a document, and the sum of the start logit of their first token and the end logit of their last."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class SpanScores:
    """What a span head says about a question.

    Attributes:
        null: the score of no answer: the sum of both logits at CLS, the lowest of all windows (a window that shows the answer should
            score it low, and one such window is enough).
        spans: the best spans, best first, no two with the same text.
    """

    null: float
    spans: tuple[ScoredSpan, ...]

    @property
    def difference(self) -> float:
        """How much better no answer scores than the best span; infinite where there is none."""
        return self.null - self.spans[0].score if self.spans else math.inf


def best_spans(
    window: EncodedWindow, start_T: Logits, end_T: Logits, *, max_answer_tokens: int, num_best: int = NUM_BEST
) -> list[tuple[int, int, float]]:
    """The best spans of one window: first token, last token, score; best first.

    Both tokens show something of the document, the last is not before the first, and there are no more than `max_answer_tokens`
    from one to the other. Of equal scores the earlier start, then the shorter span, comes first.

    Args:
        window: the window.
        start_T: how well a span begins at each token.
        end_T: how well it ends there.
        max_answer_tokens: the longest span.
        num_best: at most so many.
    """
    shown_T = np.array([place is not None for place in window.places])
    start_T, end_T = (np.where(shown_T, logits_T, -np.inf) for logits_T in (start_T, end_T))
    longest = min(max_answer_tokens, len(start_T))
    later = np.concatenate([end_T, np.full(longest - 1, -np.inf)])
    score_TW = start_T[:, None] + np.lib.stride_tricks.sliding_window_view(later, longest)
    best = np.argsort(-score_TW, axis=None, kind="stable")[:num_best]
    firsts, lengths = np.unravel_index(best, score_TW.shape)
    found = zip(firsts.tolist(), (firsts + lengths).tolist(), score_TW.ravel()[best].tolist(), strict=True)
    return [(first, last, score) for first, last, score in found if score > -math.inf]


def score_spans(
    text: str, read: Iterable[tuple[EncodedWindow, Logits, Logits]], *, max_answer_tokens: int, num_best: int = NUM_BEST
) -> SpanScores:
    """The best spans over all windows of a document, and the score of no answer.

    Args:
        text: the document.
        read: each window with its start and end logits, (T,) each.
        max_answer_tokens: the longest span.
        num_best: how many spans with different texts to keep.
    """
    null, best = math.inf, dict[tuple[int, int], float]()
    for window, start_T, end_T in read:
        null = min(null, float(start_T[window.cls] + end_T[window.cls]))
        for first, last, score in best_spans(
            window, start_T, end_T, max_answer_tokens=max_answer_tokens, num_best=num_best
        ):
            begin, finish = window.places[first], window.places[last]
            assert begin is not None
            assert finish is not None
            # Some tokenizers leave out the marks of the last character.
            span = (begin[0], skip_marks(text, finish[1]))
            best[span] = max(score, best.get(span, -math.inf))
    spans: dict[str, ScoredSpan] = {}
    for (start, end), score in sorted(best.items(), key=lambda item: (-item[1], item[0])):
        spans.setdefault(text[start:end], ScoredSpan(start, end, score))
    return SpanScores(null, tuple(spans.values())[:num_best])


def decide(text: str, scores: SpanScores, threshold: float = 0.0) -> Prediction:
    """The best span, or none where no answer scores better than it by more than a threshold.

    The probabilities are a softmax over the score of no answer and those of the spans kept, which leaves out all others. A span head
    is not trained for this (its two losses are over tokens, not over spans), so they are for ranking; how far they can be trusted,
    the report shows.

    Args:
        text: the document.
        scores: what the span head says.
        threshold: fitted on held-out data, or 0.
    """
    logits = np.array([scores.null, *(span.score for span in scores.spans)])
    weights = np.exp(logits - logits.max())
    absent, *shares = (weights / weights.sum()).tolist()
    candidates = tuple(
        Candidate(text[span.start : span.end], span.start, span.end, share)
        for span, share in zip(scores.spans, shares, strict=True)
    )
    common = {"no_answer_probability": absent, "candidates": candidates, "valid_json": None}
    if scores.difference > threshold:
        return Prediction("", "absent" if scores.difference > 0 else "unsure", probability=absent, **common)
    best = candidates[0]
    return Prediction(best.text, start=best.start, end=best.end, probability=best.probability, **common)


def fit_threshold(differences: Sequence[float], gains: Sequence[float]) -> float:
    """The threshold that earns most: answering where the difference is no higher than it.

    Args:
        differences: how much better no answer scores than the best span, one a question.
        gains: what the best span scores more than no answer would, one a question (from -1 to 1).

    Returns:
        A number in the middle between two differences, or one beyond all of them; of equally good places the lowest.
    """
    pairs = sorted((difference, gain) for difference, gain in zip(differences, gains, strict=True))
    pairs = [pair for pair in pairs if pair[0] < math.inf]
    if not pairs:
        return 0.0
    edges = [pairs[0][0] - 2.0, *(difference for difference, _ in pairs), pairs[-1][0] + 2.0]
    best, earned, total = 0, 0.0, 0.0
    for index, (difference, gain) in enumerate(pairs, start=1):
        total += gain
        if total > earned and edges[index + 1] > difference:  # only between different ones can a threshold stand
            best, earned = index, total
    return (edges[best] + edges[best + 1]) / 2
