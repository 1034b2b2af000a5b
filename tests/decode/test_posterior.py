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
    """Best scored 0.5, "?" 1, but something with odds up to 2 was not looked into. It may be nothing: then 0.5 is all
    there is, and the document is likelier to hold no answer.
    """
    found = Decision().decide(one_window(0.5, unscored=2, bound=2))
    assert (found.text, found.refusal, found.certified) == ("", "unsure", False)


def test_thresholds_decide() -> None:
    """Odds 1.5 and 0.5, in all Z = 2, against 1: probabilities 1/2, 1/6, 1/3.

    With temperature 1/2, Z counts as 4: 1/5 for none.
    """
    posterior = one_window(1.5, 0.5)
    assert Decision().decide(posterior).probability == pytest.approx(1 / 2)
    strict = Decision(max_no_answer=0.3).decide(posterior)
    assert (strict.text, strict.refusal, strict.certified) == ("", "unsure", True)
    assert strict.probability == pytest.approx(1 / 3)
    unsure = Decision(min_confidence=0.6).decide(posterior)
    assert (unsure.text, unsure.refusal, unsure.certified) == ("", "unsure", True)
    assert unsure.candidates[0].text == "a"
    assert unsure.probability == pytest.approx(1 / 3)
    sharper = Decision(temperature=0.5).decide(posterior)
    assert sharper.no_answer_probability == pytest.approx(1 / 5)
    assert sharper.probability == pytest.approx(4 / 5 * 3 / 4)
    for wrong, message in (
        ({"temperature": 0.0}, "not above 0"),
        ({"cost_wrong": 0.5}, "a cost of 0.5 for a wrong answer is not a number from 1 on"),
        ({"cost_wrong": math.nan}, "a cost of nan"),
        ({"min_worth": -0.1}, "a min_worth of -0.1 is below 0"),
        ({"window_power": math.inf}, "a window_power of inf is not a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            Decision(**wrong)


@pytest.mark.parametrize(
    ("odds", "kind"),
    [
        ((1.2, 0.1), "answer"),
        # P("a") = 0.45 / 2.05 = 0.22, P(no answer) = 0.49.
        ((0.45, 0.3, 0.3), "unsure"),
        # P("a") = 0.9 / 1.95 = 0.46, P(no answer) = 0.51.
        ((0.9, 0.05), "absent"),
        # As likely as no answer: a tie is refused.
        ((1.0,), "absent"),
        ((), "absent"),
    ],
)
def test_an_answer_is_likelier_than_absence_and_unsure_lies_between(odds: tuple[float, ...], kind: str) -> None:
    found = Decision().decide(one_window(*odds))
    assert (found.refusal or "answer", found.certified) == (kind, True)
    assert bool(found.text) == (kind == "answer")


def test_a_calibration_that_allows_it_still_shows_no_answer_below_absence() -> None:
    """An earlier version answered up to a probability of 0.59 for no answer: "a" at 0.43 beside 0.56, here."""
    posterior = one_window(0.77)
    old = Decision(max_no_answer=0.59)
    assert old.no_answer(posterior.evidence.answered) < 0.59
    assert (old.decide(posterior).text, old.decide(posterior).refusal) == ("", "absent")
    always = Decision(always_answer=True).decide(posterior)
    assert (always.text, always.certified) == ("a", True)
    # Probabilities count as they are shown. With temperature 2 and odds 1.7 of 10, P("a") = 0.17 * 0.76 = 0.13, and
    # P(no answer) = 1 / (1 + sqrt(10)) = 0.24.
    cooled = Decision(temperature=2.0).decide(one_window(1.7, 1.7, 1.7, 1.7, 1.6, 1.6))
    assert (cooled.text, cooled.refusal) == ("", "unsure")
    assert cooled.candidates[0].probability < (cooled.no_answer_probability or 0.0)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("cost", [1.0, 2.0, 7.0])
def test_with_exact_probabilities_the_rule_has_the_lowest_expected_cost(temperature: float, cost: float) -> None:
    """Answering costs `cost` with probability 1 - P(span), refusing costs 1 with probability 1 - P(no answer).

    The two expected costs are compared, and no formula of the rule's own.
    """
    kinds = set()
    for best in (0.3, 0.9, 1.1, 2.0, 5.0, 900.0):
        for rest in (0.0, 0.1, 1.0, 10.0):
            rivals = [min(rest, 0.99 * best)] * (1 + int(rest / best)) if rest else []
            total = best + sum(rivals)
            any_answer = total ** (1 / temperature) / (1 + total ** (1 / temperature))
            answering = cost * (1 - any_answer * best / total)
            if min(abs(answering - any_answer), abs(any_answer - 0.5)) < 1e-9:
                continue
            spans = {f"s{i}": (i, math.log(value)) for i, value in enumerate([best, *rivals])}
            posterior = SpanPosterior.merge([WindowScores(spans, -math.inf, -math.inf, 1)])
            found = Decision(temperature=temperature, cost_wrong=cost).decide(posterior)
            assert bool(found.text) == (answering < any_answer), (best, rivals)
            assert found.refusal in ("", "unsure" if any_answer > 0.5 else "absent")
            kinds.add(found.refusal)
    assert kinds == {"", "unsure", "absent"}


@pytest.mark.parametrize(
    ("decision", "posterior", "kind"),
    [
        # P(none) is 1/4 with the rest counted as answers, 1/3 without it.
        (Decision(max_no_answer=0.3), one_window(2, unscored=1, bound=1), "answer"),
        # Nothing scored: with everything scored there would be an answer.
        (Decision(always_answer=True), one_window(unscored=0.5, bound=0.5), "absent"),
        # P(a) is 2 / 4.5 with the rest, 2 / 3 without it.
        (Decision(min_confidence=0.5), one_window(2, unscored=1.5, bound=1.5), "unsure"),
        # The worth is 5/7 + 6/7/2 = 1.14 with the rest, 5/6 + 5/6/2 = 1.25 without it.
        (Decision(cost_wrong=2, min_worth=1.2), one_window(5, unscored=1, bound=1), "unsure"),
        # No answer in any case. P(none) is 1/2.1 with the rest counted as answers, 1/1.9 without it.
        (Decision(), one_window(0.9, unscored=0.2, bound=0.2), "unsure"),
    ],
)
def test_a_threshold_between_the_bounds_is_not_certified(
    decision: Decision, posterior: SpanPosterior, kind: str
) -> None:
    verdict, certain = decision.verdict(posterior.evidence)
    assert (verdict, certain) == (kind, False)


def test_what_is_refused_in_any_case_is_certified() -> None:
    """Nothing scored: all that was not looked into has odds 0.5 together, so no span reaches those of "?"."""
    assert Decision().verdict(one_window(unscored=0.5, bound=0.5).evidence) == ("absent", True)
    # At most 2 together with 1.8 scored. So there is rather an answer, but no span reaches 1.
    assert Decision().verdict(one_window(0.9, 0.9, unscored=0.2, bound=0.2).evidence) == ("unsure", True)


decisions = st.builds(
    Decision,
    temperature=st.floats(0.2, 5),
    max_no_answer=st.none() | st.floats(0, 1),
    min_confidence=st.just(0.0) | st.floats(0, 1),
    cost_wrong=st.floats(1, 5),
    min_worth=st.just(1.0) | st.floats(0, 2),
    always_answer=st.sampled_from([False, False, False, True]),
)


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("odds", [(1.2, 0.1), (9.0,), (0.3, 0.2)])
def test_odds_grow_by_a_power_of_the_number_of_windows(power: float, odds: tuple[float, ...]) -> None:
    """One of four windows holds all spans: the mean is a quarter of its odds, and 4 to the power multiplies it."""
    nothing = WindowScores({}, log(0.02), log(0.01), 1)
    spans = {f"s{index}": (index, math.log(value)) for index, value in enumerate(odds)}
    long = SpanPosterior.merge([WindowScores(spans, log(0.2), log(0.1), 1), nothing, nothing, nothing])
    factor = 4.0 ** (power - 1.0)
    same = SpanPosterior.merge(
        [
            WindowScores(
                {text: (start, value + math.log(factor)) for text, (start, value) in spans.items()},
                log(0.26 * factor),
                log(0.13 * factor),
                1,
            )
        ]
    )
    for temperature in (0.7, 2.0):
        found = Decision(temperature=temperature, window_power=power).decide(long)
        expected = Decision(temperature=temperature).decide(same)
        assert (found.text, found.refusal) == (expected.text, expected.refusal)
        assert found.no_answer_probability == pytest.approx(expected.no_answer_probability)
        assert found.unscored == pytest.approx(expected.unscored)
        assert [c.probability for c in found.candidates] == pytest.approx([c.probability for c in expected.candidates])
    alone = SpanPosterior.merge([WindowScores(spans, -math.inf, -math.inf, 1)])
    assert Decision(window_power=power).decide(alone) == Decision().decide(alone)


def test_what_was_not_read_is_a_prior_and_does_not_grow() -> None:
    """Half of the prior is left: odds 1/2 whatever the power, beside the 3 * 4^power of what was read."""
    read = WindowScores({"a": (0, math.log(6.0))}, -math.inf, -math.inf, 1)
    posterior = SpanPosterior.merge([read], [0.5], 4)
    for power in (0.0, 1.0):
        found = Decision(window_power=power).decide(posterior)
        odds = 3.0 * 4.0**power
        assert found.unread == pytest.approx(0.5 / (1.5 + odds))
        assert found.no_answer_probability == pytest.approx(1.0 / (1.5 + odds))
        assert not found.certified


def outcome(decision: Decision, odds: list[float]) -> tuple[str, float]:
    """What a decision makes of all odds, by probabilities alone, and how far the nearest rule is from its edge."""
    if not odds:
        return "absent", 1.0
    total = sum(odds)
    none = 1 / (1 + total ** (1 / decision.temperature))
    best = (1 - none) * max(odds) / total
    edges = [
        best - none,
        best + (1 - none) / decision.cost_wrong - decision.min_worth,
        best - decision.min_confidence,
        (1.0 if decision.max_no_answer is None else decision.max_no_answer) - none,
    ]
    if decision.always_answer or all(edge > 0 for edge in edges):
        return "answer", min(abs(edge) for edge in edges)
    edges.append(none - 0.5)
    return "unsure" if none < 0.5 else "absent", min(abs(edge) for edge in edges)


@settings(max_examples=1000, deadline=None)
@given(
    decision=decisions,
    scored=st.lists(st.floats(1e-3, 50), max_size=4),
    hidden=st.lists(st.floats(1e-3, 50), max_size=5),
    loose=st.floats(1, 3),
    missing=st.floats(0, 1),
    slack=st.floats(0, 1),
)
def test_what_is_certified_stays_when_everything_is_scored(
    decision: Decision, scored: list[float], hidden: list[float], loose: float, missing: float, slack: float
) -> None:
    """Hidden spans are known by bounds on their sum and their largest, as loose as they like, under every rule. All
    odds may be too high, because spans of the neighbours are missing from the denominator.
    """
    factor = math.exp(missing)
    spans = {f"s{index}": (index, math.log(value * factor)) for index, value in enumerate(scored)}
    bounds = [log(factor * loose * value) for value in (sum(hidden), max(hidden, default=0.0))]
    window = WindowScores(spans, bounds[0], bounds[1], 1, slack=missing + slack)
    partial = decision.decide(SpanPosterior.merge([window]))
    spans = {f"s{index}": (index, math.log(value)) for index, value in enumerate(scored)}
    spans |= {f"h{index}": (9 + index, math.log(value)) for index, value in enumerate(hidden)}
    full = decision.decide(SpanPosterior.merge([WindowScores(spans, -math.inf, -math.inf, 1)]))
    assert full.certified
    kind, margin = outcome(decision, [*scored, *hidden])
    if margin > 1e-9:
        assert (full.refusal or "answer") == kind
    if partial.certified:
        assert partial.refusal == full.refusal
        if partial.text:
            assert max(scored) == pytest.approx(math.exp(max(value for _, value in spans.values())))
            assert full.text.startswith("s") or max(scored) in hidden
    assert sum(candidate.probability for candidate in full.candidates) <= 1 + 1e-9


def posterior_of(spans: dict[str, tuple[int, float]], unscored: float = 0.0) -> SpanPosterior:
    """Spans with their first positions and odds."""
    known = {text: (start, math.log(odds)) for text, (start, odds) in spans.items()}
    return SpanPosterior.merge([WindowScores(known, log(unscored), log(unscored), 1)])


def test_the_place_of_a_span_holds_all_spans_that_overlap_it() -> None:
    """Odds 3, 2 and 1 of one place, 1 elsewhere, and 1 for none: 3/8, and 6/8 for the place. Half of it was not scored.

    "pounds" stands first in another line, but it is a part of the best span. "pound" is no word of it.
    """
    spans = {"4,800 pounds": (20, 3.0), "4,800 pounds a month": (20, 2.0), "pounds": (3, 1.0), "pound": (60, 1.0)}
    found = Decision(min_worth=2.0).decide(posterior_of(spans))
    assert (found.refusal, found.ends_uncertain) == ("unsure", True)
    assert found.candidates[0].probability == pytest.approx(3 / 8)
    assert found.place_probability == pytest.approx(6 / 8)
    assert Decision(min_worth=2.0).decide(posterior_of(spans, unscored=8)).place_probability == pytest.approx(6 / 16)
    cooled = Decision(min_worth=2.0, temperature=2.0).decide(posterior_of(spans))
    # P(none) = 1 / (1 + sqrt(7)), and the shares of 7 stay.
    assert cooled.place_probability == pytest.approx(6 / 7 * math.sqrt(7) / (1 + math.sqrt(7)))


def test_ends_are_certain_enough_where_the_span_or_no_place_is_likelier_than_not() -> None:
    sure = Decision().decide(posterior_of({"blue door": (0, 9.0), "door": (5, 1.0)}))
    assert (sure.text, sure.ends_uncertain) == ("blue door", False)
    apart = Decision().decide(posterior_of({"blue": (0, 3.0), "red": (9, 2.0), "grey": (20, 2.0)}))
    assert apart.place_probability == pytest.approx(3 / 8)
    assert not apart.ends_uncertain
    nothing = Decision().decide(posterior_of({}))
    assert (nothing.place_probability, nothing.ends_uncertain) == (0.0, False)


@settings(max_examples=300, deadline=None)
@given(
    words=st.lists(st.sampled_from(["red", "white", "blue", "pink"]), min_size=4, max_size=9),
    ends=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=1, max_size=6),
)
def test_spans_overlap_where_their_first_places_do_or_one_holds_the_other(
    words: list[str], ends: list[tuple[int, int]]
) -> None:
    """The oracle compares runs of word numbers: first places that share a word, or one text within the other."""
    runs = {}
    for first, count in ends:
        run = words[first : first + count]
        if run:
            at = next(at for at in range(len(words)) if words[at : at + len(run)] == run)
            runs.setdefault(" ".join(run), (at, len(run)))
    if not runs:
        return
    texts = list(runs)
    odds = {text: 2.0**-number for number, text in enumerate(texts)}
    starts = {text: len(" ".join([*words[:at], ""])) for text, (at, _) in runs.items()}
    best, (at, size) = texts[0], runs[texts[0]]
    expected = sum(
        odds[text]
        for text, (other, length) in runs.items()
        if (other < at + size and at < other + length) or f" {text} " in f" {best} " or f" {best} " in f" {text} "
    )
    found = Decision().decide(posterior_of({text: (starts[text], odds[text]) for text in texts}))
    assert found.place_probability == pytest.approx(expected / (1 + sum(odds.values())))
