"""Plain generation and the probability of abstaining, against transformers used plainly."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import ABSTAIN, json_escape, read_completion
from palmette.tree.chat import ChatTemplate
from tests.support.models import tiny_llama


@pytest.fixture(scope="module")
def setting(tokenizer: Any) -> tuple[Any, Any, ExtractiveQa]:
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    return model, tokenizer, ExtractiveQa(ChatTemplate(tokenizer))


def asked() -> list[tuple[Document, Question]]:
    documents = read_source("builtin:dev", limit_documents=2).documents
    return [(document, question) for document in documents for question in document.questions[:3]]


@pytest.mark.parametrize("maker", [GenerationDecoder, GreedyDecoder])
def test_batched_completions_equal_one_at_a_time(
    maker: type[GenerationDecoder | GreedyDecoder], setting: tuple[Any, Any, ExtractiveQa]
) -> None:
    """Greedy decoding by hand, one question a row, without a cache."""
    model, tokenizer, task = setting
    model.generation_config.repetition_penalty = 1.5  # as some models ship it; greedy means greedy
    options = {"batch_size": 4} if maker is GenerationDecoder else {}
    decoder = maker(model, tokenizer, task, max_new_tokens=5, **options)
    completions = dict(decoder.completions(asked()))
    assert model.generation_config.repetition_penalty == 1.5
    plain = tiny_llama(torch.float64, "sdpa", vocab_size=len(tokenizer), initializer_range=0.2)
    assert completions.keys() == set(range(6))
    for index, (document, question) in enumerate(asked()):
        tokens = task.prompt_tokens(document, question)
        start = len(tokens)
        for _ in range(5):
            with torch.no_grad():
                best = int(plain(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            if best == task.end_of_turn():
                break
            tokens.append(best)
        assert completions[index] == tokenizer.decode(tokens[start:], skip_special_tokens=False)


@pytest.mark.parametrize("tokens_per_batch", [1300, 8192])
def test_completions_grown_on_the_tree_equal_one_prompt_a_row(
    setting: tuple[Any, Any, ExtractiveQa], tokens_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against transformers' own greedy generation; in small batches that part a document's questions, and in one."""
    model, tokenizer, task = setting
    documents = read_source("builtin:dev", limit_documents=2).documents
    questions = [(document, question) for document in documents for question in document.questions[:5]]
    # A token that most completions come to ends them, so that branches end at different times.
    plain = GenerationDecoder(model, tokenizer, task, max_new_tokens=9)
    everything = [
        token for _, completion in plain.completions(questions) for token in tokenizer(completion)["input_ids"]
    ]
    common = max(set(everything), key=everything.count)
    monkeypatch.setattr(model.generation_config, "eos_token_id", [common])
    wanted = dict(plain.completions(questions))
    passes: list[int] = []
    read = PrefixCache.read
    monkeypatch.setattr(PrefixCache, "read", lambda self, slots: passes.append(len(slots)) or read(self, slots))
    grown = GreedyDecoder(model, tokenizer, task, max_new_tokens=9, tokens_per_batch=tokens_per_batch)
    assert dict(grown.completions(questions)) == wanted
    assert len({len(completion) for completion in wanted.values()}) > 1, "all completions end together"
    assert (max(passes) == len(questions)) == (tokens_per_batch == 8192)
    assert len(passes) <= 9 * (1 if tokens_per_batch == 8192 else len(questions))


def test_a_prompt_that_does_not_fit_is_refused(setting: tuple[Any, Any, ExtractiveQa]) -> None:
    model, tokenizer, task = setting
    with pytest.raises(PackingError, match=r"needs \d+ tokens with its completion, and a batch has 100"):
        list(GreedyDecoder(model, tokenizer, task, tokens_per_batch=100).completions(asked()))


def test_beams_find_what_greedy_generation_misses(
    setting: tuple[Any, Any, ExtractiveQa], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranked by the sum of log-probabilities: no completion of ten beams is less probable than the greedy one, and
    one is more so.
    """
    model, tokenizer, task = setting
    plain = tiny_llama(torch.float64, "sdpa", vocab_size=len(tokenizer), initializer_range=0.2)
    monkeypatch.setattr(tokenizer, "decode", lambda tokens, **_: json.dumps(tokens))
    greedy, beam = (
        dict(GenerationDecoder(model, tokenizer, task, num_beams=beams, max_new_tokens=3).completions(asked()))
        for beams in (1, 10)
    )

    def logprob(index: int, tail: list[int]) -> float:
        tokens = task.prompt_tokens(*asked()[index])
        with torch.no_grad():
            logprobs = torch.log_softmax(plain(input_ids=torch.tensor([tokens + tail])).logits[0], -1)
        return sum(float(logprobs[len(tokens) - 1 + i, token]) for i, token in enumerate(tail))

    pairs = [(index, json.loads(greedy[index]), json.loads(beam[index])) for index in range(6)]
    gains = [logprob(i, found) - logprob(i, plainly) for i, plainly, found in pairs if len(plainly) == len(found) == 3]
    assert len(gains) > 2
    assert min(gains) > -1e-5
    assert max(gains) > 1e-3


def test_a_decoder_reads_completions_strictly_or_loosely(
    setting: tuple[Any, Any, ExtractiveQa], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, task = setting
    document = Document("d", "The ferry leaves at 7:40.", (Question("q", "When?"),))
    monkeypatch.setattr(GenerationDecoder, "completions", lambda *_: [(0, 'Well: {"answer": "7:40", "why": 1}')])
    for loose, text, start in ((False, 'Well: {"answer": "7:40", "why": 1}', None), (True, "7:40", 20)):
        decoder = GenerationDecoder(model, tokenizer, task, loose=loose)
        ((question, found),) = decoder.predict([document])
        assert (question, found.text, found.start, found.valid_json) == ("q", text, start, False)
        assert found.no_answer_probability is not None


def test_the_probability_of_abstaining_is_that_of_the_completion(setting: tuple[Any, Any, ExtractiveQa]) -> None:
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
            completion = [*encoder.content(ABSTAIN), *encoder.content('"}'), task.end_of_turn()]
            with torch.no_grad():
                logprobs = torch.log_softmax(plain(input_ids=torch.tensor([prompt + completion])).logits[0], -1)
            total = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(completion))
            # transformers' rotary angles and norms are float32.
            assert found[question.id] == pytest.approx(math.exp(total), rel=1e-5)


@pytest.mark.parametrize("text", ['the "Anna"', "a\\b", "line\nbreak", "é€😀", "\u2028", "?"])
def test_what_is_trained_reads_back(text: str) -> None:
    completion = read_completion('{"answer": "' + json_escape(text) + '"}')
    assert completion.valid
    assert completion.text == ("" if text == ABSTAIN else text)


@pytest.mark.parametrize("raw", ['{"answer": 3}', '{"answer": "a", "b": 1}', '["a"]', '{"answer": "a"', "", "a" * 10])
def test_other_completions_are_not_valid(raw: str) -> None:
    assert not read_completion(raw).valid
    assert read_completion(raw).text == raw
