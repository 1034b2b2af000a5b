"""A Hugging Face hub in this process, which knows one model, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from palmette.hub import first_contact

KNOWN, COMMIT = "someone/known", "c" * 40


class FakeHub(ThreadingHTTPServer):
    """Answers a request for a file's metadata as the hub does: with its commit and hash, or a named error.

    Attributes:
        asked: the path of each request.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        name, _, rest = self.path[1:].partition("/resolve/")
        known, there, user = name == KNOWN, rest.startswith("main/"), name.partition("/")[0]
        self.send_response(200 if known and there else 503 if user == "busy" else 404)
        if known and there:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"abc"')
        elif user != "busy":
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that is running."""
    with FakeHub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def use_hub(monkeypatch: pytest.MonkeyPatch, port: int, cache: Path) -> None:
    """Let the library ask a hub on this port, and keep downloads in a folder."""
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    first_contact.cache_clear()


def downloaded(cache: Path, name: str) -> Path:
    """A folder that counts as an earlier download of a model, as huggingface_hub lays its cache out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot
