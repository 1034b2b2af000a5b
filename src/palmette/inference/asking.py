"""Questions to one document: checked before a model is loaded, and answered one after another.

Nothing here imports torch, so a mistake in the input costs no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from palmette.data.records import Document, Question, check_document, check_unicode
from palmette.decode.prediction import Decoder, Prediction
from palmette.errors import DataError

if TYPE_CHECKING:  # it loads torch
    from palmette.decode.effort import Effort
    from palmette.inference.answerer import Answerer, DecoderName


class OpenDocument(Protocol):
    """A document that was opened, and can be asked again and again.

    Attributes:
        num_windows: the number of parts in which it is read.
    """

    num_windows: int

    @property
    def unread(self) -> str | None:
        """A sentence about what was not read for the last questions, if that is so."""

    def ask(self, questions: Sequence[str]) -> tuple[Prediction, ...]:
        """A prediction for each question, in their order."""


def check_text(text: str, name: str) -> None:
    """Check a document before anything is loaded.

    Args:
        text: its text.
        name: what messages call it.

    Raises:
        DataError: it is empty, or not valid Unicode.
    """
    if not text.strip():
        raise DataError(f"the document {name!r} is empty", "Give a document that holds text.")
    check_document(Document(name, text, ()), name)


def check_questions(questions: Sequence[str]) -> None:
    """Check questions before anything is loaded. Messages count them from 1.

    Raises:
        DataError: a question is empty, or not valid Unicode.
    """
    for number, question in enumerate(questions, 1):
        if not question.strip():
            raise DataError(f"question {number} is empty", "Write the question between quotes.")
        check_unicode(question, f"question {number}")


def open_session(
    answerer: Answerer,
    text: str,
    name: str,
    *,
    decoder: DecoderName = "span",
    effort: Effort | None = None,
    read_all: bool = False,
) -> OpenDocument:
    """Open a document.

    Args:
        answerer: the model.
        text: the document's text.
        name: what messages call it.
        decoder: the span decoder, which reads the document once, or plain generation, which reads it for each question.
        effort: how far the span decoder looks.
        read_all: whether the span decoder reads all of a long document for each question.

    Raises:
        DataError: as `Answerer.decoder`.
        RunError: as `Answerer.decoder`.
    """
    if decoder == "span":
        from palmette.inference.session import reading_bar

        return answerer.open_document(text, name=name, read_all=read_all, effort=effort, progress=reading_bar)
    return DecoderSession(answerer.decoder(decoder, effort=effort), text, name)


class DecoderSession:
    """A document that any decoder reads, for each question again.

    Args:
        decoder: the decoder.
        text: the document's text.
        name: what messages call it.
    """

    unread: str | None = None
    num_windows = 1

    def __init__(self, decoder: Decoder, text: str, name: str) -> None:
        self._decoder, self._text, self._name = decoder, text, name

    def ask(self, questions: Sequence[str]) -> tuple[Prediction, ...]:
        """A prediction for each question, in their order."""
        asked = Document(self._name, self._text, tuple(Question(str(i), q) for i, q in enumerate(questions, 1)))
        found: dict[str, Any] = dict(self._decoder.predict([asked]))
        return tuple(found[question.id] for question in asked.questions)
