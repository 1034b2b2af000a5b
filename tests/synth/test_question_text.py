"""Questions about documents: what a writer is asked, and what its text becomes."""

from __future__ import annotations

import pytest

from palmette.synth import question_text
from palmette.synth.question_text import fault_of, question_request, read_question
from palmette.synth.spans import find_candidates
from palmette.synth.writers import Written

FERRY = (
    "The ferry to Gull Rock leaves at 7:40 from the old pier. Ada Byrne steers it each day of the year, and she has "
    "done so since 4 May 1906. The passengers pay $3.50 to her."
)


def read(text: str, finish: str = "end") -> str:
    return read_question(Written(text, finish, None))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("When does it leave?", "When does it leave?"),
        ("Question: When does it leave?", "When does it leave?"),
        ("1. **When does  it leave?**\n2. Who steers?", "When does it leave?"),
        ("Here is one.\n\n\u201cWhen does it leave?\u201d", "When does it leave?"),
        ("<think>Who steers?</think>When does it leave? At 7:40.", "When does it leave?"),
        ("<think>Is it this one? Who steers", ""),
        ("Is it this one?</think>When does it leave?", "When does it leave?"),
        ("It leaves at 7:40.", ""),
        ("", ""),
    ],
)
def test_the_question_is_read_out_of_what_was_written(text: str, question: str) -> None:
    assert read(text) == question


FAULTS = {
    "": ("When does the ferry leave?", "end"),
    "cut off": ("When does the ferry leave, which goes to", "length"),
    "failed": ("no such model", "failed"),
    "no question": ("The ferry leaves.", "end"),
    "holds the answer": ("Does the ferry leave at 7:40?", "end"),
    "speaks of the text": ("When, according to the text, does the ferry leave?", "end"),
    "copies the text": ("When is it that the ferry to Gull Rock leaves at dawn from the old pier?", "end"),
    "copies a sentence": ("Does Ada Byrne steer it each day of the year, and has she done so since then?", "end"),
    "too short": ("Leaves when?", "end"),
    "too long": ("When " + "does it then " * 14 + "leave?", "end"),
}


@pytest.mark.parametrize("reason", sorted(FAULTS))
def test_a_fault_has_one_reason(reason: str) -> None:
    text, finish = FAULTS[reason]
    passage = FERRY.replace("leaves at 7:40", "leaves at dawn") if reason == "copies the text" else FERRY
    written = Written(text, finish, None)
    assert fault_of(written, read_question(written), passage, "7:40") == reason
    assert set(FAULTS) - {""} == set(question_text.REASONS) - {"repeated"}


def test_the_answer_inside_another_number_is_none() -> None:
    written = Written("What happens at 17:40 each day?", "end", None)
    assert fault_of(written, read_question(written), FERRY, "7:40") == ""


def test_the_writer_sees_the_passage_the_words_and_their_sentence() -> None:
    (span,) = [one for one in find_candidates(FERRY) if FERRY[one.start : one.end] == "7:40"]
    *examples, (role, asked) = question_request(FERRY, span)
    assert [one for one, _ in examples] == ["user", "assistant"] * 2
    assert role == "user"
    assert asked.startswith(FERRY)
    assert (
        "\u201c7:40\u201d is the answer, as it stands in: The ferry to Gull Rock leaves at 7:40 from the old pier.\n"
        in asked
    )
