"""What `palmette ask` shows of an answer: on a terminal, and where output is piped."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from palmette.cli.answer.answers import AnsweredQuestion, as_record, show
from palmette.decode.prediction import Candidate, Prediction
from palmette.documents.record import Extracted, extracted

TEXT = """\
SERVICES AGREEMENT

The Client pays a monthly fee of EUR 4,000, due
within 30 days of the invoice.
\x1b[2JEither party may end it with 60 days' notice.
"""
DOCUMENT = extracted("contract.txt", "text", TEXT)


def candidate(text: str, probability: float) -> Candidate:
    start = TEXT.index(text)
    return Candidate(text, start, start + len(text), probability)


FEE = candidate("EUR 4,000", 0.81)
NOTICE = candidate("60 days' notice", 0.4)
OTHERS = (candidate("30 days", 0.03),)
ANSWER = Prediction("EUR 4,000", "", FEE.start, FEE.end, 0.81, 0.1, (FEE, *OTHERS), certified=True, num_passes=2)
ABSENT = Prediction("", "absent", probability=0.93, no_answer_probability=0.93, candidates=OTHERS, num_passes=1)
UNSURE = Prediction("", "unsure", probability=0.31, no_answer_probability=0.31, candidates=(NOTICE, *OTHERS))


def shown(*asked: tuple[str, Prediction], terminal: int = 0, document: Extracted = DOCUMENT, **options: bool) -> str:
    """What is shown, without colours: on a terminal of so many columns, or piped."""
    console = Console(
        file=io.StringIO(),
        force_terminal=bool(terminal),
        width=terminal or 80,
        markup=False,
        emoji=False,
        highlight=False,
    )
    show(console, document, asked, **options)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[2J" not in output, "the document never acts on the terminal"
    return "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", output).splitlines())


def test_the_answer_comes_first_and_stands_alone() -> None:
    assert shown(("What is the fee?", ANSWER)).splitlines() == [
        "EUR 4,000",
        "likely, 0.81, line 3",
        "",
        "3  The Client pays a monthly fee of »EUR 4,000«, due",
        "4  within 30 days of the invoice.",
    ]
    coloured = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="truecolor")
    show(coloured, DOCUMENT, [("What is the fee?", ANSWER)])
    first = coloured.file.getvalue().splitlines()[0]  # type: ignore[attr-defined]
    assert first == "\x1b[1mEUR 4,000\x1b[0m", "bold, and nothing else around it"


def test_uncertain_ends_are_said_and_the_place_is_shown() -> None:
    """The first number is that of the place. An answer is given at a low cost of wrong ones only, else it is unsure."""
    shorter, longer = candidate("30 days", 0.41), candidate("30 days of the invoice", 0.38)
    given = Prediction("30 days", "", shorter.start, shorter.end, 0.41, 0.12, (shorter, longer), place_probability=0.83)
    unsure = Prediction(
        "", "unsure", probability=0.12, no_answer_probability=0.12, candidates=given.candidates, place_probability=0.83
    )
    below = [
        "   0.41  30 days  line 4",
        "   0.38  30 days of the invoice  line 4",
        "   0.12  not in the document",
        "",
        "3  The Client pays a monthly fee of EUR 4,000, due",
        "4  within »30 days« of the invoice.",
    ]
    head = ["30 days", "likely here, 0.83, its ends uncertain (exactly these words: 0.41), line 4"]
    assert shown(("When is it due?", given)).splitlines() == [*head, *below]
    head = ["unsure: probably here, its ends uncertain (0.83)"]
    assert shown(("When is it due?", unsure)).splitlines() == [*head, *below]
    table = shown(("When is it due?", unsure), ("And now?", given), ("What is the fee?", ANSWER)).splitlines()
    assert table[1].split("\t") == ["When is it due?", "unsure: 30 days? (ends uncertain)", "0.83", "line 4"]
    assert table[2].split("\t") == ["And now?", "30 days (ends uncertain)", "0.83", "line 4"]
    assert as_record(DOCUMENT, AnsweredQuestion("When is it due?", unsure))["place_probability"] == 0.83


def test_refusals() -> None:
    assert shown(("Is there a non-compete?", ABSENT)) == "not in the document (0.93)"
    assert shown(("When does it end?", UNSURE)).splitlines() == [
        "unsure: the document may answer this, but no passage is likely enough",
        "   0.40  60 days' notice  line 5",
        "   0.31  not in the document",
        "   0.03  30 days  line 4",
    ]
    hopeless = replace(UNSURE, candidates=(NOTICE, candidate("30 days", 0.004)))
    assert "30 days" not in shown(("When does it end?", hopeless)), "only likely ones, since a person reads them"


def test_a_weak_absence_shows_what_came_nearest() -> None:
    weak = replace(ABSENT, probability=0.7, no_answer_probability=0.7)
    assert shown(("Is there a non-compete?", weak)).splitlines() == [
        "probably not in the document (0.70)",
        "   0.70  not in the document",
        "   0.03  30 days  line 4",
    ]


def test_the_whole_document_on_request() -> None:
    lines = shown(("What is the fee?", ANSWER), full=True).splitlines()
    assert lines[3:] == [
        "1  SERVICES AGREEMENT",
        "2",
        "3  The Client pays a monthly fee of »EUR 4,000«, due",
        "4  within 30 days of the invoice.",
        "5   [2JEither party may end it with 60 days' notice.",
    ]


def test_why() -> None:
    lines = shown(("What is the fee?", ANSWER), why=True).splitlines()
    assert lines[2:7] == [
        "   0.81  EUR 4,000  line 3",
        "   0.10  not in the document",
        "   0.03  30 days  line 4",
        "the decision is proved: scoring every other passage could not change it",
        "the document was read, in 2 forward passes",
    ]
    two = shown(("Is there a non-compete?", ABSENT), ("What is the fee?", ANSWER), why=True)
    assert two.index("Is there a non-compete?") < two.index("not in the document") < two.index("What is the fee?")


SEVERAL = (
    ("What is the monthly fee that the Client pays to the Supplier?", ANSWER),
    ("Is there a non-compete?", ABSENT),
    ("When does it end?", UNSURE),
)


@pytest.mark.parametrize("columns", [60, 80])
def test_several_answers_are_a_table_that_fits_the_terminal(columns: int) -> None:
    lines = shown(*SEVERAL, terminal=columns).splitlines()
    assert max(map(len, lines)) <= columns
    cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    shown_answers = " ".join(" ".join(row[1] for row in cells).split())
    assert shown_answers == "EUR 4,000 not in the document unsure: 60 days' notice?"
    assert [row[2:] for row in cells if row[2]] == [["0.81", "line 3"], ["0.93", ""], ["0.40", "line 5"]]
    words = {word for row in cells for word in row[0].split()}
    assert words == {word for question, _ in SEVERAL for word in question.split()}, "no word is broken"


def test_piped_tables_have_tabs() -> None:
    rows = [line.split("\t") for line in shown(*SEVERAL).splitlines()]
    assert rows[0] == ["question", "answer", "probability", "place"]
    assert rows[1] == [SEVERAL[0][0], "EUR 4,000", "0.81", "line 3"]
    assert [row[1:] for row in rows[2:]] == [
        ["not in the document", "0.93"],
        ["unsure: 60 days' notice?", "0.40", "line 5"],
    ]


def test_json_has_the_place() -> None:
    record = as_record(DOCUMENT, AnsweredQuestion("What is the fee?", ANSWER))
    assert (record["question"], record["answer"], record["place"]) == ("What is the fee?", "EUR 4,000", {"line": 3})
    assert TEXT[record["start"] : record["end"]] == "EUR 4,000"
    assert record["refusal"] is None
    refused = as_record(DOCUMENT, AnsweredQuestion("?", ABSENT))
    assert (refused["answer"], refused["refusal"], refused["place"]) == (None, "absent", None)


def test_words_that_are_not_in_the_document_are_told_apart() -> None:
    invented = Prediction("8:15", probability=None)
    assert shown(("When?", invented)).splitlines() == ["8:15", "these words are not in the document"]
    broken = Prediction("", valid_json=False, completion="At 7:40.")
    assert shown(("When?", broken)) == "the model did not answer in the format asked for: At 7:40."
