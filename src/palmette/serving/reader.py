"""What one model reads out of documents: answers and fields. What was read of the last documents is kept."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from palmette.data.records import Document
from palmette.decode.long_document import FirstLook, LongDocument, Watch
from palmette.decode.posterior import Decision, SpanPosterior
from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import DataError
from palmette.extraction.reading import FieldDecoder, FieldPrediction
from palmette.extraction.schema import Schema
from palmette.inference.answerer import Answerer, asked_document


class DocumentReader:
    """Answers questions about documents, and reads fields out of them. Its methods are used by one thread only.

    The keys and values of the documents that were asked about last stay in memory, up to a number of tokens. Nothing is
    written to the disk.

    Args:
        answerer: the model.
        kept_tokens: how many tokens of documents stay in memory. A longer document is read again each time.
        cache: what questions are asked in, as `SpanDecoder.new_cache` makes it. One of its own if None.

    Attributes:
        num_kept_tokens: the number of tokens whose keys and values stayed after the last call. Any thread may read it.

    Raises:
        DataError: the model was trained to write a rationale before its answer.
        RunError: the model was calibrated for another effort.
    """

    def __init__(self, answerer: Answerer, kept_tokens: int, cache: PrefixCache | None = None) -> None:
        if answerer.task.reasoning.kind == "rationale":
            raise DataError(
                f"{answerer.loaded.name} was trained to write a rationale before its answer, and a server answers "
                "without one",
                "Serve a run whose reasoning.kind is another.",
            )
        self._decoder = answerer.span_decoder()
        self._kept_tokens = kept_tokens
        self._cache = cache or self._decoder.new_cache()
        self._open: OrderedDict[str, LongDocument] = OrderedDict()
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
            TooLongError: the model has fewer positions than a window, a question and an answer need.
        """
        texts = list(dict.fromkeys(questions))
        asked = asked_document(document.text, texts, "document").questions
        with self._opened(document) as opened:
            found = opened.posteriors(asked, watch, read_all=read_all)
        decided = {one.text: self._decoder.decision.decide(found[one.id]) for one in asked}
        return [decided[question] for question in questions]

    def extract(
        self, document: Document, schema: Schema, *, read_all: bool = True, watch: Watch = lambda *_: None
    ) -> list[FieldPrediction]:
        """What the document says about each field of a schema, in their order. It is read once for all of them.

        Args:
            document: the document. Its id stands for its text.
            schema: the fields.
            read_all: whether all of a long document is read for each field.
            watch: as for `answer`.

        Raises:
            DataError, PackingError, TooLongError: as for `answer`.
        """
        asked = asked_document(document.text, [field.question for field in schema.fields], "document")
        with self._opened(document) as opened:
            fields = _OpenFields(self._decoder.decision, opened, watch, read_all)
            found = dict(FieldDecoder(fields, schema).predict([asked]))
        return [found[one.id] for one in asked.questions]

    @contextlib.contextmanager
    def _opened(self, document: Document) -> Iterator[LongDocument]:
        """The document, to be asked. Afterwards others that were asked before may have to go."""
        if document.id not in self._open:
            self._open[document.id] = LongDocument(self._decoder, document, first_look=FirstLook(), cache=self._cache)
        self._open.move_to_end(document.id)
        try:
            yield self._open[document.id]
        finally:
            self._make_room()

    def _make_room(self) -> None:
        sizes = {key: one.num_kept_tokens for key, one in self._open.items()}
        total = sum(sizes.values())
        for key, size in sizes.items():  # the one that was used last is the last
            if total > self._kept_tokens or not size:  # of one without tokens nothing was read
                del self._open[key]
                total -= size
        self.num_kept_tokens = total


@dataclass(frozen=True)
class _OpenFields:
    """Reads the fields of one document that is open."""

    decision: Decision
    opened: LongDocument
    watch: Watch
    read_all: bool

    def read_fields(
        self, documents: Iterable[Document], options: Mapping[str, Sequence[str]], least: Mapping[str, float]
    ) -> Iterator[tuple[str, SpanPosterior]]:
        """(question id, posterior) for every question of the document, and (`options_of(id)`, posterior)."""
        for document in documents:
            yield from self.opened.posteriors(
                document.questions, self.watch, options=options, least=least, read_all=self.read_all
            ).items()
