"""Talking to an OpenAI-compatible server: what is tried again and what is not, the pace, and the key."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from palmette.endpoint.errors import EndpointError, RequestError
from palmette.endpoint.pace import Pace, retry_after
from palmette.endpoint.settings import check_url
from tests.support.chat_server import KEY, Act, ChatServer, client_of, fails, says, user
from tests.support.paths import SOURCE


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
    "too slow": Act(delay=3.0, body=says("late").body),
    "a byte now and then": Act(drip=0.05, body=says("late").body),
    "a header now and then": Act(header_drip=0.05),
    "usage alone": Act(body=b'{"usage": {"prompt_tokens": 11, "completion_tokens": 7}}'),
}


@pytest.mark.parametrize("case", sorted(PASSING))
def test_failures_that_may_pass_are_tried_again(server: ChatServer, case: str) -> None:
    server.acts = [PASSING[case]]
    client = client_of(server, timeout=1.0)
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


@pytest.mark.parametrize("module", sorted(path.stem for path in (SOURCE / "endpoint").glob("*.py")))
def test_asking_a_server_needs_no_torch(module: str) -> None:
    heavy = {"torch", "transformers", "datasets"}
    code = f"import sys, palmette.endpoint.{module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the decoder


# ---- a real server
