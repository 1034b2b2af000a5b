"""Documents joined into long ones, to measure and to calibrate on long documents where only paragraphs are at hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from palmette.data.records import Document, Question
from palmette.errors import DataError

BETWEEN = "\n\n"


def join(documents: Sequence[Document], name: str) -> Document:
    r"""One document of the texts of several, with all their questions. The answers move along with their texts.

    >>> from palmette.data.records import Answer
    >>> parts = [Document("a", "It rains.", ()), Document("b", "Snow.", (Question("q", "?", (Answer("Snow", 0),)),))]
    >>> joined = join(parts, "weather")
    >>> joined.text, joined.questions[0].answers
    ('It rains.\n\nSnow.', (Answer(text='Snow', start=11),))

    Args:
        documents: the documents, in their order.
        name: id and title of the new document.
    """
    start, questions = 0, []
    for document in documents:
        for question in document.questions:
            moved = tuple(replace(answer, start=answer.start + start) for answer in question.answers)
            questions.append(replace(question, answers=moved))
        start += len(document.text) + len(BETWEEN)
    return Document(name, BETWEEN.join(document.text for document in documents), tuple(questions), name)


def join_by_title(documents: Sequence[Document], source: str, *, questions: int, seed: int = 0) -> tuple[Document, ...]:
    """The documents of each title as one long document, half of whose questions have an answer.

    The others are a title's own unanswerable questions, at most as many as questions of other titles. An own one was
    written for a single document, so another document of its title may answer it. One that another document is known to
    answer, such as a question that was taken from a sibling, is left out.

    Args:
        documents: documents with titles.
        source: where they are from, for messages.
        questions: the most questions of a long document that have an answer.
        seed: seed of the draw.

    Raises:
        DataError: there are no two titles of at least two documents.
    """
    by_title: dict[str, list[Document]] = {}
    for document in documents:
        by_title.setdefault(document.title, []).append(document)
    long = [join(some, title) for title, some in by_title.items() if title and len(some) > 1]
    if len(long) < 2:
        raise DataError(
            f"{source} has {len(long)} titles with several documents, and two are needed to join documents",
            "Give data whose documents have titles, such as articles in paragraphs.",
        )
    draw = random.Random(seed)
    return tuple(_balanced(one, [other for other in long if other is not one], questions, draw) for one in long)


def _balanced(document: Document, others: Sequence[Document], most: int, draw: random.Random) -> Document:
    """The long document with some of its own questions, and of others', each under an id of its own."""
    held = [question for question in document.questions if question.answerable]
    answered = {question.text for question in held}
    own = [question for question in document.questions if not question.answerable and question.text not in answered]
    foreign = [question for other in others for question in other.questions if question.answerable]
    held = draw.sample(held, min(most, len(held)))
    own = draw.sample(own, min(len(held) // 2, len(own)))
    foreign = draw.sample(foreign, min(len(held) - len(own), len(foreign)))
    asked = [replace(question, id=f"{document.id}/{question.id}") for question in (*held, *own)]
    asked += [Question(f"{document.id}/absent/{question.id}", question.text) for question in foreign]
    return replace(document, questions=tuple(asked))
