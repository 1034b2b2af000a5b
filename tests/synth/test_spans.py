"""Spans by rule: what counts as a date, an amount, a number, a quoted term or a name, and that each can be given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.data.records import Document
from palmette.decode.spans import unreachable
from palmette.synth.questions import choose_spans
from palmette.synth.spans import find_candidates, kind_counts


def found(text: str) -> list[tuple[str, str]]:
    return [(text[one.start : one.end], one.kind) for one in find_candidates(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was lit on 3 March 1871.", [("3 March 1871", "date")]),
        ("It was lit on March 3, 1871, at 7:40.", [("March 3, 1871", "date"), ("7:40", "number")]),
        ("since May 2004 or 1994", [("May 2004", "date"), ("1994", "date")]),
        ("you may 5 times", [("5 times", "amount")]),  # may is no month
        ("by 2026-11-29", [("2026-11-29", "date")]),
        ("within 30 days, for $1,200 or 12%", [("30 days", "amount"), ("$1,200", "amount"), ("12%", "amount")]),
        ("a 10-day trip of 2.5 million euros", [("10-day", "amount"), ("2.5 million euros", "amount")]),
        ("see 4.1.2 and A4 and v2", [("4.1.2", "number"), ("A4", "name")]),  # digits inside words are no number
        ("the \u201cCover Page\u201d ends", [("Cover Page", "quoted")]),
        ("on the \"Effective Date.\"", [("Effective Date", "quoted")]),
        ("the 6\" gun and the 8\" gun", [("6", "number"), ("8", "number")]),  # inches are no quotation
        ("The Duke of York met him.", [("Duke of York", "name")]),
        ("If Ada Byrne is there, Ada speaks.", [("Ada Byrne", "name"), ("Ada", "name")]),
        ("Harbours close. Boats wait.", []),  # a capital that begins a sentence says nothing
        ("It belongs to Whitby.", [("Whitby", "name")]),
        ("", []),
    ],
)  # fmt: skip
def test_the_rules(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


ALPHABET = 'aA Bb1 2.,:-\u201c\u201d"$%\n\u0301May 1906 of days'


@given(st.lists(st.sampled_from([*ALPHABET, "May", "1906", "12 days", "Ada", " "]), max_size=40).map("".join))
def test_spans_do_not_overlap_and_the_decoder_can_give_them(text: str) -> None:
    spans = find_candidates(text)
    end = 0
    for one in spans:
        assert one.start >= end
        end = one.end
        assert unreachable(text, text[one.start : one.end], 30) is None
    assert sum(kind_counts(spans).values()) == len(spans)


def test_spans_are_chosen_evenly_among_kinds_and_by_the_seed() -> None:
    text = "On 1 May 1901 and 2 May 1902 and 3 May 1903 and 4 May 1904 it met Ada Byrne."
    one, counts = choose_spans(Document("d", text, ()), 2, seed=0)
    assert sorted(span.kind for span in one) == ["date", "name"]
    assert counts == {"date": 4, "name": 1}
    every, _ = choose_spans(Document("d", text, ()), 9, seed=0)
    assert len(every) == 5
    assert [span.start for span in every] == sorted(span.start for span in every)
    chosen = {choose_spans(Document("d", text, ()), 2, seed=seed)[0][0].start for seed in range(20)}
    assert len(chosen) > 1
