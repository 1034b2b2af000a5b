"""What waits: a full queue, clients that go away, errors that nobody expected, and the log that they leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect, Request

from palmette.errors import ModelError, TooLongError
from palmette.inference.conversation import Generation
from palmette.serving.jobs import Job, WriteJob
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread
from palmette.serving.openai_routes import _Streaming
from palmette.serving.waiting import Streamed, outcome
from tests.support.serving import Serving, answerer_of, serving, wait_until
from tests.support.span_decoding import TEXT

HELLO = [{"role": "user", "content": "When does the ferry leave?"}]


def send(served: Serving, path: str, body: dict[str, Any]) -> socket.socket:
    """A request on a connection of its own, whose reply is not waited for."""
    host, port = served.url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)))
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    opened.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return opened


def test_a_full_queue_turns_requests_away_and_keeps_what_it_took(fitted_model: Any, tokenizer: Any) -> None:
    with (
        serving({"tiny": answerer_of(fitted_model, tokenizer)}, max_waiting=2) as served,
        ThreadPoolExecutor(3) as pool,
    ):
        served.reader.hold.clear()
        taken = [pool.submit(served.answers, "Another document.", "Who?")]
        assert served.reader.begun.wait(60)
        taken += [pool.submit(served.answers, TEXT, "Where from?") for _ in range(2)]
        served.waits_for(2)
        for stream in (False, True):
            chat = {"model": "tiny", "messages": HELLO, "stream": stream}
            refused = served.client.post("/v1/chat/completions", json=chat)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "queue_full"
        served.reader.hold.set()
        assert [one.result()[0]["answer"] for one in taken[1:]] == ["pier 3", "pier 3"]


def test_a_question_of_a_client_that_has_gone_is_not_asked(served: Serving) -> None:
    served.reader.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.answers, "Another document.", "Who?")
        assert served.reader.begun.wait(60)
        gone = send(served, "/v1/answers", {"document": TEXT, "questions": ["Who built it?"]})
        served.waits_for(1)
        gone.close()
        wait_until(lambda: any(line["status"] == 499 for line in served.log))
        served.reader.hold.set()
        first.result()
    assert served.answers(TEXT, "Where from?")[0]["answer"] == "pier 3"
    assert served.reader.asked == [["Who?"], ["Where from?"]]


def test_work_is_given_up_when_the_server_ends_at_once() -> None:
    """As after a second Ctrl-C, which cancels the handlers. Else the process would go on until the reply is done."""

    async def never() -> dict[str, Any]:
        await asyncio.sleep(600)
        return {}

    async def ended() -> Job:
        thread, job = ModelThread(dict, max_waiting=1, metrics=Metrics()), Job("tiny")
        handler = asyncio.ensure_future(outcome(thread, job, Request({"type": "http"}, never)))
        while not thread.num_waiting:
            await asyncio.sleep(0)
        handler.cancel()
        await asyncio.wait([handler])
        return job

    assert asyncio.run(ended()).gone


def test_a_reply_ends_when_its_reader_goes(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of 3,000 tokens, which the model would not end by itself, of which the client reads the beginning."""
    writer = served.model.writer
    monkeypatch.setattr(writer, "_encoded", lambda job, encoded=writer._encoded: (encoded(job)[0], set()))
    body = {"model": "tiny", "messages": HELLO, "stream": True, "max_tokens": 3000}
    opened = send(served, "/v1/chat/completions", body)
    received = b""
    while received.count(b"data:") < 3:
        received += opened.recv(4096)
    assert writer.is_busy
    opened.close()
    wait_until(lambda: not writer.is_busy)
    assert not any("completion_tokens" in line for line in served.log)


