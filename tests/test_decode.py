"""Plain generation and the probability of abstaining, against transformers used plainly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.generation import GenerationDecoder
from palmette.tasks.extractive_qa import ABSTAIN, ExtractiveQa, json_escape, read_reply
from palmette.tree.chat import ChatTemplate
from tests.conftest import tiny_llama


@pytest.fixture(scope="module")
def setting(tokenizer: Any) -> tuple[Any, Any, ExtractiveQa]:
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    return model, tokenizer, ExtractiveQa(ChatTemplate(tokenizer))


def asked() -> list[tuple[Document, Question]]:
    documents = read_source("builtin:dev", limit_documents=2).documents
    return [(document, question) for document in documents for question in document.questions[:3]]


def test_batched_replies_equal_one_at_a_time(setting: tuple[Any, Any, ExtractiveQa]) -> None:
    """Greedy decoding by hand, one question a row, without a cache."""
    model, tokenizer, task = setting
    model.generation_config.repetition_penalty = 1.5  # as some models ship it; greedy means greedy
    decoder = GenerationDecoder(model, tokenizer, task, batch_size=4, max_new_tokens=5)
    replies = dict(decoder.replies(asked()))
    assert model.generation_config.repetition_penalty == 1.5
    plain = tiny_llama(torch.float64, "sdpa", vocab_size=len(tokenizer), initializer_range=0.2)
    assert replies.keys() == set(range(6))
    for index, (document, question) in enumerate(asked()):
        tokens = task.prompt_tokens(document, question)
        start = len(tokens)
        for _ in range(5):
            with torch.no_grad():
                best = int(plain(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            if best == task.end_of_turn():
                break
            tokens.append(best)
        assert replies[index] == tokenizer.decode(tokens[start:], skip_special_tokens=False)


def test_the_probability_of_abstaining_is_that_of_the_reply(setting: tuple[Any, Any, ExtractiveQa]) -> None:
    """The product over the tokens of `?"}` and the end of the turn, each question in a row of its own."""
    model, tokenizer, task = setting
    documents = read_source("builtin:dev", limit_documents=2).documents
    found = {
        question: probability
        for batch in abstention_probabilities(model, task, documents)
        for question, probability in batch.items()
    }
    assert len(found) == 20
    plain = tiny_llama(torch.float64, "sdpa", vocab_size=len(tokenizer), initializer_range=0.2)
    encoder = task.template.encoder
    for document in documents:
        for question in document.questions[:2]:
            prompt = task.prompt_tokens(document, question) + list(encoder.content('{"answer": "'))
            reply = [*encoder.content(ABSTAIN), *encoder.content('"}'), task.end_of_turn()]
            with torch.no_grad():
                logprobs = torch.log_softmax(plain(input_ids=torch.tensor([prompt + reply])).logits[0], -1)
            total = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(reply))
            # transformers' rotary angles and norms are float32.
            assert found[question.id] == pytest.approx(math.exp(total), rel=1e-5)


@pytest.mark.parametrize("text", ['the "Anna"', "a\\b", "line\nbreak", "é€😀", "\u2028", "?"])
def test_what_is_trained_reads_back(text: str) -> None:
    reply = read_reply('{"answer": "' + json_escape(text) + '"}')
    assert reply.valid
    assert reply.text == ("" if text == ABSTAIN else text)


@pytest.mark.parametrize("raw", ['{"answer": 3}', '{"answer": "a", "b": 1}', '["a"]', '{"answer": "a"', "", "a" * 10])
def test_other_replies_are_not_valid(raw: str) -> None:
    assert not read_reply(raw).valid
    assert read_reply(raw).text == raw
