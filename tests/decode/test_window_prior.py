"""Windows ranked for a question by their words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palmette.decode.spans import Window, cut_windows
from palmette.decode.window_prior import EVEN_SHARE, SHARPNESS, WindowPrior, likeliest_first

# Three windows of three passages each. The words between them say nothing about any question.
TOPICS = ("The lighthouse keepers cooked soup.", "Granite quarries closed in 1931.", "A ferry sails to Whitby.")
FILL = "xo " * 100


def windows_of(text: str, words_per_window: int) -> list[Window]:
    return cut_windows(
        text, lambda texts: [1] * len(texts), max_words=5, window_tokens=words_per_window, overlap_tokens=5
    )


@pytest.fixture(scope="module")
def window_prior() -> WindowPrior:
    text = " ".join(f"{FILL}{topic} {FILL}" for topic in TOPICS)
    windows = windows_of(text, 210)
    assert len(windows) == 3
    return WindowPrior(text, windows)


@pytest.mark.parametrize(
    ("question", "window"),
    [
        ("What did the keeper of the lighthouse cook?", 0),
        ("When was the quarry closed?", 1),
        ("Where does the ferry sail?", 2),
        ("WHITBY?", 2),
    ],
)
def test_the_window_with_the_words_of_the_question_comes_first(
    window_prior: WindowPrior, question: str, window: int
) -> None:
    """Endings and capitals make no difference: "keeper" and "keepers", "cook" and "cooked" do not match as words, and
    "light..." does.
    """
    prior = window_prior.of(question)
    assert likeliest_first(prior)[0] == window
    assert math.fsum(prior) == pytest.approx(1.0)


def test_without_a_shared_word_all_windows_are_equally_likely(window_prior: WindowPrior) -> None:
    for question in ("What is it?", "Who paid the taxes?", "?"):
        assert window_prior.of(question) == pytest.approx([1 / 3] * 3)
    assert likeliest_first(window_prior.of("What is it?")) == [0, 1, 2]


def test_the_score_is_that_of_lucene() -> None:
    """By hand, k1 = 1.5 and b = 0.75: idf * tf / (tf + k1 * (1 - b + b * length / mean length)).

    One window of 4 words is one passage, "granite" twice in it; N = df = 1, so idf = log(1 + 0.5 / 1.5), and the length
    is the mean length.
    """
    text = "granite tower granite pier"
    (score,) = WindowPrior(text, windows_of(text, 100)).scores("Which granite?")
    assert score == pytest.approx(math.log(1 + 0.5 / 1.5) * 2 / (2 + 1.5), rel=1e-6)


def test_the_prior_is_the_softmax_of_the_scores_and_an_even_share(window_prior: WindowPrior) -> None:
    scores = window_prior.scores("When did the quarries close?")
    assert (scores > 0).tolist() == [False, True, False]
    odds = np.exp(SHARPNESS * scores[1])
    assert window_prior.of("When did the quarries close?")[1] == pytest.approx(
        (1 - EVEN_SHARE) * odds / (odds + 2) + EVEN_SHARE / 3
    )


def test_a_passage_across_a_border_counts_for_both_windows() -> None:
    """The words of the question stand around the border of two windows."""
    text = f"{FILL}{'left ' * 8}{'right ' * 8}{FILL}"
    windows = windows_of(text, 110)
    border = windows[0].words[-1][-1]
    assert "left" in text[border - 60 : border + 60]
    scores = WindowPrior(text, windows).scores("left right?")
    assert min(scores[:2]) > 0


def test_a_document_without_words_can_be_ranked() -> None:
    text = ". " * 300
    windows = windows_of(text, 100)
    assert WindowPrior(text, windows).of("Who?") == pytest.approx([1 / len(windows)] * len(windows))
