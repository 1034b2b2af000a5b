"""From the logits of a span head to an answer: the best spans over all windows, and the score of no answer.

This follows the evaluation on SQuAD v2 of Devlin et al. (2019), "BERT", section 4.3, with these deviations:

1. All spans up to the longest allowed one are compared, not only those of the 20 best starts and the 20 best ends.
2. A start counts in every window that shows it, not only where it has most context.
3. An answer begins and ends with a token, not with a word between blanks.

Letters: T tokens of a window, W lengths of a span.
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
    """The scores of a span head for a question.

    Attributes:
        null: the score of no answer, which is the lowest sum of both logits at CLS over all windows. A window that
            shows the answer should score it low, and one such window is enough.
        spans: the best spans, best first, no two with the same text.
    """

    null: float
    spans: tuple[ScoredSpan, ...]

    @property
    def difference(self) -> float:
        """How much better no answer scores than the best span. It is infinite where there is no span."""
        return self.null - self.spans[0].score if self.spans else math.inf


def best_spans(
    window: EncodedWindow, start_T: Logits, end_T: Logits, *, max_answer_tokens: int, num_best: int = NUM_BEST
) -> list[tuple[int, int, float]]:
    """The best spans of one window, best first, each as first token, last token and score.

    Both tokens show some of the document, the last is not before the first, and a span has at most `max_answer_tokens`
    tokens. Of equal scores the earlier start, then the shorter span, comes first.

    Args:
        window: the window.
        start_T: how well a span begins at each token.
        end_T: how well it ends there.
        max_answer_tokens: the longest span.
        num_best: the largest number of spans.
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

    The probabilities are a softmax over the score of no answer and those of the best spans, and leave out all others. A
    span head is not trained for this, since its two losses are over tokens and not over spans. So they are for ranking,
    and the report shows how far they can be believed.

    Args:
        text: the document.
        scores: the scores of the span head.
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
    """The threshold with the largest total gain, if questions are answered up to this difference.

    Args:
        differences: how much better no answer scores than the best span, for each question.
        gains: how much more the best span scores than no answer would, for each question, from -1 to 1.

    Returns:
        A number midway between two differences, or beyond all of them. The lowest one on a tie.
    """
    pairs = sorted((difference, gain) for difference, gain in zip(differences, gains, strict=True))
    pairs = [pair for pair in pairs if pair[0] < math.inf]
    if not pairs:
        return 0.0
    edges = [pairs[0][0] - 2.0, *(difference for difference, _ in pairs), pairs[-1][0] + 2.0]
    best, earned, total = 0, 0.0, 0.0
    for index, (difference, gain) in enumerate(pairs, start=1):
        total += gain
        if total > earned and edges[index + 1] > difference:  # a threshold lies only between different ones
            best, earned = index, total
    return (edges[best] + edges[best + 1]) / 2
