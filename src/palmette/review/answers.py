"""A model's answers to the questions under review, found in a thread and kept.

People judge while the model still reads. They wait for it once at most, for the first document.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from palmette.data.records import Document
from palmette.decode.prediction import Decoder, Prediction
from palmette.errors import PalmetteError, RunError, reason_of

_log = logging.getLogger(__name__)


class Answers:
    """The answers of one model. `start` begins to find them, document by document, in the order given.

    Args:
        decoder: the model. Only the thread of this object uses it.
        documents: the documents with their questions.
        known: answers that were found before, by question. Their documents are not read again.

    Attributes:
        questions: the number of questions of all documents.
        failures: the questions that the model cannot answer, with the reason.
    """

    def __init__(
        self, decoder: Decoder, documents: Sequence[Document], known: Mapping[str, Prediction] | None = None
    ) -> None:
        self._decoder, self._documents = decoder, tuple(documents)
        self._found: dict[str, Prediction] = dict(known or {})
        self.failures: dict[str, PalmetteError] = {}
        self._error: Exception | None = None
        self._stop, self._changed = threading.Event(), threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._read, name="answers", daemon=True)
        self.questions = sum(len(document.questions) for document in documents)

    def start(self) -> None:
        """Begin to find answers."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the document that is being read. Answers that were found stay."""
        self._stop.set()

    def found(self) -> dict[str, Prediction]:
        """The answers so far, by question."""
        with self._changed:
            return dict(self._found)

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
        failed: dict[str, PalmetteError] = {}
        try:
            found = dict(self._decoder.predict([document]))
        except PalmetteError as error:
            failed = {question.id: error for question in document.questions}
        with self._changed:
            self._found.update(found)
            self.failures.update(failed)
            self._changed.notify_all()
