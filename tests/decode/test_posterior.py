"""Merging windows, thresholds and proofs, by hand: from scores to an answer or a refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palmette.decode.posterior import Decision, SpanPosterior, WindowScores


def test_merging_by_hand() -> None:
    """Two windows, each with half of the prior. "a": odds (2 + 1) / 2 = 1.5; "b": 0.25, maybe up to 0.1875 more.

    Not looked into: 0.25 and 0.1 in the first window, 0.125 in the second. A string scored nowhere is at most (0.25 +
    0.125) / 2.
    """
    first = WindowScores({"a": (4, math.log(2)), "b": (9, math.log(0.5))}, math.log(0.35), math.log(0.25), 2)
    second = WindowScores({"a": (50, 0.0)}, math.log(0.125), math.log(0.125), 3)
    merged = SpanPosterior.merge([first, second])
    assert [(text, start) for text, start, _ in merged.spans] == [("a", 4), ("b", 9)]
    assert math.exp(merged.spans[0][2]) == pytest.approx(1.5)
    assert math.exp(merged.unscored) == pytest.approx(0.2375)
    assert math.exp(merged.bound) == pytest.approx(0.1875)
    assert math.exp(merged.evidence.rivals) == pytest.approx(0.4375)
    assert merged.num_passes == 3
    found = Decision().decide(merged)
    assert found.text == "a"
    assert found.certified
    # 1 + (3 + 0.5) / 2 + 0.475 / 2 = 2.9875
    assert found.probability == pytest.approx(1.5 / 2.9875)
    assert found.no_answer_probability == pytest.approx(1 / 2.9875)
    assert found.unscored == pytest.approx(0.2375 / 2.9875)


def one_window(*odds: float, unscored: float = 0.0, bound: float = 0.0) -> SpanPosterior:
    """Spans "a", "b", ... with these odds against "?", and what was not looked into."""
    spans = {"abcdef"[index]: (2 * index, math.log(value)) for index, value in enumerate(odds)}
    return SpanPosterior.merge([WindowScores(spans, log(unscored), log(bound), 1)])


def log(value: float) -> float:
    return math.log(value) if value else -math.inf


def test_no_proof_where_an_unscored_string_could_be_likelier() -> None:
    """Best scored 0.5, "?" 1, but something with odds up to 2 was not looked into."""
    found = Decision().decide(one_window(0.5, unscored=2, bound=2))
    assert (found.text, found.refusal, found.certified) == ("", "absent", False)


def test_thresholds_decide() -> None:
    """Odds 1.5 and 0.5, in all Z = 2, against 1: probabilities 1/2, 1/6, 1/3.

    With temperature 1/2, Z counts as 4: 1/5 for none.
    """
    posterior = one_window(1.5, 0.5)
    assert Decision().decide(posterior).probability == pytest.approx(1 / 2)
    strict = Decision(max_no_answer=0.3).decide(posterior)
    assert (strict.text, strict.refusal, strict.certified) == ("", "absent", True)
    assert strict.probability == pytest.approx(1 / 3)
    unsure = Decision(min_confidence=0.6).decide(posterior)
    assert (unsure.text, unsure.refusal, unsure.certified) == ("", "unsure", True)
    assert unsure.candidates[0].text == "a"
    assert unsure.probability == pytest.approx(1 / 3)
    sharper = Decision(temperature=0.5).decide(posterior)
    assert sharper.no_answer_probability == pytest.approx(1 / 5)
    assert sharper.probability == pytest.approx(4 / 5 * 3 / 4)
    with pytest.raises(ValueError, match="not above 0"):
        Decision(temperature=0.0)


@pytest.mark.parametrize(
    ("decision", "posterior", "kind"),
    [
        # P(none) is 1/4 with the rest counted as answers, 1/3 without it.
        (Decision(max_no_answer=0.3), one_window(2, unscored=1, bound=1), "answer"),
        # Nothing scored: with everything scored there would be an answer.
        (Decision(max_no_answer=1.0), one_window(unscored=0.5, bound=0.5), "absent"),
        # P(a) is 2 / 4.5 with the rest, 2 / 3 without it.
        (Decision(min_confidence=0.5), one_window(2, unscored=1.5, bound=1.5), "unsure"),
    ],
)
def test_a_threshold_between_the_bounds_is_not_certified(
    decision: Decision, posterior: SpanPosterior, kind: str
) -> None:
    verdict, certain = decision.verdict(posterior.evidence)
    assert (verdict, certain) == (kind, False)


decisions = st.builds(
    Decision,
    temperature=st.floats(0.2, 5),
    max_no_answer=st.none() | st.floats(0, 1),
    min_confidence=st.just(0.0) | st.floats(0, 1),
)


@settings(max_examples=400, deadline=None)
@given(
    decision=decisions,
    scored=st.lists(st.floats(1e-3, 50), max_size=4),
    hidden=st.lists(st.floats(1e-3, 50), max_size=5),
    slack=st.floats(1, 3),
)
def test_what_is_certified_stays_when_everything_is_scored(
    decision: Decision, scored: list[float], hidden: list[float], slack: float
) -> None:
    """Hidden spans are known by bounds on their sum and their largest, as loose as they like, under every threshold."""
    bounds = {"unscored": slack * sum(hidden), "bound": slack * max(hidden, default=0.0)}
    partial = decision.decide(one_window(*sorted(scored, reverse=True), **bounds))
    spans = {f"s{index}": (index, math.log(value)) for index, value in enumerate(scored)}
    spans |= {f"h{index}": (9 + index, math.log(value)) for index, value in enumerate(hidden)}
    full = decision.decide(SpanPosterior.merge([WindowScores(spans, -math.inf, -math.inf, 1)]))
    assert full.certified
    if partial.certified:
        assert partial.refusal == full.refusal
        if partial.text:
            assert max(scored) == pytest.approx(math.exp(max(value for _, value in spans.values())))
            assert full.text.startswith("s") or max(scored) in hidden
    assert sum(candidate.probability for candidate in full.candidates) <= 1 + 1e-9
