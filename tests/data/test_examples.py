"""The example contract that comes with the package, and what is asked about it."""

from __future__ import annotations

from importlib import resources

from palmette.data.source import read_source

FOLDER = resources.files("palmette.data").joinpath("examples")


def test_the_questions_are_about_the_contract_as_it_is() -> None:
    """Eight questions that it answers and two that it does not, each with a span that a careless reader would give."""
    (document,) = read_source(str(FOLDER.joinpath("contract.json"))).documents
    assert document.text == FOLDER.joinpath("contract.txt").read_text(encoding="utf-8")
    assert [question.answerable for question in document.questions] == [True] * 8 + [False] * 2
    assert all(question.plausible for question in document.questions[8:])


def test_the_contract_says_what_people_ask_for() -> None:
    """Fee, notice period, governing law, deadline, party and cap. Nothing about insurance or competitors."""
    text = FOLDER.joinpath("contract.txt").read_text(encoding="utf-8")
    assert 1300 <= len(text.encode()) <= 1500
    for said in ("4,800 pounds", "three months", "England and Wales", "30 September 2025", "Tidewater", "60,000"):
        assert text.count(said) == 1
    for absent in ("insur", "compet"):
        assert absent not in text.lower()
