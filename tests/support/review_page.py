"""A review of a few documents, by a model that does as it is told, served to a browser."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.web.gate import Gate
from palmette.web.review.opening import Review, open_review
from palmette.web.serving import known_names, listen

RUN = Run("runs/tiny", "1" * 64, "2" * 64, max_words=5)


def spans(text: str, *answers: str) -> tuple[Answer, ...]:
    """Answers, each at its first place in a text."""
    return tuple(Answer(answer, text.index(answer)) for answer in answers)


def question(id_: str, text: str, document: str, *suggested: str) -> Question:
    """A question whose likeliest answers `StubDecoder` gives in this order. Without any, it refuses."""
    return Question(id_, text, plausible=spans(document, *suggested))


class StubDecoder:
    """A model that gives the plausible answers of each question: the first with 60 %, the next with 15 %, and so on.

    Attributes:
        hold: while this is cleared, no document is read.
        broken: what reading ends in, if anything.
    """

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.broken: Exception | None = None
        self.read: list[str] = []

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        for document in documents:
            assert self.hold.wait(60)
            if self.broken is not None:
                raise self.broken
            self.read.append(document.id)
            for one in document.questions:
                yield one.id, prediction(document.text, one)


def reviewed(number: int) -> Document:
    """A document with one question, that differs from others by a number."""
    text = f"Boat {number} leaves from pier {number + 1} at noon."
    return Document(
        f"d{number}", text, (question(f"q{number}", f"Where does boat {number} leave?", text, f"pier {number + 1}"),)
    )


def prediction(text: str, asked: Question) -> Prediction:
    shares = (0.6, 0.15, 0.05, 0.04)
    found = tuple(
        Candidate(one.text, one.start, one.start + len(one.text), share)
        for one, share in zip(asked.plausible, shares, strict=False)
    )
    if not found:
        weak = Candidate(text.split()[0], 0, len(text.split()[0]), 0.08)
        return Prediction("", "absent", probability=0.9, no_answer_probability=0.9, candidates=(weak,))
    best = found[0]
    return Prediction(best.text, "", best.start, best.end, best.probability, 0.1, found)


@contextlib.contextmanager
def reviewing(
    folder: Path, documents: Sequence[Document], *, decoder: Any = None, **options: Any
) -> Iterator[tuple[Review, str]]:
    """A review that is served on this machine, and its address. Questions come at random, none of them blind."""
    opened = listen("127.0.0.1", options.pop("port", 0))
    port = opened.getsockname()[1]
    settings: dict[str, Any] = {"data": "harbour.json", "annotators": ["ann"], **options}
    settings.setdefault("choosing", Choosing("random", overlap_share=0.0, blind_share=0.0))
    with Store.open(folder / "review.db") as store:
        review = open_review(
            store, documents, decoder or StubDecoder(), RUN, names=known_names("127.0.0.1"), port=port, **settings
        )
        try:
            with served(review.app, opened):
                yield review, f"http://127.0.0.1:{port}"
        finally:
            review.answers.stop()


@contextlib.contextmanager
def served(app: Gate, opened: socket.socket) -> Iterator[None]:
    """An application that is served at a socket, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
        opened.close()
