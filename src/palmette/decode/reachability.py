"""Known answers that the span decoder can never give, counted, so that nobody takes them for errors of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.spans import unreachable
from palmette.tasks.extractive_qa import training_answer
from palmette.tasks.qa_prompt import ABSTAIN


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Questions whose known answers are no spans of the decoder.

    Attributes:
        num_questions: the number of questions that have an answer.
        num_unreachable: how many of them have none that can be given.
        question: the id of the first of these. "" if there are none.
        answer: its first answer.
        reason: why that answer cannot be given, as `unreachable` puts it.
    """

    num_questions: int = 0
    num_unreachable: int = 0
    question: str = ""
    answer: str = ""
    reason: str = ""

    def __add__(self, more: Unreachable) -> Unreachable:
        """The counts of both. The first case is this one's, if it has any."""
        first = self if self.num_unreachable else more
        return replace(
            first,
            num_questions=self.num_questions + more.num_questions,
            num_unreachable=self.num_unreachable + more.num_unreachable,
        )

    def __bool__(self) -> bool:
        return self.num_unreachable > 0

    def describe(self) -> dict[str, Any]:
        """The counts and the first case, for manifests and results."""
        return asdict(self)

    def __str__(self) -> str:
        """The counts and the first case in a line."""
        return (
            f"{self.num_unreachable} of {self.num_questions} questions have no answer that the span decoder can give. "
            f"The first is {self.question!r}: its answer {self.answer!r} {self.reason}."
        )


def count_unreachable(documents: Iterable[Document], effort: Effort | None = None) -> Unreachable:
    """Count the questions of which no accepted answer can be given.

    Args:
        documents: documents with their questions.
        effort: which spans the decoder allows. The default if None.
    """
    return _count(documents, effort or Effort(), lambda question: [answer.text for answer in question.answers])


def report_unreachable(
    documents: Iterable[Document], say: Callable[[str], object], effort: Effort | None = None
) -> Unreachable:
    """Count as `count_unreachable` does, and say it in a line where there are any."""
    found = count_unreachable(documents, effort)
    if found:
        say(str(found))
    return found


def count_unlearnable(documents: Iterable[Document], effort: Effort | None = None) -> Unreachable:
    """Count the questions whose answer for training cannot be given.

    Args:
        documents: documents with their questions.
        effort: which spans the decoder allows. The default if None.
    """
    return _count(documents, effort or Effort(), _learned)


def _learned(question: Question) -> list[str]:
    texts = [answer.text for answer in question.answers]
    return texts if ABSTAIN in texts else [training_answer(question)]  # training refuses "?" by itself


def _count(
    documents: Iterable[Document], effort: Effort, answers_of: Callable[[Question], Sequence[str]]
) -> Unreachable:
    num_questions = num_unreachable = 0
    question, answer, reason = "", "", ""
    for document in documents:
        for known in document.questions:
            if not known.answers:
                continue
            num_questions += 1
            answers = answers_of(known)
            reasons = [
                unreachable(document.text, text, effort.max_words, inside_words=effort.inside_words) for text in answers
            ]
            if None in reasons:
                continue
            num_unreachable += 1
            if num_unreachable == 1:
                question, answer, reason = known.id, answers[0], str(reasons[0])
    return Unreachable(num_questions, num_unreachable, question, answer, reason)
