"""Predictions in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palmette.decode.prediction import Candidate, Prediction
from palmette.inference.wording import certainty, decimals, headline, likelihood, reasons, refusal


@pytest.mark.parametrize(
    ("probability", "word"),
    [
        (1.0, "virtually certain"),
        (0.99, "virtually certain"),
        (0.9, "very likely"),
        (0.81, "likely"),
        (0.66, "likely"),
        (0.65, "about as likely as not"),
        (0.33, "about as likely as not"),
        (0.32, "unlikely"),
        (0.09, "very unlikely"),
        (0.0, "exceptionally unlikely"),
    ],
)
def test_the_scale_is_that_of_the_ipcc(probability: float, word: str) -> None:
    """Virtually certain from 99 %, very likely from 90, likely from 66, about as likely as not from 33 to 66."""
    assert likelihood(probability) == word


def test_no_probability_is_rounded_to_certainty() -> None:
    assert [decimals(p) for p in (0.0, 0.004, 0.006, 0.5, 0.994, 0.9951, 1.0)] == [
        "below 0.01", "below 0.01", "0.01", "0.50", "0.99", "above 0.99", "above 0.99"
    ]  # fmt: skip


def test_outcomes_in_words() -> None:
    answer = Prediction("30\ndays", "", 0, 7, probability=0.81, no_answer_probability=0.1)
    assert (headline(answer), certainty(answer)) == ("30 days", "likely, 0.81")
    absent = Prediction("", "absent", probability=0.93, no_answer_probability=0.93)
    assert refusal(absent) == "not in the document (0.93)"
    assert refusal(Prediction("", "absent")) == "not in the document"
    weaker = {0.9: "not in the document", 0.89: "probably not in the document", 0.55: "perhaps not in the document"}
    for probability, words in weaker.items():
        assert refusal(Prediction("", "absent", no_answer_probability=probability)) == f"{words} ({probability:.2f})"
    partly = Prediction("", "absent", no_answer_probability=0.95, num_read=4, num_windows=9)
    assert refusal(partly) == "not in the parts that were read (0.95)"
    assert refusal(Prediction("", "unsure", no_answer_probability=0.4)).startswith("unsure: ")
    broken = Prediction("", valid_json=False, completion="At\x1b[2J 7:40.\n")
    assert headline(broken) == "the model did not answer in the format asked for: At [2J 7:40."
    assert certainty(broken) == ""


def test_uncertain_ends_in_words() -> None:
    """The place is called probable from the same number on as an absence."""
    fee = Candidate("4,800 pounds", 0, 12, 0.4)
    unsure = Prediction("", "unsure", probability=0.2, no_answer_probability=0.2, candidates=(fee,))
    for place, words in {0.66: "probably here", 0.65: "perhaps here", 0.51: "perhaps here"}.items():
        said = refusal(replace(unsure, place_probability=place))
        assert said == f"unsure: {words}, its ends uncertain ({place:.2f})"
    assert refusal(replace(unsure, place_probability=0.5)).endswith("no passage is likely enough")
    sure = replace(unsure, place_probability=0.8, candidates=(replace(fee, probability=0.5),))
    assert refusal(sure).endswith("no passage is likely enough")
    given = Prediction(fee.text, "", 0, 12, 0.44, 0.2, (replace(fee, probability=0.44),), place_probability=0.78)
    assert certainty(given) == "likely here, 0.78, its ends uncertain (exactly these words: 0.44)"
    assert certainty(replace(given, place_probability=0.4)) == "about as likely as not, 0.44"


def test_reasons_say_what_was_proved_and_read() -> None:
    proved = Prediction("a", "", 0, 1, certified=True, num_passes=1)
    assert list(reasons(proved)) == [
        "the decision is proved: scoring every other passage could not change it",
        "the document was read, in 1 forward pass",
    ]
    loose = Prediction("a", "", 0, 1, unscored=0.12, num_passes=4, num_windows=3, num_read=2)
    first, second = reasons(loose)
    assert first == "the decision is not proved: passages with a probability of 0.12 together were not scored"
    assert second == "2 of 3 parts of the document were read, in 4 forward passes"
    assert list(reasons(Prediction("a"))) == ["these words are not in the document"]
