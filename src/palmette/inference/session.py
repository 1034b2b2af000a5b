"""A document that stays open for questions, with what was read of it kept in memory and on disk."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from palmette.data.records import Document
from palmette.decode.effort import Effort
from palmette.decode.long_document import FirstLook, LongDocument, Watch
from palmette.decode.prediction import Prediction
from palmette.inference.answerer import Answerer, asked_document
from palmette.inference.window_store import window_store
from palmette.inference.wording import FIRM
from palmette.progress import progress

# Makes a progress bar from a total, a word for the job and the name of a unit, as `palmette.progress.progress` does.
Bar = Callable[[int, str, str], Any]
_WORTH_A_BAR = 2  # windows
_LEAST_NEAR = 0.05  # the probability from which on a passage is found for an absence that is not firm


class Session:
    """Answers questions about one document, which is read once, and only as far as the questions need it.

    `Answerer.open_document` makes one.

    Args:
        answerer: what answers.
        document: the document.
        read_all: whether every part of the document is read for every question. If not, a long document gets a first
            look: the parts that are nearest to the question by their words are read, the nearest first.
        effort: how far the decoder looks. As calibrated if None.
        bar: makes a progress bar, such as `reading_bar`. No bar if None.
        first_look: how much of a long document is read.

    Attributes:
        num_windows: the number of parts of the document.
        unread: a sentence on what was not read for the last questions. None if everything was read.
    """

    def __init__(
        self,
        answerer: Answerer,
        document: Document,
        *,
        read_all: bool = False,
        effort: Effort | None = None,
        bar: Bar | None = None,
        first_look: FirstLook | None = None,
    ) -> None:
        self._decoder = answerer.span_decoder(effort)
        look = None if read_all else first_look or FirstLook()
        store = window_store(answerer)
        self._name, self._text, self._new_bar = document.id, document.text, bar
        self._document = LongDocument(self._decoder, document, first_look=look, store=store)
        self.num_windows = self._document.num_windows
        self.unread: str | None = None

    def ask(self, questions: Sequence[str]) -> tuple[Prediction, ...]:
        """Answer questions about the document, in their order.

        An absence is often proved before any passage is scored. If it is not firm, the passages that come nearest are
        scored too, since a reader will ask for them.

        Interrupted by Ctrl-C, it stops after the part that is being read. What was read stays, and the session can be
        asked again.

        Raises:
            DataError: a question is empty, or is not valid Unicode.
            PackingError: a question is too long.
        """
        asked = asked_document(self._text, questions, self._name).questions
        decide = self._decoder.decision.decide
        with self._bar() as watch:
            found = self._document.posteriors(asked, watch)
            bare = [one for one in asked if _is_bare(decide(found[one.id]))]
            found |= self._document.posteriors(bare, least={one.id: _LEAST_NEAR for one in bare}) if bare else {}
        predictions = tuple(decide(found[question.id]) for question in asked)
        self.unread = unread_note(predictions)
        return predictions

    @property
    def num_computed(self) -> int:
        """How many times the model has read a part of the document. What was kept is not read again."""
        return self._document.num_computed

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Watch]:
        """What draws the progress: a bar from the first number on, if there is something to wait for."""
        bars: list[Any] = []

        def watch(done: int, total: int) -> None:
            if self._new_bar is None or total <= _WORTH_A_BAR:
                return
            if not bars:
                bars.append(self._new_bar(total, "reading", "parts"))
            bars[0].update(done - bars[0].n)

        try:
            yield watch
        finally:
            for bar in bars:
                bar.close()


def _is_bare(prediction: Prediction) -> bool:
    """Whether a document is said not to answer, not firmly, and without any passage that comes near."""
    probability = prediction.no_answer_probability
    return prediction.refusal == "absent" and not prediction.candidates and (probability or 0.0) < FIRM


def reading_bar(total: int, what: str, unit: str) -> Any:
    """A progress bar that disappears from a terminal when it is done, since the answer comes next."""
    bar = progress(total, what, unit)
    bar.leave = not sys.stderr.isatty()
    return bar


def unread_note(predictions: Sequence[Prediction]) -> str | None:
    """A sentence on the parts of a document that were not read for some questions. None if all were read."""
    partial = [one for one in predictions if one.num_read < one.num_windows]
    if not partial:
        return None
    counts = sorted({one.num_read for one in partial})
    read = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    nearest = "those whose words are nearest to the question"
    each = " for each question" if len(predictions) > 1 else ""
    return (
        f"Read {read} of {partial[0].num_windows} parts of the document{each}, {nearest}. --read-all reads everything."
    )
