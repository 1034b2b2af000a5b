"""Thresholds of fields: which have their own, what is given under them, and what they cost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.evaluate.calibration import Case, PassageCase
from palmette.extraction.schema import Field, Schema
from palmette.extraction.thresholds import Thresholds, thresholds_of
from tests.support.command import palmette
from tests.support.field_cases import case, labelled

LAW, RENT, START, END = (Field(name, f"{name}?") for name in ("law", "rent", "start", "end"))
TENANTS = Field("tenants", "tenants?", many=True)
KIND = Field("kind", "kind?", "choice", options=("flat", "house"))


def torn(field: Field, number: int, right: str) -> list[Case]:
    """Two spans share the probability of a value, white the likelier one. As many documents hold no value."""
    known = [case(field, one, (right,), white=3.0, green=2.9) for one in range(number)]
    return known + [case(field, 1000 + one, (), white=-5.0) for one in range(number)]


def given(fitted: Thresholds, schema: Schema, field: Field, cases: list[Case]) -> list[str]:
    decision = fitted.rules(schema, Decision())[field.name].decision
    return [decision.decide(one.posterior).text for one in cases]


def test_fields_whose_probabilities_look_alike_have_thresholds_of_their_own() -> None:
    """White is right in one field, and wrong in the other. At a cost of 2, all are given in the first, which costs
    nothing, and none in the second. There half of the labels cost 1, where the most probable value would cost 2.
    """
    schema, law, rent = Schema((LAW, RENT)), torn(LAW, 12, "white"), torn(RENT, 12, "green")
    fitted = thresholds_of(schema, {"law": law, "rent": rent}, 2.0)
    assert [one.fields for one in fitted.groups] == [("law",), ("rent",)]
    first, second = fitted.groups
    assert (first.num_labels, first.before, first.after, first.refusing) == (24, 0.0, 0.0, 0.5)
    assert (second.num_labels, second.before, second.after, second.refusing) == (24, 1.0, 0.5, 0.5)
    assert given(fitted, schema, LAW, law) == ["white"] * 12 + [""] * 12
    assert given(fitted, schema, RENT, rent) == [""] * 24


def test_fields_with_few_labels_share_a_threshold() -> None:
    """9 labels with a value are too few for a field, and 9 of two fields together are too few as well."""
    few = {"rent": torn(RENT, 5, "white"), "start": torn(START, 6, "white")}
    fitted = thresholds_of(Schema((LAW, RENT, START)), {"law": torn(LAW, 10, "white"), **few}, 2.0)
    assert [one.fields for one in fitted.groups] == [("law",), ("rent", "start")]
    fewer = {"rent": torn(RENT, 5, "white"), "start": torn(START, 4, "white")}
    fitted = thresholds_of(Schema((LAW, RENT, START)), {"law": torn(LAW, 10, "white"), **fewer}, 2.0)
    assert [one.fields for one in fitted.groups] == [("law", "rent", "start")]


def test_lists_and_choices_have_no_threshold() -> None:
    schema = Schema((LAW, TENANTS, KIND))
    fitted = thresholds_of(schema, {"law": torn(LAW, 12, "white"), "tenants": torn(TENANTS, 12, "white")}, 2.0)
    assert (fitted.lists, fitted.uncovered) == (("tenants",), ("kind",))
    rules = fitted.rules(schema, Decision(always_answer=True))
    assert rules["kind"].decision.always_answer
    assert (rules["tenants"].least, rules["tenants"].decision) == (0.0, fitted.odds)
    assert fitted.warn_of_windows([1]) is None  # all labels are of documents of one window
    assert "2 parts" in (fitted.warn_of_windows([1, 2]) or "")
    said = list(fitted.explain())
    assert said[0] == "a wrong value costs 2, and leaving out one that a document holds costs 1"
    assert said[1].startswith("law: given if P(the value) + P(any value) / 2 is at least ")
    assert said[2:] == [
        "tenants: given from least_probability on, as lists are",
        "nothing is fitted for kind: choices, and fields without labels",
    ]


@pytest.mark.parametrize(
    ("known", "found", "right"),
    [
        ("No party may assign this Agreement.", "may assign this Agreement", True),
        ("may assign", "No party may assign this Agreement.", True),
        ("may assign", "may not assign", False),
        ("may assign", "the", False),
        ("may assign", "", False),
        (None, "", True),
        (None, "may assign", False),
    ],
)
def test_a_passage_that_says_yes_is_right_if_it_holds_or_is_held(known: str | None, found: str, right: bool) -> None:
    question = Question("q", "May it be assigned?", () if known is None else (Answer(known, 0),))
    posterior = SpanPosterior.merge([WindowScores({}, 0.0, 0.0, 1)])
    assert (
        PassageCase(Document("d", "No party may assign this Agreement.", ()), question, posterior).right(found) is right
    )


def test_the_command_fits_thresholds_first(
    sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ferry.yaml").write_text("fields:\n  time: When does the ferry leave?\n  who: Who built it?\n")
    (tmp_path / "a.txt").write_text("The ferry leaves at 7:40 from pier 3.")
    words = ["extract", tmp_path / "ferry.yaml", tmp_path / "a.txt", "--out", tmp_path / "t.csv", "--model", sft_run]
    assert palmette(monkeypatch, *words, "--target-error", "0.1") == 2
    assert "--target-error needs --labelled" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--cost-wrong", "3") == 2
    assert "a cost of 3 for a wrong answer was given, and no calibration of" in capsys.readouterr().err
    words += ["--labelled", labelled(tmp_path, 8)]
    assert palmette(monkeypatch, *words, "--cost-wrong", "3", "--target-error", "0.1") == 2
    assert "give --target-error or --cost-wrong" in capsys.readouterr().err
    nothing_else = ["--labelled", tmp_path / "none.csv", "--model", "no-such-model"]
    assert palmette(monkeypatch, *words, *nothing_else, "--cost-wrong", "0.5") == 2
    assert "the cost of a wrong answer is 0.5" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, *nothing_else, "--target-error", "1") == 2
    assert "the target error is 1.0" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--cost-wrong", "3") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a wrong value costs 3, and leaving out one that a document holds costs 1" in said
    assert "time, who: given if P(the value) + P(any value) / 3 is at least" in said
    with (tmp_path / "t.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["document"].endswith("a.txt")
    assert (tmp_path / "t.csv.lines.jsonl").read_text().count("\n") == 2
