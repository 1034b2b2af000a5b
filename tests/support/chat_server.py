"""A server in this process that speaks the chat completions' protocol, and misbehaves on demand."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from palmette.endpoint.client import Client
from palmette.endpoint.settings import Endpoint
from tests.support.local_server import LocalServer

KEY = "sk-secret-0123456789abcdef"


@dataclass(frozen=True)
class Act:
    """What the server does with one request.

    Attributes:
        status, headers, body: of the reply.
        delay: seconds before it.
        drop: whether to hang up without a reply.
        cut: whether to hang up in the middle of the body.
        drip: seconds between single bytes of the body.
        header_drip: seconds between headers, which never end.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    drop: bool = False
    cut: bool = False
    drip: float = 0.0
    header_drip: float = 0.0


def completion(text: str | None, **changes: Any) -> dict[str, Any]:
    """A chat completion as OpenAI's documentation has it, with 11 prompt and 7 completion tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return {"object": "chat.completion", "model": "served-1", "choices": [choice], "usage": usage, **changes}


def says(text: str | None, finish_reason: str = "stop", **changes: Any) -> Act:
    """A reply with this text."""
    value = completion(text, **changes)
    value["choices"][0]["finish_reason"] = finish_reason
    return Act(body=json.dumps(value).encode())


def fails(status: int, message: str = "", **act: Any) -> Act:
    """An error in OpenAI's form."""
    return Act(status, body=json.dumps({"error": {"message": message, "code": act.pop("code", None)}}).encode(), **act)


class ChatServer(LocalServer):
    """The server; use it as a context manager.

    Args:
        answer: what it does with a request's JSON, once `acts` is empty.
        keep_alive: whether connections stay open after a response.
        certificate: a PEM file with certificate and key, to serve HTTPS.

    Attributes:
        acts: what it does with the next requests.
        asked: the JSON of all requests so far.
        headers: their headers.
        times: when they came, in seconds.
        paths: their paths, which are whole URLs if this server is asked as a proxy.
        opened, closed: connections so far.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Act] | None = None,
        *,
        keep_alive: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self.answer = answer or (lambda _: says("fine"))
        self.acts: list[Act] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.paths: list[str] = []
        self.opened = self.closed = 0
        self._keep_alive = keep_alive
        self._lock = threading.Lock()
        super().__init__(_Server(("127.0.0.1", 0), self._handler()))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://{self.address}/v1"

    def prompts(self) -> list[str]:
        """The last message of every request."""
        return [request["messages"][-1]["content"] for request in self.asked]

    def _take(self, request: dict[str, Any], headers: dict[str, str]) -> Act:
        with self._lock:
            self.times.append(time.monotonic())
            self.asked.append(request)
            self.headers.append(headers)
            if self.acts:
                return self.acts.pop(0)
        return self.answer(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if owner._keep_alive else "HTTP/1.0"

            def setup(self) -> None:
                owner.opened += 1
                super().setup()

            def finish(self) -> None:
                super().finish()
                owner.closed += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path.endswith("/v1/chat/completions")
                owner.paths.append(self.path)
                act = owner._take(json.loads(body), dict(self.headers))
                time.sleep(act.delay)
                if act.drop:
                    return
                self.send_response(act.status)
                while act.header_drip:
                    self.send_header("X-Wait", "a little longer")
                    self.flush_headers()
                    time.sleep(act.header_drip)
                for name, value in act.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(act.body)))
                self.end_headers()
                self._send(act)

            def _send(self, act: Act) -> None:
                if act.drip:
                    for index in range(len(act.body)):
                        self.wfile.write(act.body[index : index + 1])
                        time.sleep(act.drip)
                else:
                    self.wfile.write(act.body[: len(act.body) // 2] if act.cut else act.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that has gone is none of the server's business."""


def client_of(server: ChatServer, cache: Path | None = None, **settings: Any) -> Client:
    """A client that waits no longer than a test can."""
    settings = {"first_backoff": 0.01, "timeout": 5.0, **settings}
    return Client(Endpoint(server.url, settings.pop("model", "m"), **settings), cache)


def user(text: str) -> list[dict[str, str]]:
    """The messages of a request."""
    return [{"role": "user", "content": text}]
