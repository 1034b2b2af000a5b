"""A Hugging Face hub in this process, which knows one model, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from palmette.hub import first_contact

KNOWN, COMMIT = "someone/known", "c" * 40


class FakeHub(ThreadingHTTPServer):
    """Answers requests for a file as the hub does: with its commit, hash and content, or a named error.

    Attributes:
        asked: the path of each request.
        files: content by name of the known model's files. None gives it every file, without content.
    """

    def __init__(self, files: Mapping[str, bytes] | None) -> None:
        self.asked: list[str] = []
        self.files = files
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        """Send the head of the answer, and return its content."""
        self.server.asked.append(self.path)
        name, _, rest = self.path[1:].partition("/resolve/")
        revision, _, file = rest.partition("/")
        files = self.server.files
        content = b"" if files is None else files.get(file)
        if name.startswith("busy/"):
            return self._head(503)
        if name != KNOWN or revision not in ("main", COMMIT):
            return self._head(404, **{"X-Error-Code": "RevisionNotFound" if name == KNOWN else "RepoNotFound"})
        if content is None:
            return self._head(404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self._head(200, content, **{"X-Repo-Commit": COMMIT, "ETag": '"abc"'})

    def _head(self, status: int, content: bytes = b"", **headers: str) -> bytes:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def fake_hub(files: Mapping[str, bytes] | None = None) -> Iterator[FakeHub]:
    """A hub that is running."""
    with FakeHub(files) as server:
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
