"""A model's answers to the questions under review, found in a thread and kept.

People judge while the model still reads. They wait for it once at most, for the first document. Some queues need more
than answers: the hidden states of the questions, or what other runs answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from palmette.data.records import Document
from palmette.decode.prediction import Decoder, Prediction
from palmette.errors import PalmetteError, RunError, reason_of
from palmette.review.acquisition import Hidden

_log = logging.getLogger(__name__)
MOST_HIDDEN = 5000  # questions whose hidden state is kept: 6 MB for a model of 576 dimensions


class FullDecoder(Decoder, Protocol):
    """A decoder that can also tell all spans that it scored, and hidden states, as the span decoder can."""

    def predict_in_full(self, documents: Iterable[Document]) -> Iterator[tuple[str, Prediction, torch.Tensor]]:
        """(question id, prediction with every scored span as candidate, hidden state [D]) for every question."""


class OtherRun:
    """Another run, whose answers are compared with those of the run under review. Threads take turns with it.

    Args:
        decoder: the run.
    """

    def __init__(self, decoder: FullDecoder) -> None:
        self._decoder, self._turn = decoder, threading.Lock()

    def predict(self, document: Document) -> dict[str, Prediction]:
        """What it predicts for each question of a document, with every scored span as candidate."""
        with self._turn:
            return {question: prediction for question, prediction, _ in self._decoder.predict_in_full([document])}


class Answers:
    """The answers of one model. `start` begins to find them, document by document, in the order given.

    Args:
        decoder: the model. Only the thread of this object uses it.
        documents: the documents with their questions.
        known: answers that were found before, by question. Their documents are not read again.
        in_full: whether to keep hidden states, and all scored spans as candidates. It needs a `FullDecoder`.
        also: other runs that answer too. A question counts as answered once all have answered it.

    Attributes:
        questions: the number of questions of all documents.
        failures: the questions that the model cannot answer, with the reason.
    """

    def __init__(
        self,
        decoder: Decoder | FullDecoder,
        documents: Sequence[Document],
        known: Mapping[str, Prediction] | None = None,
        *,
        in_full: bool = False,
        also: Sequence[OtherRun] = (),
    ) -> None:
        self._decoder, self._documents = decoder, tuple(documents)
        self._in_full, self._also = in_full, tuple(also)
        self._hidden: dict[str, Hidden] = {}
        self._others: dict[str, tuple[Prediction, ...]] = {}
        self._found: dict[str, Prediction] = dict(known or {})
        self.failures: dict[str, PalmetteError] = {}
        self._error: Exception | None = None
        self._stop, self._changed = threading.Event(), threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._read, name="answers", daemon=True)
        self.questions = sum(len(document.questions) for document in documents)

    def of(self, decoder: Decoder | FullDecoder) -> Answers:
        """The answers of another model to the same questions, to be found in the same way."""
        return Answers(decoder, self._documents, in_full=self._in_full, also=self._also)

    def start(self) -> None:
        """Begin to find answers."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the document that is being read. Answers that were found stay."""
        self._stop.set()

    def join(self) -> None:
        """Wait until no document is being read. A program that ends during a pass of the model would be aborted."""
        if self._thread.is_alive():
            self._thread.join()

    def found(self) -> dict[str, Prediction]:
        """The answers so far, by question."""
        with self._changed:
            return dict(self._found)

    def others(self) -> dict[str, tuple[Prediction, ...]]:
        """What the other runs predict, by question."""
        with self._changed:
            return dict(self._others)

    def hidden(self) -> dict[str, Hidden]:
        """The hidden states [D] of the questions, for the first `MOST_HIDDEN` of them."""
        with self._changed:
            return dict(self._hidden)

    @property
    def num_found(self) -> int:
        """The number of questions that the model has answered."""
        with self._changed:
            return len(self._found)

    @property
    def num_read(self) -> int:
        """The number of questions that the model has answered, or cannot answer."""
        with self._changed:
            return len(self._found) + len(self.failures)

    @property
    def finished(self) -> bool:
        """Whether no more answers will come."""
        return self._error is not None or self._stop.is_set() or self.num_read >= self.questions

    def check(self) -> None:
        """Check that the model did not fail.

        Raises:
            RunError: it did.
        """
        if self._error is not None:
            raise RunError(
                f"the model failed while it read the documents: {reason_of(self._error)}",
                "Look at what the server printed, and start it again.",
            )

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until no more answers will come. Whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self.finished, seconds)

    def wait_first(self, seconds: float = 600.0) -> bool:
        """Wait for the first answer, or until none will come. Whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._found) or self.finished, seconds)

    def _read(self) -> None:
        try:
            for document in self._documents:
                if self._stop.is_set():
                    return
                if any(question.id not in self._found for question in document.questions):
                    self._read_one(document)
        except Exception as error:
            _log.exception("the model failed")
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _read_one(self, document: Document) -> None:
        found: dict[str, Prediction] = {}
        hidden: dict[str, Hidden] = {}
        others: list[dict[str, Prediction]] = []
        failed: dict[str, PalmetteError] = {}
        try:
            if self._in_full:
                for question, prediction, hidden_D in self._decoder.predict_in_full([document]):  # type: ignore[union-attr]
                    found[question], hidden[question] = prediction, _half(hidden_D)
            else:
                found = dict(self._decoder.predict([document]))
            others = [other.predict(document) for other in self._also]
        except PalmetteError as error:
            found, hidden = {}, {}
            failed = {question.id: error for question in document.questions}
        with self._changed:
            self._found.update(found)
            self._others.update({question: tuple(other[question] for other in others) for question in found})
            room = MOST_HIDDEN - len(self._hidden)
            self._hidden.update(list(hidden.items())[: max(0, room)])
            self.failures.update(failed)
            self._changed.notify_all()


def _half(hidden_D: torch.Tensor) -> Hidden:
    """A hidden state at half precision. The final norm of a model keeps its numbers far below the limit of 65,504."""
    return hidden_D.float().cpu().numpy().astype(np.float16)
