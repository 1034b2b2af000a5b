"""The store of a review: documents, questions, the audit set and events, in SQLite or PostgreSQL.

Rows are only ever added, as `store/database.py` says. `append` returns when the events are on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from palmette.data.records import Answer, Document, Question
from palmette.errors import DataError
from palmette.review import schema
from palmette.review.events import Event, Span, document_hash
from palmette.review.rows import from_row, to_row
from palmette.store.database import Database
from palmette.store.engine import is_postgresql

_INSERT = schema.events.insert().returning(schema.events.c.id, sort_by_parameter_order=True)


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit set: questions drawn at random before the first verdict, and never trained on.

    Attributes:
        questions: their ids, in the order of the data.
        sampling_probability: the probability with which each question of the store was drawn.
        time: when it was drawn, in UTC.
    """

    questions: tuple[str, ...]
    sampling_probability: float
    time: datetime


class Store(Database):
    """A store that is open. Threads may share it. Use `Store.open`."""

    chain = schema.CHAIN

    def __init__(self, engine: sa.Engine, where: str) -> None:
        super().__init__(engine, where)
        self._texts: dict[str, str] = {}
        self._asked: dict[str, str] = {}

    def add_documents(self, documents: Iterable[Document]) -> None:
        """Add documents with their questions. What is there already, and is the same, stays as it is.

        Args:
            documents: the documents, as a reader of data gives them.

        Raises:
            DataError: a question's id is already that of another question, of another document, or of other answers.
            RunError: the database cannot be written.
        """
        given = list(documents)
        with self._writing() as connection:
            hashes = set(connection.scalars(sa.select(schema.documents.c.sha256)))
            asked = {row.id: row for row in connection.execute(sa.select(schema.questions))}
            for document in given:
                self._check_text(document.text, f"document {document.id!r}")
                sha256 = document_hash(document.text)
                if sha256 not in hashes:
                    values = {"sha256": sha256, "name": document.id, "title": document.title, "text": document.text}
                    connection.execute(schema.documents.insert(), values)
                    hashes.add(sha256)
                for question in document.questions:
                    row = {
                        "id": question.id,
                        "document_sha256": sha256,
                        "text": question.text,
                        "answers": [[answer.text, answer.start] for answer in question.answers],
                        "place": len(asked),
                    }
                    if question.id not in asked:
                        inserted = connection.execute(schema.questions.insert().returning(schema.questions), row)
                        asked[question.id] = inserted.one()
                    else:
                        self._check_same(asked[question.id]._mapping, row)

    def documents(self) -> tuple[Document, ...]:
        """All documents with their questions, in the order in which they were added.

        The id of a document is its hash, since two documents may have come under one name.
        """
        with self._reading() as connection:
            texts = {row.sha256: row for row in connection.execute(sa.select(schema.documents))}
            rows = connection.execute(sa.select(schema.questions).order_by(schema.questions.c.place)).all()
        asked: dict[str, list[Question]] = {}
        for row in rows:
            answers = tuple(Answer(text, start) for text, start in row.answers)
            asked.setdefault(row.document_sha256, []).append(Question(row.id, row.text, answers))
        return tuple(
            Document(sha256, texts[sha256].text, tuple(questions), texts[sha256].title)
            for sha256, questions in asked.items()
        )

    def document(self, sha256: str) -> str:
        """The text of a document.

        Raises:
            DataError: the store does not have it.
        """
        if sha256 not in self._texts:
            with self._reading() as connection:
                text = connection.scalar(sa.select(schema.documents.c.text).where(schema.documents.c.sha256 == sha256))
            if text is None:
                raise DataError(
                    f"{self._where} has no document {sha256[:12]!r}", "Start the review with the data that holds it."
                )
            self._texts[sha256] = text
        return self._texts[sha256]

    def questions(self) -> dict[str, str]:
        """The hash of the document of every question, by the question's id, in the order of the data."""
        query = sa.select(schema.questions.c.id, schema.questions.c.document_sha256).order_by(schema.questions.c.place)
        with self._reading() as connection:
            return {row.id: row.document_sha256 for row in connection.execute(query)}

    def freeze_audit(self, questions: Sequence[str], sampling_probability: float) -> Audit:
        """Set the audit set, once and for all, before the first verdict.

        Args:
            questions: ids of questions of the store.
            sampling_probability: the probability with which each question of the store was drawn.

        Raises:
            DataError: there is an audit set already, or a verdict, or a question that the store does not have.
        """
        with self._writing() as connection:
            if connection.scalar(sa.select(sa.func.count()).select_from(schema.audit)):
                raise DataError(f"{self._where} has its audit set already", "It is never changed. Use a new store.")
            judged = sa.select(sa.func.count()).select_from(schema.events).where(schema.events.c.kind != "shown")
            if connection.scalar(judged):
                raise DataError(
                    f"{self._where} has verdicts already, so an audit set would not be blind to them",
                    "Use a new store, or go on without an audit set.",
                )
            known = set(connection.scalars(sa.select(schema.questions.c.id)))
            if unknown := [one for one in questions if one not in known]:
                raise DataError(f"{self._where} has no question {unknown[0]!r}", "Add the documents first.")
            values = {"sampling_probability": sampling_probability, "time": datetime.now(UTC).isoformat()}
            rows = [{"question": one, **values} for one in dict.fromkeys(questions)]
            if rows:
                connection.execute(schema.audit.insert(), rows)
        frozen = self.audit()
        assert frozen is not None or not rows
        return frozen or Audit((), sampling_probability, datetime.now(UTC))

    def audit(self) -> Audit | None:
        """The audit set. None if none was frozen."""
        joined = schema.audit.join(schema.questions, schema.audit.c.question == schema.questions.c.id)
        query = sa.select(schema.audit).select_from(joined).order_by(schema.questions.c.place)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return None
        questions = tuple(row.question for row in rows)
        return Audit(questions, rows[0].sampling_probability, datetime.fromisoformat(rows[0].time))

    def append(self, events: Iterable[Event]) -> list[int]:
        """Add events, all or none. It returns when they are on the disk.

        Args:
            events: the events. Their ids are ignored, and those of the store are given.

        Returns:
            The ids that the store gave them.

        Raises:
            DataError: the store does not have the question or document of an event, a span is no slice of its document,
                or an undo names no verdict of the same annotator.
            RunError: the database cannot be written. Then nothing was added.
        """
        given = list(events)
        for event in given:
            self._check_event(event)
        if not given:
            return []
        with self._writing() as connection:
            for event in given:
                if event.undoes is not None:
                    self._check_undo(connection, event)
            return list(connection.scalars(_INSERT, [to_row(event) for event in given]))

    def import_events(self, events: Iterable[Event]) -> list[int]:
        """Add the events of another store, all or none. Undoes refer to ids of the other store.

        Args:
            events: the events with their ids, by rising id.

        Returns:
            The ids that this store gave them.

        Raises:
            DataError: as for `append`. Or an undo names an event that is not among those before it.
            RunError: the database cannot be written. Then nothing was added.
        """
        given = list(events)
        for event in given:
            self._check_event(event)
        number_of: dict[int | None, int] = {}
        numbers: list[int] = []
        with self._writing() as connection:
            for event in given:
                row = event
                if event.undoes is not None:
                    if event.undoes not in number_of:
                        raise DataError(
                            f"event {event.id} undoes event {event.undoes}, which is not among them",
                            "Import the whole file.",
                        )
                    row = replace(event, undoes=number_of[event.undoes])
                    self._check_undo(connection, row)
                number_of[event.id] = connection.execute(_INSERT, to_row(row)).scalar_one()
                numbers.append(number_of[event.id])
        return numbers

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with an id above `after`, by rising id.

        They are read in portions, so a long reading holds up nobody.
        """
        yield from map(from_row, self._rows_after(schema.events, after))

    def _check_event(self, event: Event) -> None:
        where = f"an event of question {event.question!r}"
        if event.question not in self._asked:
            self._asked = self.questions()
        document = self._asked.get(event.question)
        if document is None:
            raise DataError(f"{self._where} has no question {event.question!r}", "Add its document first.")
        if document != event.document_sha256:
            raise DataError(
                f"{where} names the document {event.document_sha256[:12]!r}, and the question is about "
                f"{document[:12]!r}",
                "Load the page again, since the data have changed.",
            )
        text = self.document(document)
        if event.verdict is not None and event.verdict.span is not None:
            event.verdict.span.check(text, where)
        if event.shown is not None:
            if event.shown.span is not None:
                event.shown.span.check(text, where)
            for one in event.shown.candidates:
                Span(one.text, one.start, one.end).check(text, where)

    def _check_undo(self, connection: sa.Connection, event: Event) -> None:
        table = schema.events
        row = connection.execute(sa.select(table).where(table.c.id == event.undoes)).one_or_none()
        if row is None or row.verdict is None or (row.annotator, row.question) != (event.annotator, event.question):
            raise DataError(
                f"event {event.undoes} is no verdict of {event.annotator!r} on question {event.question!r}, so it "
                "cannot be undone",
                "Undo one of your own verdicts.",
            )

    def _check_same(self, there: Any, given: dict[str, Any]) -> None:
        for name in ("document_sha256", "text", "answers"):
            if there[name] != given[name]:
                raise DataError(
                    f"{self._where} has a question {given['id']!r} already, with another "
                    f"{'document' if name == 'document_sha256' else name}",
                    "Give the questions other ids, or use a new store.",
                )

    def _check_text(self, text: str, where: str) -> None:
        if "\0" in text and is_postgresql(self._engine):
            raise DataError(
                f"{where} holds the character U+0000, which PostgreSQL cannot store", "Remove it from the document."
            )