def test_a_long_reply_does_not_hold_up_an_answer(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = served.model.writer
    monkeypatch.setattr(writer, "_encoded", lambda job, encoded=writer._encoded: (encoded(job)[0], set()))
    body = {"model": "tiny", "messages": HELLO, "stream": True, "max_tokens": 3000}
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data:")
        assert served.answers(TEXT, "Where from?")[0]["answer"] == "pier 3"
        assert writer.is_busy, "the reply was over before the answer, so nothing was shown"


def test_an_error_that_nobody_expected_ends_one_request_and_shows_no_texts(served: Serving) -> None:
    served.reader.broken = RuntimeError("the secret document")
    body = {"document": TEXT, "questions": ["Who?"]}
    failed = served.client.post("/v1/answers", json=body, headers={"X-Request-Id": "mine-1"})
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert failed.json()["error"]["type"] == "server_error"
    (line,) = served.logged("error")
    assert line["error"] == "RuntimeError"
    assert line["request_id"] == failed.headers["x-request-id"] == "mine-1"
    assert any(re.fullmatch(r"serving/model_thread\.py:\d+", place) for place in line["at"])
    served.reader.broken = None
    assert served.answers(TEXT, "Where from?")[0]["answer"] == "pier 3"


def test_the_log_says_what_happened_and_never_what_was_said(served: Serving) -> None:
    served.client.post("/v1/documents", json={"text": TEXT})
    served.answers(TEXT, "Where from?", mood="Where from?")
    sent = {"model": "tiny", "messages": HELLO, "max_tokens": 2}
    usage = served.client.post("/v1/chat/completions", json=sent).json()["usage"]
    served.client.get("/secret/path?document=" + "ferry")
    served.client.post("/v1/answers", json={"document": TEXT, "questions": "granite"})
    wait_until(lambda: len(served.log) == 5)  # a line may come after the response
    written = json.dumps(served.log)
    for said in ("ferry", "granite", "pier", "Where from", "mood", "secret"):
        assert said not in written
    by_path = {line["path"]: line for line in served.log}
    assert by_path["/v1/chat/completions"]["completion_tokens"] == usage["completion_tokens"]
    assert by_path["other"]["status"] == 404
    answered = next(line for line in served.log if line.get("questions"))
    assert (answered["path"], answered["questions"], answered["characters"]) == ("/v1/answers", 1, len(TEXT))
    assert len({line["request_id"] for line in served.log}) == len(served.log)
    assert 'palmette_requests_total{path="/v1/answers",status="200"} 1' in served.client.get("/metrics").text


@pytest.mark.parametrize("id_", ["a b", "x" * 200, "é", "a\tb", ""])
def test_ids_of_requests_that_no_log_should_hold_are_replaced(served: Serving, id_: str) -> None:
    response = served.client.get("/health", headers={"X-Request-Id": id_.encode("utf-8")})
    assert response.headers["x-request-id"].startswith("req_")


def test_requests_whose_clients_have_gone_hold_no_place_in_the_queue(served: Serving) -> None:
    """Two places, both taken by clients that go away while another question is answered."""
    served.thread._max_waiting = 2
    served.reader.hold.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.answers, "Another document.", "Who?")
        assert served.reader.begun.wait(60)
        gone = [send(served, "/v1/answers", {"document": TEXT, "questions": ["Who built it?"]}) for _ in range(2)]
        served.waits_for(2)
        for opened in gone:
            opened.close()
        wait_until(lambda: sum(line["status"] == 499 for line in served.log) == 2)
        second = pool.submit(served.answers, TEXT, "Where from?")
        served.waits_for(1)
        served.reader.hold.set()
        assert second.result()[0]["answer"] == "pier 3"
        first.result()
    assert served.reader.asked == [["Who?"], ["Where from?"]]


def test_a_fault_of_the_model_is_no_mistake_of_the_client(served: Serving) -> None:
    """Numbers that are none, as of a model that was trained with too high a learning rate."""
    served.reader.broken = ModelError("runs/secret gives probabilities that are not numbers", "Train it again.")
    failed = served.client.post("/v1/answers", json={"document": TEXT, "questions": ["Who?"]})
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert served.logged("error")[0]["error"] == "ModelError"
    served.reader.broken = TooLongError("a question needs 9000 positions, and the limit is 8192", "Shorten it.")
    assert served.client.post("/v1/answers", json={"document": TEXT, "questions": ["Who?"]}).status_code == 400


def test_a_stream_that_was_never_read_is_given_up() -> None:
    """The client goes before the first byte, so nothing is ever taken from the events."""
    taken: list[bytes] = []

    async def events() -> Any:
        taken.append(b"")
        yield b""

    async def broken(_: Any) -> None:
        raise OSError("the connection is gone")

    async def received() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def ended() -> WriteJob:
        job = WriteJob("tiny", "The ferry", Generation())
        streaming = _Streaming(events(), Streamed(job), {})
        with contextlib.suppress(OSError, ClientDisconnect, ExceptionGroup):
            await streaming({"type": "http", "asgi": {"spec_version": "2.4"}}, received, broken)
        return job

    assert asyncio.run(ended()).gone
    assert not taken
