"""Replies that grow together are those that grow alone, and begin where another one has been."""

from __future__ import annotations

from typing import Any

import pytest

from palmette.decode.prefix_cache import PrefixCache
from palmette.inference.conversation import Generation
from palmette.model.loading import LoadedModel
from palmette.serving.jobs import Completion, WriteJob
from palmette.serving.writer import CompletionWriter
from palmette.tree.chat import Message, Piece
from tests.support.models import tiny_llama
from tests.support.replies import stock_reply

QUESTIONS = ["When does the ferry leave?", "When does the ferry come?", "Who?"]


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny_llama(vocab_size=len(tokenizer))


def chat(*texts: str, **settings: Any) -> WriteJob:
    roles = ("user", "assistant")
    messages = [Message(roles[index % 2], (Piece(text),)) for index, text in enumerate(texts)]
    return WriteJob("m", messages, Generation(**{"max_new_tokens": 12, **settings}))


def settle(writer: CompletionWriter) -> None:
    while writer.is_busy:
        writer.step()


def result(job: WriteJob) -> Completion:
    completion: Completion = job.done.result(0)
    return completion


def writer_of(model: Any, tokenizer: Any, **settings: Any) -> CompletionWriter:
    return CompletionWriter(LoadedModel(model, tokenizer, "tiny", "tiny"), **settings)


@pytest.mark.parametrize("capacity", [400, 60])
def test_replies_that_join_at_any_pass_are_those_of_transformers(model: Any, tokenizer: Any, capacity: int) -> None:
    """With room for 60 tokens, some wait until others have ended."""
    writer, jobs = writer_of(model, tokenizer, capacity=capacity), [chat(question) for question in QUESTIONS]
    waited = False
    for job in jobs:
        writer.add(job)
        for _ in range(3):
            writer.step()
            waited |= writer.num_waiting > 0
    settle(writer)
    assert waited == (capacity == 60)
    for job, question in zip(jobs, QUESTIONS, strict=True):
        want = stock_reply(model, tokenizer, [{"role": "user", "content": question}])
        assert result(job).text == want


def test_a_draw_depends_on_its_seed_and_not_on_its_neighbours(model: Any, tokenizer: Any) -> None:
    alone, settings = [], [{"temperature": 1.0, "seed": 1}, {"temperature": 0.7, "top_p": 0.9, "seed": 2}, {}]
    for own in settings:
        writer, job = writer_of(model, tokenizer), chat(QUESTIONS[0], **own)
        writer.add(job)
        settle(writer)
        alone.append(result(job).text)
    writer, jobs = writer_of(model, tokenizer), [chat(QUESTIONS[0], **own) for own in settings]
    for job in jobs:
        writer.add(job)
    settle(writer)
    assert [result(job).text for job in jobs] == alone
    assert len(set(alone)) == 3


def test_the_next_turn_begins_where_the_last_one_ended(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, first = writer_of(model, tokenizer), chat(QUESTIONS[0])
    writer.add(first)
    settle(writer)
    appended: list[int] = []
    append = PrefixCache.append

    def counted(self: PrefixCache, tokens: Any, parent: int, **options: Any) -> int:
        appended.append(len(tokens))
        return append(self, tokens, parent, **options)

    monkeypatch.setattr(PrefixCache, "append", counted)
    reply = result(first).text
    second = chat(QUESTIONS[0], reply, QUESTIONS[1])
    writer.add(second)
    settle(writer)
    assert 0 < appended[0] < result(second).num_prompt_tokens - result(first).num_prompt_tokens + 5
    messages = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant", "user"), (QUESTIONS[0], reply, QUESTIONS[1]), strict=True)
    ]
    assert result(second).text == stock_reply(model, tokenizer, messages)


def test_a_reply_that_nobody_waits_for_stops_and_makes_room(model: Any, tokenizer: Any) -> None:
    writer, gone, waiting = writer_of(model, tokenizer, capacity=60), chat(QUESTIONS[0]), chat(QUESTIONS[1])
    writer.add(gone)
    writer.step()
    writer.add(waiting)
    writer.step()
    assert writer.num_waiting == 1
    gone.gone = True
    settle(writer)
    assert gone.done.cancelled()
    assert result(waiting).text == stock_reply(model, tokenizer, [{"role": "user", "content": QUESTIONS[1]}])


def test_prompts_that_nobody_waits_for_leave_the_queue_behind_one_that_has_no_room(model: Any, tokenizer: Any) -> None:
    writer, jobs = writer_of(model, tokenizer, capacity=60), [chat(question) for question in QUESTIONS]
    for job in jobs:
        writer.add(job)
    writer.step()
    assert writer.num_waiting == 2
    jobs[2].gone = True
    writer.step()
    assert writer.num_waiting == 1
    assert jobs[2].done.cancelled()
    settle(writer)
    want = stock_reply(model, tokenizer, [{"role": "user", "content": QUESTIONS[1]}])
    assert result(jobs[1]).text == want


def test_after_a_fault_the_next_reply_is_right(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, lost, job = writer_of(model, tokenizer), chat(QUESTIONS[0]), chat(QUESTIONS[1])
    with monkeypatch.context() as broken:
        broken.setattr(PrefixCache, "read", lambda *_: 1 / 0)
        writer.add(lost)
        writer.step()
    with pytest.raises(ZeroDivisionError):
        lost.done.result(0)
    writer.add(job)
    settle(writer)
    assert result(job).text == stock_reply(model, tokenizer, [{"role": "user", "content": QUESTIONS[1]}])


def test_text_that_may_begin_a_stop_string_waits(model: Any, tokenizer: Any) -> None:
    """No piece of a stream holds a character of the string that ends it, whichever string that is."""
    whole = chat(QUESTIONS[0])
    writer = writer_of(model, tokenizer)
    writer.add(whole)
    settle(writer)
    text = result(whole).text
    assert len(text) > 6
    for start in range(1, len(text) - 3):
        stop = text[start : start + 3]
        pieces: list[str] = []
        job = chat(QUESTIONS[0])
        job.stops, job.written = (stop,), lambda piece, _, pieces=pieces: pieces.append(piece)
        writer.add(job)
        settle(writer)
        assert "".join(pieces) == result(job).text == text[: text.index(stop)]
        assert result(job).finish == "stop"
