"""Connections to a server: proxies, certificates, sizes, and that a job leaves no connection and no thread behind."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from palmette.endpoint.client import Client
from palmette.endpoint.errors import EndpointError, RequestError
from palmette.endpoint.settings import Endpoint
from tests.support.chat_server import Act, ChatServer, client_of, fails, says, user


def test_a_server_on_this_machine_needs_no_proxy(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert client_of(server).complete(user("hello")).text == "fine"


def test_other_servers_are_reached_through_the_proxy(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not exist answers, so it was the proxy that did."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    client = Client(Endpoint("http://model.invalid:8080/v1", "m"))
    assert client.complete(user("hello")).text == "fine"
    assert server.paths == ["http://model.invalid:8080/v1/chat/completions"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("all_proxy", "socks5://me:sk-secret@localhost:1"),
        ("all_proxy", "gopher://me:sk-secret@localhost:1"),
        ("https_proxy", "http://me:sk-secret@localhost:port"),
        ("SSL_CERT_FILE", "/nowhere/sk-secret.pem"),
    ],
)
def test_an_environment_that_cannot_be_used(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EndpointError, match="that the environment names cannot be used") as caught:
        Client(Endpoint("https://model.invalid/v1", "m")).complete(user("hello"))
    assert "sk-secret" not in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own certificate is trusted only if SSL_CERT_FILE names it."""
    key, certificate, both = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "both.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        "-days",
        "2",
    ]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    with ChatServer(certificate=both) as server:
        with pytest.raises(EndpointError, match="the certificate is not trusted") as caught:
            client_of(server).complete(user("hello"))
        assert not isinstance(caught.value, RequestError)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert client_of(server).complete(user("hello")).text == "fine"
    assert len(server.asked) == 1


def test_a_response_has_a_largest_size(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.endpoint.transport.MAX_BODY_BYTES", 2000)
    server.acts = [says("x" * 2000), says("y" * 1000)]
    client = client_of(server)
    assert client.complete(user("hello")).text == "y" * 1000
    assert client.usage.retries == 1


def ends(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within two seconds."""
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_connections_are_used_again_and_closed_with_the_job() -> None:
    threads = set(threading.enumerate())
    with ChatServer(keep_alive=True) as server:
        client = client_of(server, concurrency=2)
        assert len(dict(client.complete_all([user(str(i)) for i in range(10)]))) == 10
        assert 1 <= server.opened <= 2
        assert ends(lambda: server.closed == server.opened)
    assert ends(lambda: set(threading.enumerate()) <= threads)


def test_a_stopped_job_waits_a_little_for_answers_and_leaves_nothing_behind(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the job is stopped, the second answer takes 0.2 s more and is stored.

    The third takes 20 s and is given up after 1 s.
    """
    monkeypatch.setattr("palmette.endpoint.client.SECONDS_TO_FINISH", 1.0)
    delays = {"0": 0.0, "1": 0.2, "2": 20.0}
    server.answer = lambda request: Act(delay=delays.get(request["messages"][0]["content"], 0), body=says("fine").body)
    threads = set(threading.enumerate())
    client = client_of(server, tmp_path, concurrency=3, timeout=30.0)
    job = client.complete_all([user(str(i)) for i in range(9)])
    while len(server.asked) < 3:
        next(job)
    started = time.monotonic()
    job.close()
    assert 0.5 <= time.monotonic() - started <= 15
    assert not {thread for thread in set(threading.enumerate()) - threads if "portal" in thread.name}
    asked = len(server.asked)
    assert {"0", "1", "2"} <= set(server.prompts())
    assert client.usage.asked == asked - 1 == len(list(tmp_path.rglob("*.json")))
    assert (client.usage.failed, client.usage.retries) == (0, 0)


def test_a_stopped_job_does_not_wait_out_its_pauses(server: ChatServer) -> None:
    """The first request is answered, and all others have to wait for a minute."""
    server.acts = [says("fine"), fails(429, headers={"Retry-After": "60"})]
    job = client_of(server, concurrency=1, first_backoff=60.0).complete_all([user(str(i)) for i in range(9)])
    next(job)
    assert ends(lambda: len(server.asked) == 2)
    started = time.monotonic()
    job.close()
    assert time.monotonic() - started <= 30
    assert len(server.asked) == 2
