"""Law 6: what the span decoder says equals scoring every span by itself, and its proofs are right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palmette.data.records import Document, Question
from palmette.decode.span_decoder import Effort, SpanDecoder
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate
from tests.support.span_decoding import EVERYTHING, LEARNED, QUESTIONS, TEXT, brute_force, check_offsets, fitted, stock
from tests.support.spans import plain_spans, texts
from tests.support.tokenizers import STYLES


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return fitted(tokenizer)


@pytest.fixture(scope="module")
def plain(model: Any) -> Any:
    return stock(model)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, repeat=st.booleans(), inside=st.booleans())
def test_equals_brute_force(
    model: Any, plain: Any, tokenizer: Any, task: ExtractiveQa, text: str, repeat: bool, inside: bool
) -> None:
    """Every span scored: the same argmax and posterior as scoring each span alone.

    Few passes: a proof is never wrong.
    """
    document = f"{text} {text}" if repeat else text
    everything = replace(EVERYTHING, inside_words=inside)
    few = Effort(max_words=4, max_passes=2, tokens_per_pass=3, inside_words=inside)
    full = SpanDecoder(model, tokenizer, effort=everything).answer(document, QUESTIONS)
    quick = SpanDecoder(model, tokenizer, effort=few).answer(document, QUESTIONS)
    for question, exact, fast in zip(QUESTIONS, full, quick, strict=True):
        spans = plain_spans(document, 4, inside_words=inside)
        scores = brute_force(plain, task, document, question, 4, spans=spans)
        total = math.log(sum(math.exp(value) for value in scores.values()))
        posterior = {text: math.exp(value - total) for text, value in scores.items()}
        best = max(posterior, key=lambda key: posterior[key])
        assert exact.certified
        assert exact.unscored == 0.0
        assert (exact.text or "?") == best
        assert exact.probability == pytest.approx(posterior[best], rel=1e-4)
        assert exact.no_answer_probability == pytest.approx(posterior["?"], rel=1e-4)
        if fast.certified:
            assert (fast.text or "?") == best
        for prediction in (exact, fast):
            check_offsets(document, prediction)
            for candidate in prediction.candidates:
                low, high = candidate.probability, candidate.probability / max(1e-300, 1 - prediction.unscored)
                assert low * (1 - 1e-4) <= posterior[candidate.text] <= high * (1 + 1e-4)


def test_the_property_is_not_vacuous(model: Any, tokenizer: Any) -> None:
    """On ordinary text the quick decoder gives answers and refusals, proved and unproved, in one pass and in more."""
    questions = [*LEARNED, *(f"What about {word}?" for word in TEXT.split())]
    found = SpanDecoder(model, tokenizer, effort=Effort(max_passes=2, tokens_per_pass=4)).answer(TEXT, questions)
    assert {bool(p.text) for p in found} == {True, False}
    assert {p.certified for p in found} == {True, False}
    assert {p.num_passes for p in found} == {1, 2}
    assert any(p.certified and p.unscored > 0 for p in found)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_tokenizer(style: str) -> None:
    """Byte-level, SentencePiece-like and metaspace tokenizers, five templates: still equal to brute force."""
    tokenizer = STYLES[style]()
    task = ExtractiveQa(ChatTemplate(tokenizer))
    model = fitted(tokenizer)
    document = 'The "tower" is granite,\nand C:\\white. The tower?'
    (found,) = SpanDecoder(model, tokenizer, effort=EVERYTHING).answer(document, ["Of what?"])
    scores = brute_force(stock(model), task, document, "Of what?", 4, lead=" " if style == "llama2" else "")
    best = max(scores, key=lambda key: scores[key])
    total = math.log(sum(math.exp(value) for value in scores.values()))
    assert (found.text or "?") == best
    assert found.probability == pytest.approx(math.exp(scores[best] - total), rel=1e-4)


def test_batches_and_neighbours_change_nothing(model: Any, tokenizer: Any) -> None:
    """A question alone, and the same question among others in small batches: the same numbers."""
    texts = ["The tower is granite.", "Nobody knows who built it, or when.", "White as salt: the ferry of 7:40."]
    documents = [
        Document(str(i), text, tuple(Question(f"{i}-{j}", q) for j, q in enumerate(QUESTIONS)))
        for i, text in enumerate(texts)
    ]
    together = dict(SpanDecoder(model, tokenizer).predict(documents))
    few = Effort(tokens_per_batch=320)
    assert len(list(SpanDecoder(model, tokenizer, effort=few)._batches(documents))) > len(documents)
    small = dict(SpanDecoder(model, tokenizer, effort=few).predict(documents))
    assert together.keys() == small.keys() == {f"{i}-{j}" for i in range(3) for j in range(2)}
    for i, text in enumerate(texts):
        for j, question in enumerate(QUESTIONS):
            (alone,) = SpanDecoder(model, tokenizer).answer(text, [question])
            for other in (together[f"{i}-{j}"], small[f"{i}-{j}"]):
                assert (other.text, other.certified, other.num_passes) == (
                    alone.text,
                    alone.certified,
                    alone.num_passes,
                )
                assert other.probability == pytest.approx(alone.probability, rel=1e-6)
