"""What is asked of a document, checked before a model is loaded. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from palmette.data.records import Document, Question, check_document, check_question
from palmette.errors import DataError


def asked_document(text: str, questions: Sequence[str], name: str) -> Document:
    """A document with questions, checked. The ids of the questions are their positions, counted from 1.

    Args:
        text: the text of the document.
        questions: the questions.
        name: what messages call the document.

    Raises:
        DataError: the document or a question is empty, or is not valid Unicode.
    """
    if isinstance(questions, str):
        raise DataError(f"the questions are one text, {questions[:40]!r}", "Give a list of questions.")
    numbered = tuple(Question(str(index), question) for index, question in enumerate(questions, start=1))
    document = Document(name, text, numbered)
    check_document(document, name)
    for question in document.questions:
        check_question(question, document, name)
    return document
