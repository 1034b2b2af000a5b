"""Models that are served over real sockets in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from palmette.data.records import Document
from palmette.decode.prediction import Prediction
from palmette.extraction.reading import FieldPrediction
from palmette.extraction.schema import Schema
from palmette.inference.answerer import Answerer
from palmette.inference.together import Placed
from palmette.model.loading import LoadedModel
from palmette.serving.application import build_application
from palmette.serving.documents import Documents
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread, ServedModel, open_models
from palmette.serving.names import allowed_hosts
from palmette.serving.served import Served
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from palmette.web.serving import listen, new_server


class HeldReader:
    """A reader that waits for a sign before each call, and notes what it was asked.

    Attributes:
        hold: while this is cleared, nothing is answered.
        asked: the questions of each call.
        broken: what a call ends in, if anything.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.hold = threading.Event()
        self.hold.set()
        self.begun = threading.Event()
        self.asked: list[list[str]] = []
        self.broken: Exception | None = None

    num_kept_tokens = property(lambda self: self._reader.num_kept_tokens)

    def answer(self, document: Document, questions: Sequence[str], **options: Any) -> list[Prediction]:
        self._wait(list(questions))
        found: list[Prediction] = self._reader.answer(document, questions, **options)
        return found

    def extract(self, document: Document, schema: Schema, **options: Any) -> list[FieldPrediction]:
        self._wait([field.question for field in schema.fields])
        found: list[FieldPrediction] = self._reader.extract(document, schema, **options)
        return found

    def _wait(self, questions: list[str]) -> None:
        self.begun.set()
        assert self.hold.wait(60)
        self.asked.append(questions)
        if self.broken is not None:
            raise self.broken


@dataclass(frozen=True)
class Serving:
    """A server in this process.

    Attributes:
        url: its address, without /v1.
        client: an HTTP client.
        reader: what answers questions with the first model.
        model: the first model.
        log: the lines of its log.
        thread: the thread of the models.
    """

    url: str
    client: httpx2.Client
    reader: HeldReader
    model: ServedModel
    log: list[dict[str, Any]]
    thread: ModelThread

    def answers(self, document: str, *questions: str, **fields: Any) -> list[dict[str, Any]]:
        """The answers to questions about a document."""
        body = {"document": document, "questions": list(questions), **fields}
        response = self.client.post("/v1/answers", json=body)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["answers"]
        return found

    def metric(self, name: str) -> float:
        """The value of a counter or gauge without labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"palmette_{name} ")))

    def logged(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log that have a field. A line may come after the response, so the first is waited for."""
        wait_until(lambda: any(line.get(name) for line in self.log))
        return [line for line in self.log if line.get(name)]

    def waits_for(self, number: int) -> None:
        """Wait until so many jobs are in the queue."""
        wait_until(lambda: self.thread.num_waiting == number)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true, for a minute at most."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("waited for a minute")


def answerer_of(model: Any, tokenizer: Any, prompt: str = "plain") -> Answerer:
    """A model in this process as one that was loaded by name."""
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt(prompt))
    return Answerer(LoadedModel(model, tokenizer, "tiny", "tiny"), task)


@contextlib.contextmanager
def serving(
    answerers: Mapping[str, Answerer | Placed],
    *,
    kept_tokens: int = 10_000,
    max_waiting: int = 64,
    keys: Sequence[str] = (),
    hold: threading.Event | None = None,
) -> Iterator[Serving]:
    """Serve models on this machine.

    Args:
        answerers: the models by name.
        kept_tokens: how many tokens of documents stay in memory.
        max_waiting: how many requests may wait.
        keys: the API keys.
        hold: the models are loaded once this is set. At once if None.
    """
    placed = {name: one if isinstance(one, Placed) else Placed(one) for name, one in answerers.items()}
    models = {
        name: replace(model, reader=HeldReader(model.reader))  # type: ignore[arg-type]
        for name, model in open_models(placed, kept_tokens).items()
    }

    def load() -> Mapping[str, ServedModel]:
        assert hold is None or hold.wait(60)
        return models

    log: list[dict[str, Any]] = []
    metrics = Metrics()
    thread = ModelThread(load, max_waiting=max_waiting, metrics=metrics)
    metrics.watch("kept_tokens", "Tokens.", lambda: sum(model.reader.num_kept_tokens for model in models.values()))
    served = Served(thread, Documents(), metrics, 0)
    with contextlib.closing(listen("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        app = build_application(served, hosts=allowed_hosts("127.0.0.1", port), keys=keys, log=log.append)
        server = new_server(app, 20)
        running = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        running.start()
        wait_until(lambda: server.started)
        if hold is None:
            wait_until(lambda: thread.state == "ready")
        url = f"http://127.0.0.1:{port}"
        first = next(iter(models.values()))
        reader: Any = first.reader
        try:
            with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
                yield Serving(url, client, reader, first, log, thread)
        finally:
            reader.hold.set()
            server.should_exit = True
            running.join(60)
            if thread.state == "ready":
                thread.stop()
            models.clear()  # FastAPI remembers handlers for the life of a process, and they hold a cache of 64 MB
    assert not running.is_alive()
