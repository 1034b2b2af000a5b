"""Answers of an endpoint are kept, under what was asked, and never with the key."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from palmette.endpoint.client import Client
from palmette.endpoint.settings import Endpoint
from tests.support.chat_server import ChatServer, client_of, says, user


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
