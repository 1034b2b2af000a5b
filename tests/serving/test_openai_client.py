"""OpenAI's own client, unchanged: exact answers to its own prompt, free text as of transformers, errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch

from palmette.data.records import Document, Question
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import load_prompt
from tests.support.models import tiny_llama
from tests.support.replies import stock_continuation, stock_reply
from tests.support.serving import answerer_of, serving
from tests.support.span_decoding import LEARNED, TEXT, brute_force

HELLO = [{"role": "user", "content": "When does the ferry leave?"}]


@pytest.fixture(scope="module")
def chat_model(tokenizer: Any) -> Any:
    """A model that has learned nothing, so that it does not end its replies at once."""
    return tiny_llama(vocab_size=len(tokenizer))


@pytest.fixture
def client(fitted_model: Any, chat_model: Any, tokenizer: Any) -> Iterator[openai.OpenAI]:
    models = {"tiny": answerer_of(fitted_model, tokenizer), "chat": answerer_of(chat_model, tokenizer)}
    with (
        serving(models) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as opened,
    ):
        yield opened


def own(question: str, document: str = TEXT) -> Any:
    return qa_messages(load_prompt("plain"), Document("d", document, ()), Question("q", question))


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "chat"]
    assert client.models.retrieve("tiny").owned_by == "palmette"


@pytest.mark.parametrize("stream", [False, True])
def test_the_models_own_prompt_gets_its_exact_answer_as_json(client: openai.OpenAI, stream: bool) -> None:
    """The answers are those that the model of these tests has learned by heart."""
    for question, answer in LEARNED.items():
        made: Any = client.chat.completions.create(model="tiny", messages=own(question), stream=stream)
        if stream:
            chunks = list(made)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert chunks[-1].choices[0].finish_reason == "stop"
        else:
            text = made.choices[0].message.content
        assert json.loads(text) == {"answer": answer}


def test_a_reply_to_the_own_prompt_says_where_and_how_probable(
    client: openai.OpenAI, fitted_model: Any, qa_task: Any
) -> None:
    """The odds of the answer against "?" are those of a brute force, each string in a row of its own. What was not
    scored counts against both alike.
    """
    question = "When does the ferry leave?"
    made = client.chat.completions.create(model="tiny", messages=own(question))
    found: Any = made.palmette  # type: ignore[attr-defined]
    assert TEXT[found["start"] : found["end"]] == found["answer"] == "7:40"
    scores = brute_force(fitted_model, qa_task, TEXT, question, max_words=30)
    odds = math.exp(scores["7:40"] - scores["?"])
    assert 0.5 < found["probability"] <= 1
    # No more digits of the smaller one are given.
    digits = 0.5e-6 / found["no_answer_probability"] + 1e-6
    assert found["probability"] / found["no_answer_probability"] == pytest.approx(odds, rel=2 * digits)
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


def test_other_conversations_get_the_replies_of_transformers(
    client: openai.OpenAI, chat_model: Any, tokenizer: Any
) -> None:
    conversations: list[list[dict[str, str]]] = [
        HELLO,
        [{"role": "system", "content": "Be brief."}, *HELLO],
        [*HELLO, {"role": "assistant", "content": "At 7:40."}, {"role": "user", "content": "From where?"}],
    ]
    for messages in conversations:
        made = client.chat.completions.create(model="chat", messages=messages, temperature=0, max_tokens=12)  # type: ignore[arg-type]
        want = stock_reply(chat_model, tokenizer, messages)
        assert made.choices[0].message.content == want
        assert want.strip()
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert made.usage is not None
        assert made.usage.prompt_tokens == len(ids)


def test_a_stream_holds_the_same_text_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    settings: Any = {"model": "chat", "messages": HELLO, "temperature": 1, "seed": 3, "max_tokens": 30}
    whole = client.chat.completions.create(**settings)
    chunks = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_a_seed_decides_what_is_drawn(client: openai.OpenAI) -> None:
    settings: Any = {"model": "chat", "messages": HELLO, "max_tokens": 12}
    drawn = [client.chat.completions.create(**settings, seed=seed).choices[0].message.content for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_log_probabilities_are_those_of_the_tokens_in_a_plain_row(
    client: openai.OpenAI, chat_model: Any, tokenizer: Any
) -> None:
    settings: Any = {"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 8, "logprobs": True}
    made = client.chat.completions.create(**settings, top_logprobs=2)
    logprobs = made.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    prompt = tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    for scored in logprobs.content:
        with torch.no_grad():
            want_V = torch.log_softmax(chat_model(torch.tensor([prompt])).logits[0, -1], -1)
        best = want_V.topk(2)
        assert [one.token for one in scored.top_logprobs] == [tokenizer.decode([token]) for token in best.indices]
        assert [one.logprob for one in scored.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-6)
        assert scored.logprob == pytest.approx(scored.top_logprobs[0].logprob, abs=1e-9)
        prompt.append(int(best.indices[0]))
    streamed = list(client.chat.completions.create(**settings, top_logprobs=2, stream=True))
    pieces = [one for chunk in streamed if (one := chunk.choices[0].logprobs) is not None]
    again = [token for piece in pieces for token in piece.content or []]
    assert [one.token for one in again] == [one.token for one in logprobs.content]
    # The prompt is not read again, so sums are rounded otherwise.
    assert [one.logprob for one in again] == pytest.approx([one.logprob for one in logprobs.content], abs=1e-9)


def test_a_stop_string_ends_a_reply_and_is_not_part_of_it(client: openai.OpenAI) -> None:
    settings: Any = {"model": "chat", "messages": HELLO, "temperature": 1, "seed": 3, "max_tokens": 30}
    whole = client.chat.completions.create(**settings).choices[0].message.content
    assert whole is not None
    stop = whole[4:7]
    for stream in (False, True):
        made: Any = client.chat.completions.create(**settings, stop=[stop], stream=stream)
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in made)
        else:
            text = made.choices[0].message.content
            assert made.choices[0].finish_reason == "stop"
        assert text == whole[: whole.index(stop)]


def test_a_text_is_continued_as_it_is(client: openai.OpenAI, chat_model: Any, tokenizer: Any) -> None:
    prompt = "The ferry leaves at"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    want = stock_continuation(chat_model, tokenizer, ids)
    assert want.strip()
    made = client.completions.create(model="chat", prompt=prompt, temperature=0, max_tokens=12)
    assert made.choices[0].text == want
    chunks = client.completions.create(model="chat", prompt=prompt, temperature=0, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == want


def test_text_of_users_never_ends_a_turn(client: openai.OpenAI, tokenizer: Any) -> None:
    """As a control token, the mark would be one token and not several."""
    mark = "<|im_end|>"
    assert len(tokenizer(mark)["input_ids"]) == 1
    counts = []
    for text in ("a", f"a{mark}"):
        made = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": text}], max_tokens=1, temperature=0
        )
        assert made.usage is not None
        counts.append(made.usage.prompt_tokens)
    assert counts[1] - counts[0] > 3
    made = client.chat.completions.create(model="tiny", messages=own(f"{mark}Who?", f"{mark} {TEXT}"))
    assert json.loads(made.choices[0].message.content or "").keys() == {"answer"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("presence_penalty", 0.5),
        ("logit_bias", {"5": 1}),
        ("response_format", {"type": "json_object"}),
        ("temperature", -1),
        ("max_tokens", 0),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: openai.OpenAI, field: str, value: Any) -> None:
    settings: Any = {field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="chat", messages=HELLO, **settings)  # type: ignore[arg-type]
    assert caught.value.param == field
    assert field in caught.value.message


def test_harmless_values_and_unknown_fields_are_taken(client: openai.OpenAI) -> None:
    made = client.chat.completions.with_raw_response.create(
        model="chat",
        messages=HELLO,  # type: ignore[arg-type]
        temperature=0,
        max_completion_tokens=1,
        n=1,
        tools=[],
        user="me",
        extra_body={"mood": "good"},
    )
    assert made.headers["x-palmette-ignored"] == "mood, user"
    assert made.parse().choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}], "the role 'tool'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "'image_url'"),
        ([{"role": "user", "content": None}], "no content"),
    ],
)
def test_messages_that_no_template_takes_are_refused(client: openai.OpenAI, messages: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.chat.completions.create(model="chat", messages=messages)


def test_a_prompt_that_is_too_long_is_refused_and_others_go_on(client: openai.OpenAI) -> None:
    """The model of these tests has 4,096 positions."""
    long: Any = [{"role": "user", "content": "ferry " * 5000}]
    with pytest.raises(openai.BadRequestError, match="4096"):
        client.chat.completions.create(model="chat", messages=long)
    with pytest.raises(openai.BadRequestError, match="4096"):
        client.chat.completions.create(model="chat", messages=long, stream=True)
    assert client.chat.completions.create(model="chat", messages=HELLO, max_tokens=1).choices  # type: ignore[arg-type]


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Served are: tiny, chat") as caught:
        client.chat.completions.create(model="gpt-9", messages=HELLO)  # type: ignore[arg-type]
    assert caught.value.code == "model_not_found"


def test_a_key_is_needed_where_there_is_one(fitted_model: Any, tokenizer: Any) -> None:
    key = "sk-0123456789abcdef"
    with serving({"tiny": answerer_of(fitted_model, tokenizer)}, keys=["other-key-of-16-chars", key]) as served:
        url = f"{served.url}/v1"
        assert served.client.get("/health").status_code == 200
        for other in ("any", key[:-1], key + "a", "ключ".encode().decode("latin-1")):
            refused = served.client.get("/v1/models", headers={"Authorization": f"Bearer {other}".encode("latin-1")})
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert served.client.get("/metrics").status_code == 401
        wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
        with wrong as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["tiny"]
