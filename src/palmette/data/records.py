"""Records of extractive question answering: documents, questions, and answers with their position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from palmette.data.text import short
from palmette.errors import DataError


@dataclass(frozen=True, slots=True)
class Answer:
    """A known answer: a span of a document.

    Attributes:
        text: its text, exactly as in the document.
        start: the index of its first character in the document.
    """

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a document.

    Attributes:
        id: an id that is unique in its data set.
        text: the question.
        answers: the accepted answers. Empty where the document does not answer the question.
        plausible: for an unanswerable question, spans that a careless reader might give.
        rationale: reasoning that leads to the answer, or to there being none. None where nobody wrote one.
    """

    id: str
    text: str
    answers: tuple[Answer, ...] = ()
    plausible: tuple[Answer, ...] = ()
    rationale: str | None = None

    @property
    def answerable(self) -> bool:
        """Whether the document answers it."""
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the questions about it.

    Attributes:
        id: an id, for messages and reports.
        text: the text.
        questions: the questions.
        title: the title, if it has one.
    """

    id: str
    text: str
    questions: tuple[Question, ...]
    title: str = ""


@runtime_checkable
class CountedDocuments(Protocol):
    """Documents on disk whose questions were counted as they were checked, so that none is read to count them."""

    num_questions: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """Documents read from one source.

    Attributes:
        source: where they came from, as the user named it.
        documents: what was read. They may be on disk (`data/streamed.py`).
        sha256: hash of the source's bytes, or the hub's fingerprint.
        dropped: records left out under the policy "drop", with the reason of each.
        num_added: unanswerable questions among those of the documents that were added to the source's own.
    """

    source: str
    documents: Sequence[Document]
    sha256: str
    dropped: tuple[str, ...] = field(default=())
    num_added: int = 0

    @property
    def num_questions(self) -> int:
        """Questions of all documents."""
        if isinstance(self.documents, CountedDocuments):
            return self.documents.num_questions
        return sum(len(document.questions) for document in self.documents)

    def describe(self) -> dict[str, Any]:
        """The source of the data set, its hash and its size, for manifests and reports."""
        counts = {"documents": len(self.documents), "questions": self.num_questions}
        if self.num_added:
            counts["added"] = self.num_added
        return {"source": self.source, "sha256": self.sha256, **counts}


def check_document(document: Document, source: str) -> None:
    """Check that a document holds text that can be encoded.

    Raises:
        DataError: naming the source and the document.
    """
    if not document.text.strip():
        raise DataError(f"{source}: document {document.id!r} is empty", "Take it out, or give it its text.")
    check_unicode(document.text, f"{source}: document {document.id!r}")


def check_question(question: Question, document: Document, source: str) -> None:
    """Check that a question has text, that its answers stand where they should, and that a rationale is not empty.

    Raises:
        DataError: naming the source, the record, the value and the way out.
    """
    where = f"{source}: question {question.id!r} of document {document.id!r}"
    if not question.text.strip():
        raise DataError(f"{where} has no text", "Take it out, or write the question.")
    check_unicode(question.text, where)
    for answer in question.answers + question.plausible:
        _check_answer(document.text, answer, where)
    if question.rationale is not None:
        if not question.rationale.strip():
            raise DataError(f"{where} has an empty rationale", "Leave it out, or write the reasoning.")
        check_unicode(question.rationale, f"{where}, in its rationale,")


def check_unicode(text: str, where: str) -> None:
    """Check that a text can be encoded.

    Raises:
        DataError: it cannot. The message begins with `where`.
    """
    broken = next((index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
    if broken is not None:
        raise DataError(
            f"{where} has half a surrogate pair, {text[broken]!a}, at {broken}", "Save the text as UTF-8 again."
        )


def _check_answer(text: str, answer: Answer, where: str) -> None:
    if not answer.text.strip():
        raise DataError(f"{where} has an empty answer", "Leave its answers out if the document does not answer it.")
    there = text[max(answer.start, 0) : max(answer.start, 0) + len(answer.text)]
    if answer.start >= 0 and there == answer.text:
        return
    elsewhere = text.find(answer.text)
    hint = f"it stands at {elsewhere}" if elsewhere >= 0 else "it does not stand anywhere in the document"
    raise DataError(
        f"{where} has the answer {short(answer.text)} at {short(answer.start)}, where the document has {short(there)}",
        f"Correct the offset ({hint}), or set data.on_bad_record: drop.",
    )


def checked_document(
    document: Document | DataError, seen: dict[str, str], source: str
) -> tuple[Document | None, list[DataError]]:
    """The document with its good questions, and the errors of the others. The ids of the good ones go into `seen`."""
    if isinstance(document, DataError):
        return None, [document]
    try:
        check_document(document, source)
    except DataError as error:
        lost = f"{error.problem}, with {len(document.questions)} questions" if document.questions else error.problem
        return None, [DataError(lost, error.way_out)]
    good, errors = [], []
    for question in document.questions:
        try:
            check_question(question, document, source)
            if question.id in seen:
                raise DataError(
                    f"{source}: question id {question.id!r} of document {document.id!r} "
                    f"also stands in {seen[question.id]!r}",
                    "Give every question an id of its own.",
                )
        except DataError as error:
            errors.append(error)
            continue
        seen[question.id] = document.id
        good.append(question)
    return replace(document, questions=tuple(good)), errors
