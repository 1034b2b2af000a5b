"""Law 6: what the span decoder says equals scoring every span by itself, and its proofs are right."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.span_decoder import SpanDecoder
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from tests.support.span_decoding import EVERYTHING, LEARNED, QUESTIONS, TEXT, brute_force, check_offsets, fitted, stock
from tests.support.spans import plain_spans, texts
from tests.support.tokenizers import STYLES


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, repeat=st.booleans(), inside=st.booleans())
def test_equals_brute_force(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa, text: str, repeat: bool, inside: bool
) -> None:
    """Every span scored: the same argmax and posterior as scoring each span alone.

    Few passes: a proof is never wrong.
    """
    document = f"{text} {text}" if repeat else text
    everything = replace(EVERYTHING, inside_words=inside)
    few = Effort(max_words=4, max_passes=2, tokens_per_pass=3, inside_words=inside)
    full = SpanDecoder(fitted_model, tokenizer, effort=everything).answer(document, QUESTIONS)
    quick = SpanDecoder(fitted_model, tokenizer, effort=few).answer(document, QUESTIONS)
    for question, exact, fast in zip(QUESTIONS, full, quick, strict=True):
        spans = plain_spans(document, 4, inside_words=inside)
        scores = brute_force(stock_model, qa_task, document, question, 4, spans=spans)
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


def test_the_property_is_not_vacuous(fitted_model: Any, tokenizer: Any) -> None:
    """On ordinary text the quick decoder gives answers and refusals, proved and unproved, in one pass and in more."""
    questions = [*LEARNED, *(f"What about {word}?" for word in TEXT.split())]
    found = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_passes=2, tokens_per_pass=4)).answer(TEXT, questions)
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


@pytest.mark.parametrize("style", STYLES)
def test_a_bare_answer_equals_brute_force(style: str) -> None:
    """With the prompt `echo`: each span scored with the blank that stands before it, in a row of its own.

    The probability of a text is that of all the ways in which it stands in the document together.
    """
    tokenizer = STYLES[style]()
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt("echo"))
    model = fitted(tokenizer, prompt="echo")
    document = 'white tower\ngranite, "granite" or white granite? The tower'
    question = Question("q", "Of what?")
    prompt = task.prompt_tokens(Document("d", document, (question,)), question)
    before, blank = {"llama2": (" ", " "), "llama3": ("", ""), "gemma": ("", "")}.get(style, ("", " "))
    writings = {before + "?"}
    for start, end in itertools.product(range(len(document)), range(len(document) + 1)):
        if document[start:end] in plain_spans(document, 4) and _at_words(document, start, end):
            writings.add((blank if document[:start].endswith(" ") else before) + document[start:end])
    scores: dict[str, float] = {}
    end_of_turn = task.end_of_turn() if style != "llama2" else task.template.encoder.template(" </s>")[0]
    for written in writings:
        tail = [*task.template.encoder.content(written), end_of_turn]
        with torch.no_grad():
            logits = stock(model)(input_ids=torch.tensor([prompt + tail])).logits[0, len(prompt) - 1 : -1]
        value = math.exp(float(torch.log_softmax(logits, -1)[range(len(tail)), tail].sum()))
        scores[written.strip()] = scores.get(written.strip(), 0.0) + value
    (found,) = SpanDecoder(model, tokenizer, task.prompt, effort=EVERYTHING).answer(document, [question.text])
    best = max(scores, key=lambda key: scores[key])
    assert (found.text or "?") == best
    assert found.certified
    assert found.probability == pytest.approx(scores[best] / sum(scores.values()), rel=1e-4)
    check_offsets(document, found)
    few = Effort(max_words=4, max_passes=3, tokens_per_pass=6)
    (quick,) = SpanDecoder(model, tokenizer, task.prompt, effort=few).answer(document, [question.text])
    if quick.certified:
        assert (quick.text or "?") == best


def _at_words(text: str, start: int, end: int) -> bool:
    """Whether a stretch of this test's text, of letters and marks, begins and ends where words do."""
    inner = (text[start - 1 : start] + text[start], text[end - 1] + text[end : end + 1])
    return not any(len(pair) == 2 and pair.isalpha() for pair in inner)


def test_batches_and_neighbours_change_nothing(fitted_model: Any, tokenizer: Any) -> None:
    """A question alone, and the same question among others in small batches: the same numbers."""
    texts = ["The tower is granite.", "Nobody knows who built it, or when.", "White as salt: the ferry of 7:40."]
    documents = [
        Document(str(i), text, tuple(Question(f"{i}-{j}", q) for j, q in enumerate(QUESTIONS)))
        for i, text in enumerate(texts)
    ]
    together = dict(SpanDecoder(fitted_model, tokenizer).predict(documents))
    few = Effort(tokens_per_batch=320)
    decoder = SpanDecoder(fitted_model, tokenizer, effort=few)
    assert len(list(decoder.batches(decoder._asked(documents)))) > len(documents)
    small = dict(SpanDecoder(fitted_model, tokenizer, effort=few).predict(documents))
    assert together.keys() == small.keys() == {f"{i}-{j}" for i in range(3) for j in range(2)}
    for i, text in enumerate(texts):
        for j, question in enumerate(QUESTIONS):
            (alone,) = SpanDecoder(fitted_model, tokenizer).answer(text, [question])
            for other in (together[f"{i}-{j}"], small[f"{i}-{j}"]):
                assert (other.text, other.certified, other.num_passes) == (
                    alone.text,
                    alone.certified,
                    alone.num_passes,
                )
                assert other.probability == pytest.approx(alone.probability, rel=1e-6)
