"""Promises about fields: which fields share one, what is given under it, and who is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.errors import DataError
from palmette.evaluate.calibration import Case
from palmette.evaluate.guarantee import smallest_sample
from palmette.extraction.labels import Labels
from palmette.extraction.promise import Promise, make_promise, promise_of
from palmette.extraction.reading import WHOLE_SEARCH, FieldDecoder, listed, stated
from palmette.extraction.schema import Field, Schema
from palmette.inference.answerer import Answerer
from palmette.inference.calibration import Guarantee
from palmette.model.loading import LoadedModel
from palmette.tasks.extractive_qa import ExtractiveQa
from tests.support.command import palmette
from tests.support.field_cases import case, labelled
from tests.support.span_decoding import TEXT

RENT, START, END = (Field(name, f"{name}?") for name in ("rent", "start", "end"))
TENANTS = Field("tenants", "tenants?", many=True)
KIND = Field("kind", "kind?", "choice", options=("flat", "house"))
TARGET, CONFIDENCE = 0.1, 0.95


def cases(field: Field, right: int, wrong: int = 0, absent: int = 40) -> list[Case]:
    """Sure and right values, less sure and wrong ones, and absences, each in a document of its own."""
    good = [case(field, number, ("white",), white=5.0) for number in range(right)]
    bad = [case(field, 1000 + number, ("white",), green=1.0) for number in range(wrong)]
    return good + bad + [case(field, 2000 + number, (), white=-5.0) for number in range(absent)]


def test_only_values_above_the_threshold_are_given() -> None:
    """Of 260 values 60 are wrong, more than a tenth. None of these is given, since all of them are less sure."""
    known = cases(RENT, 200, 60)
    promise = promise_of(Schema((RENT, KIND)), {"rent": known}, TARGET, CONFIDENCE)
    ((names, guarantee),) = promise.groups
    assert (names, guarantee.num_wrong, promise.uncovered) == (("rent",), 0, ("kind",))
    rules = promise.rules(Schema((RENT, KIND)), Decision(always_answer=True))
    assert rules["kind"].decision.always_answer
    given = [(one, rules["rent"].decision.decide(one.posterior).text) for one in known]
    assert [one.right(text) for one, text in given if text] == [True] * 200
    plain = [(one, promise.odds.decide(one.posterior).text) for one in known]
    assert sum(bool(text) for _, text in plain) == 260


def test_a_field_with_enough_labels_has_a_promise_of_its_own() -> None:
    """With one answer a document, each half needs 29 answers: 0.9^29 <= 0.05 < 0.9^28. 40 labels are too few for a
    field, and 80 of two fields are enough.
    """
    assert smallest_sample(TARGET, CONFIDENCE) == 29
    schema = Schema((RENT, START, END))
    start = cases(START, 40)
    end = [case(END, 3000 + number, ("white",), white=5.0) for number in range(60)]
    promise = promise_of(schema, {"rent": cases(RENT, 200), "start": start, "end": end[:40]}, TARGET, CONFIDENCE)
    assert [names for names, _ in promise.groups] == [("rent",), ("start", "end")]
    alone = promise_of(schema, {"rent": cases(RENT, 200), "end": end[:10]}, TARGET, CONFIDENCE)
    assert [names for names, _ in alone.groups] == [("rent", "end")]
    assert alone.uncovered == ("start",)


def test_too_few_labels_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(DataError, match=r"rent: the calibration set is too small: .* at least 29 independent ones"):
        promise_of(Schema((RENT,)), {"rent": cases(RENT, 40)}, TARGET, CONFIDENCE)


def test_a_promise_that_a_field_cannot_keep_is_refused_with_its_name() -> None:
    """Half of the values are wrong, and as sure as the right ones."""
    known = cases(START, 100) + [case(START, 1000 + number, ("white",), green=5.0) for number in range(100)]
    with pytest.raises(DataError, match="start: no threshold is shown to keep the promise"):
        promise_of(Schema((RENT, START)), {"rent": cases(RENT, 200), "start": known}, TARGET, CONFIDENCE)


def test_each_value_of_a_list_is_an_answer() -> None:
    """White is right and the likelier one, green is wrong. Both are listed, and under the promise only the first."""
    known = [case(TENANTS, number, ("white",), white=4.0, green=2.5) for number in range(150)]
    known += [case(TENANTS, 2000 + number, (), white=-5.0) for number in range(40)]
    promise = promise_of(Schema((TENANTS,)), {"tenants": known}, TARGET, CONFIDENCE)
    rule = promise.rules(Schema((TENANTS,)), Decision())["tenants"]
    said = stated(rule.decision, known[0].posterior)
    assert [one.text for one in listed(said, TENANTS.least_probability).values] == ["white", "green"]
    assert [one.text for one in listed(said, rule.least).values] == ["white"]


def test_a_promise_says_what_it_covers() -> None:
    guarantee = Guarantee(0.1, 0.95, 0.8, 100, 2, 120, 60, 1.1)
    said = list(Promise(Decision(), ((("rent", "start"), guarantee),), ("kind",), 1).explain())
    assert said[0] == "rent, start together: values with a probability of at least 0.800"
    assert "at most 10 % of the answers given are wrong, with 95 % confidence" in said[1]
    assert said[-1] == "nothing is promised about kind: choices, and fields without labels"


def test_the_command_tests_the_promise_first(
    sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ferry.yaml").write_text("fields:\n  time: When does the ferry leave?\n  who: Who built it?\n")
    (tmp_path / "a.txt").write_text("The ferry leaves at 7:40 from pier 3.")
    words = ["extract", tmp_path / "ferry.yaml", tmp_path / "a.txt", "--out", tmp_path / "t.csv"]
    words += ["--model", sft_run, "--target-error", "0.1"]
    assert palmette(monkeypatch, *words) == 2
    assert "--target-error needs --labelled" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--labelled", labelled(tmp_path, 8)) == 2
    assert "each half needs answers worth at least 29" in capsys.readouterr().err
    assert not (tmp_path / "t.csv.lines.jsonl").exists()


def test_the_fields_are_read_under_the_promise(
    fitted_model: Any, tokenizer: Any, qa_task: ExtractiveQa, tmp_path: Path
) -> None:
    """The model knows what the wall is built of in every document, and names a builder now and then. Both fields share
    a promise. Under it the model says what is likely enough, and nothing else.
    """
    answerer = Answerer(LoadedModel(fitted_model, tokenizer, "tiny", "tiny"), qa_task)
    wall, builder = Field("wall", "What is the tower built of?"), Field("builder", "Who built it?")
    schema, effort = Schema((wall, builder)), Effort(max_words=4)
    documents = tuple(
        Document(
            f"d{n}",
            text := f"Copy {n}. {TEXT}",
            (
                Question(f"{n}/wall", wall.question, (Answer("granite", text.index("granite")),)),
                Question(f"{n}/builder", builder.question),
            ),
        )
        for n in range(70)
    )
    labels = Labels("labels.csv", documents, (), 0, 0)
    promise = make_promise(answerer, schema, labels, effort, target_error=0.1, confidence=0.95)
    rules = promise.rules(schema, answerer.decision)
    decoder = FieldDecoder(answerer.span_decoder(effort, WHOLE_SEARCH), schema, rules)
    given = dict(decoder.predict(documents))
    said = dict(answerer.span_decoder(effort, WHOLE_SEARCH).posteriors(documents))
    thresholds = {name: guarantee.min_confidence for names, guarantee in promise.groups for name in names}
    for name, one in given.items():
        plain = promise.odds.decide(said[name])
        likely = plain.text and plain.candidates[0].probability >= thresholds[name.partition("/")[2]]
        assert one.text == (plain.text if likely else "")
    assert sum(one.text == "granite" for one in given.values()) >= 58  # each half needs 29
