"""Fields of a document: options against brute force, lists, and choices."""

from __future__ import annotations

import math
from typing import Any

import pytest

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Candidate
from palmette.decode.span_decoder import SpanDecoder, options_of
from palmette.extraction.reading import FieldDecoder, FieldPrediction, chosen, listed
from palmette.extraction.schema import Field, Schema
from palmette.tasks.extractive_qa import ExtractiveQa
from tests.support.span_decoding import TEXT, brute_force

ASKED = "What is the tower built of?"
OPTIONS = ("granite", "brick and slate", "wood")


def one(question: str) -> Document:
    return Document("d", TEXT, (Question("q", question),))


def test_options_are_branches_beside_the_spans(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa
) -> None:
    """Each option alone in a row of its own: its odds against "?". Two of them do not stand in the document, and the
    spans give what they give without options.
    """
    decoder = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_words=4))
    found = dict(decoder.read_fields([one(ASKED)], {"q": OPTIONS}, {}))
    alone = brute_force(stock_model, qa_task, TEXT, ASKED, 4, spans=OPTIONS)
    odds = {text: value for text, _, value in found[options_of("q")].spans}
    assert set(odds) == set(OPTIONS)
    for option in OPTIONS:
        assert odds[option] == pytest.approx(alone[option] - alone["?"], abs=1e-6)
    ((_, plain),) = decoder.posteriors([one(ASKED)])
    assert found["q"].spans[0][0] == plain.spans[0][0] == "granite"
    assert found["q"].spans[0][2] == pytest.approx(plain.spans[0][2], abs=1e-6)


def test_a_list_is_searched_until_no_span_of_that_probability_is_left(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa
) -> None:
    """Every span that brute force gives a share of at least 1e-5 is found, and the plain search misses some."""
    least, question = 1e-5, "Where from?"
    scores = brute_force(stock_model, qa_task, TEXT, question, 4)
    total = math.fsum(map(math.exp, scores.values()))
    likely = {text for text, score in scores.items() if text != "?" and math.exp(score) / total >= least}
    decoder = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_words=4, max_passes=None, tokens_per_pass=2))
    found = dict(decoder.read_fields([one(question)], {}, {"q": least}))
    ((_, plain),) = decoder.posteriors([one(question)])
    assert likely <= {text for text, _, _ in found["q"].spans}
    assert not likely <= {text for text, _, _ in plain.spans}


def prediction(
    *spans: tuple[int, int, float], no_answer: float = 0.1, refusal: Any = "", **others: Any
) -> FieldPrediction:
    """A prediction with spans as (start, end, probability). The first of them is given unless it is a refusal."""
    candidates = tuple(Candidate("x" * (end - start), start, end, p) for start, end, p in spans)
    best = candidates[0]
    settings = {"no_answer_probability": no_answer, "certified": True, "candidates": candidates, **others}
    if refusal:
        return FieldPrediction("", refusal, **settings)
    return FieldPrediction(best.text, "", best.start, best.end, best.probability, **settings)


def test_a_list_holds_likely_spans_that_do_not_overlap() -> None:
    """Of 20 to 25 and 20 to 29 the likelier one stays; 40 to 44 is below the threshold."""
    found = listed(prediction((20, 25, 0.4), (20, 29, 0.3), (5, 9, 0.15), (40, 44, 0.05)), 0.1)
    assert [(value.start, value.end) for value in found.values] == [(5, 9), (20, 25)]
    assert (found.text, found.certified, found.refusal) == ("xxxxx", True, "")


def test_a_list_is_certified_only_if_nothing_can_be_missing() -> None:
    spans = (20, 25, 0.6), (5, 9, 0.09)
    assert listed(prediction(*spans, unscored=0.05), 0.1).certified
    assert not listed(prediction(*spans, unscored=0.2), 0.1).certified  # an unscored span may have 0.2
    assert not listed(prediction(*spans, unscored=0.099), 0.0905).certified  # 0.09 may be 0.0999
    assert not listed(prediction(*spans, num_windows=2), 0.1).certified


def test_a_list_is_empty_where_the_document_probably_holds_no_answer() -> None:
    absent = listed(prediction((0, 4, 0.3), no_answer=0.7, refusal="absent"), 0.1)
    assert (absent.values, absent.refusal, absent.text) == ((), "absent", "")
    unsure = listed(prediction((0, 4, 0.05), (6, 9, 0.05), no_answer=0.4, refusal="unsure"), 0.1)
    assert (unsure.values, unsure.refusal) == ((), "unsure")


def test_an_option_can_be_clear_where_no_passage_is() -> None:
    """0.8 + 0.9 / 1 is more than the worth of 1 that an answer needs, 0.05 + 0.9 is not."""
    unsure = prediction((0, 4, 0.4), (6, 9, 0.35), refusal="unsure")
    clear = chosen(unsure, (("weekly", 0.8), ("monthly", 0.1)), Decision())
    assert [(value.start, value.probability) for value in clear.values] == [(0, 0.8)]
    assert (clear.refusal, clear.certified) == ("", False)
    open_ = chosen(unsure, (("weekly", 0.05), ("monthly", 0.04)), Decision())
    assert (open_.refusal, open_.values) == ("unsure", ())


def test_every_field_of_a_document_is_known(fitted_model: Any, tokenizer: Any) -> None:
    fields = (
        Field("wall", ASKED, "choice", options=OPTIONS),
        Field("time", "When does the ferry leave?", many=True),
        Field("builder", "Who built it?"),
    )
    decoder = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_words=4))
    document = Document("d", TEXT, tuple(Question(field.name, field.question) for field in fields))
    found = dict(FieldDecoder(decoder, Schema(fields)).predict([document]))
    assert {name: one.text for name, one in found.items()} == {"wall": "granite", "time": "7:40", "builder": ""}
    assert found["builder"].refusal == "absent"
    option, probability = found["wall"].options[0]
    assert option == "granite"
    total = math.fsum(value for _, value in found["wall"].options) + (found["wall"].no_answer_probability or 0.0)
    assert total == pytest.approx(1.0)
    assert found["wall"].values[0].probability == probability
    for one_ in found.values():
        for value in one_.values:
            assert TEXT[value.start : value.end] == value.text
