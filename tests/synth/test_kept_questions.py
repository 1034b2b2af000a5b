"""Which questions are kept of those that the reader has answered: no copies, and hard and easy ones evenly."""

from __future__ import annotations

from typing import Any

import pytest

from palmette.data.records import Document
from palmette.synth.question_settings import QuestionSettings
from palmette.synth.questions import kept_questions

FERRY = "The ferry to Gull Rock leaves at 7:40 from the old pier. Ada Byrne steers it each day of the year."


def spans(*given: tuple[str, str, float]) -> list[dict[str, Any]]:
    """Spans of a passage that the reader has answered: question, answer and probability."""
    return [
        {"id": str(n), "question": question, "answer": answer, "start": n, "probability": probability, "reason": ""}
        for n, (question, answer, probability) in enumerate(given)
    ]


def test_nearly_the_same_questions_with_one_answer_are_kept_once_in_a_document() -> None:
    """Of the first two, four of five words are the same, so ROUGE-L is 0.8. Another document may mean another ferry."""
    asked = ("Who steers the old ferry?", "Ada Byrne", 0.9), ("Who steers the new ferry?", "ada  byrne", 0.9)
    other = ("Who steers the new ferry?", "Ben Cole", 0.9)
    passages = [Document("a#0", FERRY, (), "a"), Document("a#9", FERRY, (), "a"), Document("b#0", FERRY, (), "b")]
    lines = [{"spans": spans(asked[0])}, {"spans": spans(asked[1], other)}, {"spans": spans(asked[1])}]
    kept = kept_questions(passages, lines, QuestionSettings())
    assert [[q.text for q in one.questions] for one in kept] == [[asked[0][0]], [other[0]], [asked[1][0]]]
    assert lines[1]["spans"][0]["reason"] == "alike"


@pytest.mark.parametrize(
    ("number", "kept"),
    [(9, [1, 0, 2, 3, 3]), (6, [1, 0, 1, 2, 2]), (3, [0, 0, 1, 1, 1]), (100, [1, 0, 2, 9, 4]), (1, [0, 0, 0, 1, 0])],
)
def test_a_number_of_questions_is_shared_out_among_bins(number: int, kept: list[int]) -> None:
    """By hand: there are 1, 0, 2, 9 and 4. Every bin gets the same share, and what one lacks goes to those with more.

    With 9, the share of the empty bin is left over, the bin of 1 and that of 2 give all, and 6 are left for two bins.
    """
    probabilities = [0.1, *[0.5] * 2, *[0.7] * 9, *[0.9] * 4]
    line = {"spans": spans(*((f"Is it number {n}?", f"{n}", one) for n, one in enumerate(probabilities)))}
    kept_questions([Document("d", FERRY, ())], [line], QuestionSettings(number=number))
    found = [span["probability"] for span in line["spans"] if not span["reason"]]
    assert [sum(int(p * 5) == k for p in found) for k in range(5)] == kept
    assert {span["reason"] for span in line["spans"]} <= {"", "enough of its kind"}
