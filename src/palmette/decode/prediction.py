"""What a decoder answers, and the interface that all decoders share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import regex

from palmette.data.records import Document
from palmette.data.text import MARKS
from palmette.tasks.qa_prompt import ParsedAnswer

_LETTER = rf"[\w{MARKS}]"

Refusal = Literal["", "absent", "unsure"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span of a document as a possible answer.

    Attributes:
        text: its text, exactly document[start:end].
        start, end: its first position among those where it was scored, in characters.
        probability: the probability that it is the answer.
    """

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question, or its refusal.

    Attributes:
        text: the answer. "" if none is given.
        refusal: why no answer is given. "absent": the document probably does not hold it. "unsure": it probably does,
            and no span is likely enough to be given. "" if an answer is given, or if the completion was broken.
        start, end: the first position of the answer in the document, in characters. None without an answer, or if the
            answer does not stand in the document.
        probability: the probability that the decision is right: that of the answer given, or that there is none. None
            if the decoder gives no probabilities.
        no_answer_probability: the probability that the document does not answer the question.
        candidates: the best spans, best first, whether or not one of them was given.
        unscored: the share of the probability that was not searched. It counts against all others. With temperature 1
            the true probabilities are no lower than the ones given here, and at most 1 / (1 - unscored) times as high.
        certified: whether the decision is proved to be the one that scoring every allowed span would lead to.
        num_passes: the number of forward passes until the decision.
        valid_json: whether the completion had the format asked for. None if there was no completion.
        completion: the completion as generated. "" if the format was forced.
        num_windows: the number of windows of the document.
        num_read: how many of them were read for this question. All of them, unless a first look was asked for.
        unread: the probability that the answer stands in a window that was not read.
        place_probability: the probability that the right answer overlaps the best span, whatever its exact ends are.
            Spans that were not scored count against it. None if the decoder gives no probabilities.
    """

    text: str
    refusal: Refusal = ""
    start: int | None = None
    end: int | None = None
    probability: float | None = None
    no_answer_probability: float | None = None
    candidates: tuple[Candidate, ...] = ()
    unscored: float = 0.0
    certified: bool = False
    num_passes: int = 0
    valid_json: bool | None = True
    completion: str = ""
    num_windows: int = 1
    num_read: int = 1
    unread: float = 0.0
    place_probability: float | None = None

    @property
    def ends_uncertain(self) -> bool:
        """Whether the place of the best span is likelier than not to be right, while these very words are not."""
        if self.place_probability is None or not self.candidates:
            return False
        return self.candidates[0].probability < 0.5 < self.place_probability


class Decoder(Protocol):
    """Anything that answers the questions of documents."""

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, in any order, as soon as each is known."""


def find_span(text: str, answer: str) -> int:
    """Where an answer stands in a text: the first place where it is whole words, else the first place, else -1.

    Marks are parts of words, so no answer that lacks the vowel sign of its last letter counts as whole words.

    >>> find_span("Athena sat in a hut", "a"), find_span("Athena", "the"), find_span("Athena", "")
    (14, 1, -1)
    """
    if not answer:
        return -1
    before, after = (
        f"(?{side}{_LETTER})" if regex.match(_LETTER, edge) else ""
        for side, edge in (("<!", answer[0]), ("!", answer[-1]))
    )
    whole = regex.search(before + regex.escape(answer, special_only=True, literal_spaces=True) + after, text)
    return whole.start() if whole else text.find(answer)


def prediction_of(completion: ParsedAnswer, raw: str, document: Document, no_answer: float | None = None) -> Prediction:
    """The prediction of a completion in free text. Its answer is looked up in the document.

    Args:
        completion: the answer that was read from the text.
        raw: the text itself.
        document: the document of the question.
        no_answer: the probability that the document does not answer, if it is known.
    """
    start = find_span(document.text, completion.text)
    return Prediction(
        text=completion.text,
        refusal="" if completion.text or not completion.valid else "absent",
        start=start if start >= 0 else None,
        end=start + len(completion.text) if start >= 0 else None,
        no_answer_probability=None if no_answer is None else min(1.0, no_answer),
        valid_json=completion.valid,
        completion=raw,
    )
