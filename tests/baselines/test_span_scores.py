"""From an encoder's logits to answers: the best spans, the score of no answer, probabilities, thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palmette.baselines.span_scores import ScoredSpan, SpanScores, best_spans, decide, fit_threshold, score_spans
from palmette.baselines.windows import Windowing, learned_positions
from tests.support.encoders import TOWER, asked, peaks, windows_of


def test_the_best_span_is_valid() -> None:
    """[CLS] what [SEP] the tower is granite [SEP]: the document is tokens 3 to 6.

    Best start "granite" (6), best end "tower" (4): that would end before it starts. What is left, by hand: (6, 6) = 3 +
    0, (3, 4) = 1 + 2, (4, 4) = 0 + 2, ...; equal scores by the earlier start. The question's tokens have the highest
    logits and never count.
    """
    (window,) = windows_of(asked("The tower is granite", "What"), Windowing(40, 8))
    start = np.array([0.0, 9.0, 9.0, 1.0, 0.0, -1.0, 3.0, 9.0])
    end = np.array([0.0, 9.0, 9.0, -2.0, 2.0, -5.0, 0.0, 9.0])
    found = best_spans(window, start, end, max_answer_tokens=4, num_best=3)
    assert found == [(3, 4, 3.0), (6, 6, 3.0), (4, 4, 2.0)]
    everything = best_spans(window, start, end, max_answer_tokens=4, num_best=99)
    assert len(everything) == 4 + 3 + 2 + 1, "all pairs of four tokens, and no others"
    assert best_spans(window, start, end, max_answer_tokens=1, num_best=2) == [(6, 6, 3.0), (4, 4, 2.0)]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_spans_are_those_of_trying_all(seed: int) -> None:
    """Random logits for three overlapping windows, against two plain loops over all pairs of tokens."""
    draw = np.random.default_rng(seed)
    windows = windows_of(asked(TOWER, "Who built it?"), Windowing(12, 2))
    read = [(window, *draw.normal(size=(2, len(window.places)))) for window in windows]
    best: dict[str, float] = {}
    for window, start, end in read:
        for i, first in enumerate(window.places):
            for j, last in enumerate(window.places[i : i + 3], start=i):
                if first and last:
                    text = TOWER[first[0] : last[1]]
                    best[text] = max(best.get(text, -math.inf), start[i] + end[j])
    ranked = sorted(best.items(), key=lambda item: -item[1])[:6]
    scores = score_spans(TOWER, read, max_answer_tokens=3, num_best=6)
    assert [(TOWER[span.start : span.end], span.score) for span in scores.spans] == ranked
    assert scores.null == min(start[0] + end[0] for _, start, end in read)


def test_the_longest_answer_is_kept_to() -> None:
    (window,) = windows_of(asked("The tower is granite", "What"), Windowing(40, 8))
    start, end = peaks(window, 3, 6)
    assert best_spans(window, start, end, max_answer_tokens=4)[0] == (3, 6, 6.0)
    assert all(last - first < 3 for first, last, _ in best_spans(window, start, end, max_answer_tokens=3))


def test_the_score_of_no_answer_is_the_lowest_of_all_windows() -> None:
    """Three windows; only the second shows "granite, and".

    Its null score, 1, is the lowest; the others are sure at 8 and 10.
    """
    document = asked(TOWER, "Who built it?", "granite, and")
    windows = windows_of(document, Windowing(12, 2))
    positions = learned_positions(windows, document.questions[0])
    nulls = [8.0, 1.0, 10.0]
    read = [
        (window, *(peaks(window, first, last, null) if first else peaks(window, 0, 0, null)))
        for window, (first, last), null in zip(windows, positions, nulls, strict=True)
    ]
    scores = score_spans(TOWER, read, max_answer_tokens=30)
    assert scores.null == 1.0
    assert scores.spans[0] == ScoredSpan(13, 25, 6.0)
    assert scores.difference == -5.0
    answer = decide(TOWER, scores)
    assert (answer.text, answer.start, answer.end, answer.refusal) == ("granite, and", 13, 25, "")
    assert len({TOWER[span.start : span.end] for span in scores.spans}) == len(scores.spans) == 20


def test_a_span_of_several_windows_keeps_its_best_score() -> None:
    """ "white" is at 9 in the second window and at 6 in the third."""
    windows = windows_of(asked(TOWER, "Who built it?"), Windowing(12, 2))
    low = tuple(logits - 1.0 for logits in peaks(windows[1], 9, 9))
    scores = score_spans(TOWER, [(windows[1], *low), (windows[2], *peaks(windows[2], 6, 6))], max_answer_tokens=30)
    assert [span for span in scores.spans if TOWER[span.start : span.end] == "white"] == [ScoredSpan(26, 31, 6.0)]


def test_probabilities_are_a_softmax_and_no_answer_wins_where_it_scores_better() -> None:
    """Scores ln 5, ln 3, ln 2: probabilities 0.5, 0.3, 0.2.

    With a threshold of ln 2 > ln (5 / 3) the span wins all the same.
    """
    text = "the tower"
    spans = (ScoredSpan(0, 3, math.log(3)), ScoredSpan(4, 9, math.log(2)))
    refused = decide(text, SpanScores(math.log(5), spans))
    assert (refused.text, refused.refusal, refused.start) == ("", "absent", None)
    assert refused.probability == refused.no_answer_probability == pytest.approx(0.5)
    assert [candidate.probability for candidate in refused.candidates] == pytest.approx([0.3, 0.2])
    given = decide(text, SpanScores(math.log(5), spans), threshold=math.log(2))
    assert (given.text, given.refusal) == ("the", "")
    assert given.probability == pytest.approx(0.3)
    assert given.valid_json is None
    unsure = decide(text, SpanScores(math.log(2), spans), threshold=-1.0)
    assert (unsure.text, unsure.refusal) == ("", "unsure"), "the span scores better, but not by enough"
    assert decide(text, SpanScores(0.0, ())).no_answer_probability == 1.0


@pytest.mark.parametrize(
    ("differences", "gains", "threshold"),
    [
        ([-2.0, -1.0, 1.0], [1.0, -1.0, 0.5], -1.5),  # earned: 0, 1, 0, 0.5
        ([1.0, -2.0, -1.0], [0.5, 1.0, -0.25], 2.0),  # 0, 1, 0.75, 1.25: beyond all
        ([0.0, 3.0], [-1.0, -1.0], -1.0),  # never answering is best: below all
        ([0.0, 0.0, 3.0], [1.0, -0.5, -1.0], 1.5),  # 1 in the midst of equal differences cannot be had; 0.5 can
        ([math.inf], [0.0], 0.0),
    ],
)
def test_the_threshold_earns_most(differences: list[float], gains: list[float], threshold: float) -> None:
    assert fit_threshold(differences, gains) == threshold
