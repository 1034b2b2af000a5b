"""Events and the state that they lead to."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.decode.prediction import Candidate
from palmette.errors import DataError
from palmette.review.events import Event, Shown, Span, Verdict, from_dict, to_dict
from palmette.review.state import State, fold
from tests.support.reviewing import START, TEXT, event, shown, span, verdict


def numbered(*events: Event) -> list[Event]:
    """Events with the ids of a store."""
    return [
        Event(**{**{name: getattr(one, name) for name in Event.__slots__}, "id": n}) for n, one in enumerate(events, 1)
    ]


ACCEPT, REJECT, NONE = verdict("accept", "7:40"), verdict("reject"), verdict("no_answer")


def test_the_latest_verdict_counts_and_an_undo_brings_back_the_one_before() -> None:
    events = numbered(
        event("shown", shown=shown()),
        event("verdict", verdict=REJECT),
        event("verdict", verdict=ACCEPT),
        event("verdict", "bob", verdict=NONE),
        event("undo", undoes=3),
        event("undo", undoes=3),
        event("undo", undoes=2),
    )
    kinds = [{key[0]: one.verdict.kind for key, one in fold(events[:n]).judgements.items()} for n in range(8)]
    both = {"ann": "reject", "bob": "no_answer"}
    assert kinds == [
        {},
        {},
        {"ann": "reject"},
        {"ann": "accept"},
        {**both, "ann": "accept"},
        both,
        both,
        {"bob": "no_answer"},
    ]
    state = fold(events)
    assert state.num_undone == 2
    assert state.last == 7
    assert state.latest("ann") is None
    assert fold(events[3:], fold(events[:3])).judgements == state.judgements, "a fold can be continued"


def test_an_undo_of_an_older_verdict_leaves_the_newer_one() -> None:
    state = fold(numbered(event("verdict", verdict=REJECT), event("verdict", verdict=ACCEPT), event("undo", undoes=1)))
    assert [one.verdict for one in state.of("ann")] == [ACCEPT]


def test_what_is_known_of_the_right_answer() -> None:
    suggested, none = shown("7:40"), shown(None)
    cases: list[tuple[Shown | None, Verdict, Any]] = [
        (suggested, ACCEPT, ("span", "7:40", True)),
        (suggested, REJECT, ("unknown", None, False)),
        (suggested, NONE, ("no answer", "", False)),
        (suggested, verdict("edit", "9"), ("span", "9", False)),
        (suggested, verdict("skip"), ("unknown", None, None)),
        (none, verdict("accept"), ("no answer", "", True)),
        (none, NONE, ("no answer", "", True)),
        (none, verdict("edit", "9"), ("span", "9", False)),
        (shown("7:40", blind=True), verdict("edit", "7:40"), ("span", "7:40", True)),
        (None, verdict("edit", "9"), ("span", "9", None)),
    ]
    for seen, said, expected in cases:
        before = [event("shown", shown=seen)] if seen else []
        (one,) = fold(numbered(*before, event("verdict", verdict=said))).of()
        assert (one.known, one.label, one.right) == expected, said


def test_people_disagree_only_where_both_cannot_be_right() -> None:
    """A rejection of one answer goes with any other answer."""
    cases = {
        ("accept", "accept"): False,
        ("accept", "reject"): True,
        ("reject", "reject"): False,
        ("reject", "edit"): False,
        ("accept", "edit"): True,
        ("reject", "no_answer"): False,
        ("accept", "skip"): False,
        ("no_answer", "no_answer"): False,
    }
    spans = {"accept": "7:40", "edit": "9"}
    for kinds, expected in cases.items():
        events = []
        for name, kind in zip(("ann", "bob"), kinds, strict=True):
            events += [
                event("shown", name, shown=shown()),
                event("verdict", name, verdict=verdict(kind, spans.get(kind))),
            ]
        state = fold(numbered(*events))
        assert bool(state.conflicts()) is expected, kinds
        settled = state.settled("when")
        assert (settled is None) is expected, kinds
        if kinds == ("reject", "edit"):
            assert settled is not None
            assert settled.verdict.kind == "edit", "it says more than the rejection"


def test_an_adjudication_ends_a_disagreement_and_can_be_undone() -> None:
    events = numbered(
        event("verdict", verdict=ACCEPT),
        event("verdict", "bob", verdict=NONE),
        event("adjudicated", "eve", verdict=verdict("edit", "9")),
        event("undo", "eve", undoes=3),
    )
    assert list(fold(events[:2]).conflicts()) == ["when"]
    decided = fold(events[:3])
    assert decided.conflicts() == {}
    settled = decided.settled("when")
    assert settled is not None
    assert settled.answer == span("9")
    assert fold(events).settled("when") is None


def test_rates_and_seconds() -> None:
    """Four verdicts 10, 20 and 30 seconds apart with a night between: two gaps of work, 40 seconds, 3 a minute."""
    after = [0.0, 10.0, 40.0, 50_000.0]
    events = [
        event("verdict", question=f"q{n}", after=one, verdict=verdict("reject", seconds=n))
        for n, one in enumerate(after)
    ]
    state = fold(numbered(*events))
    assert state.rate("ann") == pytest.approx(3.0)
    assert state.rate("bob") is None
    assert state.seconds() == 0 + 1 + 2 + 3
    assert state.counts() == {"reject": 4}


def test_blind_questions_show_whether_suggestions_sway_people() -> None:
    events = []
    for n, (kind, text, blind) in enumerate(
        [("accept", "7:40", False), ("accept", "7:40", False), ("edit", "7:40", True), ("edit", "9", True)]
    ):
        events += [
            event("shown", question=f"q{n}", shown=shown(blind=blind)),
            event("verdict", question=f"q{n}", verdict=verdict(kind, text)),
        ]
    state = fold(numbered(*events))
    assert (state.accept_rate(), state.accept_rate(blind=True)) == (1.0, 0.5)
    assert State().accept_rate() is None


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))
spans = st.builds(lambda text, start: Span(text, start, start + len(text)), texts, st.integers(0, 10**6))
shares = st.floats(0, 1)
candidates = spans.flatmap(lambda one: shares.map(lambda share: Candidate(one.text, one.start, one.end, share)))
seen = st.builds(
    Shown,
    st.none() | spans,
    st.none() | shares,
    st.none() | shares,
    st.lists(candidates, max_size=3).map(tuple),
    st.text(max_size=5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | shares,
    st.booleans(),
)
seconds = st.floats(0, 1e6)
verdicts = st.builds(
    Verdict, st.sampled_from(["reject", "no_answer", "skip", "accept"]), st.none(), seconds
) | st.builds(Verdict, st.sampled_from(["edit", "accept"]), spans, seconds)
times = st.datetimes(timezones=st.sampled_from([timezone(timedelta(hours=hours)) for hours in (-11, 0, 5)]))
names = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))


@given(
    st.builds(
        Event,
        st.just("verdict"),
        times.filter(lambda time: 1900 < time.year < 9000),
        names,
        st.text(st.characters(codec="utf-8")),
        names,
        st.just("d" * 64),
        shown=st.none() | seen,
        verdict=verdicts,
        id=st.none() | st.integers(1, 2**62),
    )
)
def test_events_survive_json(one: Event) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(one))), "here") == one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Span("ferry", 3, 9), "'ferry' has 5 characters, and its ends are 3 and 9"),
        (lambda: Span(" ", 3, 4), "' ' has 1 characters"),
        (lambda: span("ferry").check("no such text", "here"), "here: the span 'ferry' does not stand at 4"),
        (lambda: verdict("edit"), "an edit has no span"),
        (lambda: verdict("reject", "9"), "the verdict reject has the span '9'"),
        (lambda: verdict("perhaps"), "'perhaps' is not a verdict. The verdicts are accept"),
        (lambda: verdict("skip", seconds=math.nan), "took nan seconds"),
        (lambda: verdict("skip", seconds=-1.0), "took -1.0 seconds"),
        (lambda: Shown(None, 1.5, 0.0), "the probability 1.5, which is not from 0 to 1"),
        (lambda: Shown(None, None, 0.0, score=math.inf), "the score inf"),
        (lambda: event("verdict"), "verdict of question 'when' lacks 'verdict'"),
        (lambda: event("shown"), "shown of question 'when' lacks 'shown'"),
        (lambda: event("undo"), "undo of question 'when' lacks 'undoes'"),
        (lambda: event("undo", undoes=1, verdict=REJECT), "undo of question 'when' has 'verdict'"),
        (lambda: event("shown", shown=shown(), undoes=1), "has 'undoes'"),
        (lambda: event("seen", shown=shown()), "'seen' is not a kind of event"),
        (lambda: event("verdict", " ", verdict=REJECT), "has no annotator"),
        (
            lambda: Event("verdict", START.replace(tzinfo=None), "a", "s", "q", "d", verdict=REJECT),
            "without a time zone",
        ),
        (lambda: from_dict({"kind": "verdict"}, "line 3"), "line 3 is no event of a review: no 'time'"),
        (
            lambda: from_dict({**to_dict(event("verdict", verdict=REJECT)), "annotator": 7}, "line 3"),
            "'annotator' is 7",
        ),
        (
            lambda: from_dict({**to_dict(event("verdict", verdict=REJECT)), "time": "noon"}, "line 3"),
            "line 3 is no event",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(make: Any, message: str) -> None:
    with pytest.raises(DataError) as found:
        make()
    assert message in str(found.value)


def test_times_are_kept_in_utc() -> None:
    local = datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=3)))
    assert Event("verdict", local, "a", "s", "q", "d", verdict=REJECT).time.isoformat() == "2026-03-01T09:00:00+00:00"
    assert span("7:40").start == TEXT.index("7:40")
