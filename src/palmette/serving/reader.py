"""Answers to questions about documents by one model. What was read of the last documents is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from palmette.data.records import Document
from palmette.decode.long_document import FirstLook, LongDocument, Watch
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.inference.answerer import Answerer, asked_document


class DocumentReader:
    """Answers questions about documents. Its methods are used by one thread only.

    The keys and values of the documents that were asked about last stay in memory, up to a number of tokens. Nothing is
    written to the disk.

    Args:
        answerer: the model.
        kept_tokens: how many tokens of documents stay in memory. A longer document is read again each time.

    Attributes:
        num_kept_tokens: the number of tokens whose keys and values stayed after the last call. Any thread may read it.

    Raises:
        DataError: the model was trained to write a rationale before its answer.
        RunError: the model was calibrated for another effort.
    """

    def __init__(self, answerer: Answerer, kept_tokens: int) -> None:
        if answerer.task.reasoning.kind == "rationale":
            raise DataError(
                f"{answerer.loaded.name} was trained to write a rationale before its answer, and a server answers "
                "without one",
                "Serve a run whose reasoning.kind is another.",
            )
        self._decoder = answerer.span_decoder()
        self._kept_tokens = kept_tokens
        self._cache = self._decoder.new_cache()
        self._open: OrderedDict[tuple[str, bool], LongDocument] = OrderedDict()
        self.num_kept_tokens = 0

    def answer(
        self, document: Document, questions: Sequence[str], *, read_all: bool = False, watch: Watch = lambda *_: None
    ) -> list[Prediction]:
        """A prediction for each question, in their order. The document is read once for all of them.

        Args:
            document: the document. Its id stands for its text.
            questions: the questions. The same one twice is asked once.
            read_all: whether all of a long document is read for each question.
            watch: told of the progress. An exception of its own ends the work. What was read stays.

        Raises:
            DataError: the document or a question is empty, or is not valid Unicode.
            PackingError: a question is too long.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        texts = list(dict.fromkeys(questions))
        asked = asked_document(document.text, texts, "document").questions
        opened = self._opened(document, read_all)
        try:
            found = opened.posteriors(asked, watch)
        finally:
            self._make_room()
        decided = {one.text: self._decoder.decision.decide(found[one.id]) for one in asked}
        return [decided[question] for question in questions]

    def _opened(self, document: Document, read_all: bool) -> LongDocument:
        key = (document.id, read_all)
        if key not in self._open:
            look = None if read_all else FirstLook()
            self._open[key] = LongDocument(self._decoder, document, first_look=look, cache=self._cache)
        self._open.move_to_end(key)
        return self._open[key]

    def _make_room(self) -> None:
        sizes = {key: one.num_kept_tokens for key, one in self._open.items()}
        total = sum(sizes.values())
        for key, size in sizes.items():  # the one that was used last is the last
            if total > self._kept_tokens or not size:  # of one without tokens nothing was read
                del self._open[key]
                total -= size
        self.num_kept_tokens = total
