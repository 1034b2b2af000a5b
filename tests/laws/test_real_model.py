"""SmolLM2-135M-Instruct itself: the laws hold at its size, and its tokenizer's text stays text."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.decode.effort import Effort
from palmette.decode.span_decoder import SpanDecoder
from palmette.decode.spans import words
from palmette.errors import ModelError
from palmette.model.blocks import query_blocks
from palmette.model.checks import check_model
from palmette.model.forward import branch_logprobs, score_tokens
from palmette.model.loading import LoadedModel, load_model
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import json_escape
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(dtype="float32")


@torch.no_grad()
def test_packed_questions_score_as_questions_in_rows_of_their_own(loaded: LoadedModel) -> None:
    """Plain rows by transformers alone, each after its document, which transformers caches."""
    check_model(loaded.model, training=True)
    task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
    documents = [replace(d, questions=d.questions[:4]) for d in read_source("builtin:dev", limit_documents=2).documents]
    batch = PackedBatch.from_trees([[task.training_tree(document) for document in documents]])
    packed = branch_logprobs(batch, score_tokens(loaded.model, batch))[0]
    assert len(packed) == 8
    loaded.model.set_attn_implementation("sdpa")
    try:
        for document in documents:
            trunk, opened = [], None
            for question in document.questions:
                tree = task.training_tree(replace(document, questions=(question,)))
                parts = [segment for node in tree.nodes() for segment in node.segments]
                tokens = [token for segment in parts for token in segment.tokens]
                learn = [segment.learn for segment in parts for _ in segment.tokens]
                if opened is None:
                    trunk = [token for segment in tree.root.segments for token in segment.tokens]
                    opened = loaded.model(input_ids=torch.tensor([trunk]), use_cache=True, logits_to_keep=1)
                assert tokens[: len(trunk)] == trunk
                rest, cache = torch.tensor([tokens[len(trunk) :]]), copy.deepcopy(opened.past_key_values)
                grown = loaded.model(input_ids=rest, past_key_values=cache).logits[0]
                logprobs = torch.log_softmax(torch.cat([opened.logits[0], grown]), -1)
                expected = sum(float(logprobs[i - len(trunk), t]) for i, t in enumerate(tokens) if learn[i])
                # float32 through 30 layers, summed over some twenty tokens.
                assert float(packed[document.id, question.id]) == pytest.approx(expected, abs=2e-3)
    finally:
        loaded.model.set_attn_implementation("palmette_sdpa")


@torch.no_grad()
def test_the_span_decoder_equals_scoring_every_span_alone(loaded: LoadedModel) -> None:
    """The real tokenizer and its digits, quotes and accents.

    Every span of up to three words stands in a row of its own, after a prompt that transformers caches.
    """
    document = 'The "Café" opens at 7:45 on the 3rd, says Zoë; it is blue.'
    question = Question("q", "When does the café open?")
    full = Effort(max_words=3, max_passes=None, tokens_per_pass=None)
    (exact,) = SpanDecoder(loaded.model, loaded.tokenizer, effort=full).answer(document, [question.text])
    (quick,) = SpanDecoder(loaded.model, loaded.tokenizer, effort=Effort(max_words=3)).answer(document, [question.text])
    task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
    encoder = task.template.encoder
    bounds = words(document)
    spans = {document[a:b] for i, (a, _) in enumerate(bounds) for _, b in bounds[i : i + 3]} | {"?"}
    prompt = [*task.prompt_tokens(Document("d", document, (question,)), question), *encoder.content('{"answer": "')]
    tails = {span: [*encoder.content(json_escape(span)), encoder.content('"}')[0]] for span in spans}
    width = max(map(len, tails.values()))
    rows = torch.tensor([tail + [0] * (width - len(tail)) for tail in tails.values()])
    loaded.model.set_attn_implementation("sdpa")
    try:
        opened = loaded.model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
        opened.past_key_values.batch_repeat_interleave(len(rows))
        grown = loaded.model(input_ids=rows[:, :-1], past_key_values=opened.past_key_values).logits
        logprobs = torch.log_softmax(torch.cat([opened.logits.expand(len(rows), -1, -1), grown], dim=1), -1)
    finally:
        loaded.model.set_attn_implementation("palmette_sdpa")
    scores = {
        span: float(logprobs[row, range(len(tail)), tail].sum()) for row, (span, tail) in enumerate(tails.items())
    }
    best = max(scores, key=lambda span: scores[span])
    total = math.log(sum(map(math.exp, scores.values())))
    assert exact.certified
    assert (exact.text or "?") == best
    assert exact.no_answer_probability == pytest.approx(math.exp(scores["?"] - total), rel=1e-2)
    assert exact.candidates[0].probability == pytest.approx(
        max(math.exp(value - total) for span, value in scores.items() if span != "?"), rel=1e-2
    )
    assert not quick.certified or quick.text == exact.text


@pytest.mark.parametrize("ignored", ["attention_mask", "position_ids"])
def test_the_proof_notices_in_bfloat16(ignored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(dtype="bfloat16").model
    check_model(model, training=False)
    forward = type(model).forward

    def tampered(self: Any, **inputs: Any) -> Any:
        if ignored == "position_ids":
            del inputs["position_ids"]
        else:  # in place, so that the receipts are signed: every token now sees all earlier ones
            causal = torch.ones_like(inputs["attention_mask"]).tril()
            inputs["attention_mask"].copy_(causal)
            inputs["attention_mask"].palmette_query_blocks = query_blocks(causal[:, 0])
        return forward(self, **inputs)

    monkeypatch.setattr(type(model), "forward", tampered)
    with pytest.raises(ModelError, match="other numbers in a tree"):
        check_model(model, training=False)


def test_control_strings_in_content_stay_text(loaded: LoadedModel) -> None:
    encoder = ChatTemplate(loaded.tokenizer).encoder
    assert len(encoder.control_tokens) >= 17
    for name in encoder.control_tokens.values():
        ids = encoder.content(f"a {name} b")
        assert not set(ids) & encoder.control_tokens.keys()
        assert loaded.tokenizer.decode(ids) == f"a {name} b"
