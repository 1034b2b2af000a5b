"""What is shown to people: the model under review, a question with its answers, and how far somebody is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palmette.data.records import Question
from palmette.decode.posterior import NUM_CANDIDATES
from palmette.decode.prediction import Prediction
from palmette.review.events import Shown, Span
from palmette.review.queue import BLIND_SHARE, OVERLAP_SHARE, NextQuestion, Strategy


@dataclass(frozen=True, slots=True)
class Run:
    """The model under review.

    Attributes:
        name: its name.
        sha256: the hash of its weights. "" if no run made them.
        prompt_sha256: the hash of its prompt.
        max_words: the longest answer that it gives, in words.
        inside_words: whether its answers may end inside a word.
    """

    name: str
    sha256: str = ""
    prompt_sha256: str = ""
    max_words: int = 30
    inside_words: bool = False


@dataclass(frozen=True, slots=True)
class Choosing:
    """How questions are chosen: arguments of `palmette.review.queue.make_queue`."""

    strategy: Strategy = "random"
    overlap_share: float = OVERLAP_SHARE
    blind_share: float = BLIND_SHARE
    seed: int = 0

    @property
    def in_full(self) -> bool:
        """Whether the strategy needs hidden states, or all spans that were scored."""
        return self.strategy in ("diverse", "disagreement")


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question as it is shown to somebody.

    Attributes:
        key: the id of its "shown" event.
        question: the question.
        document: the hash of its document.
        shown: what is shown with it, and why it is asked.
    """

    key: int
    question: Question
    document: str
    shown: Shown


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a person is.

    Attributes:
        judged: questions that this person has judged.
        total: these, and those that this person can still be asked.
        per_minute: verdicts per minute of work. None before the second.
        accept_rate: the share of the suggestions that this person saw and found right. None without any.
        strategies: how many of the judged questions each strategy chose.
        read: questions that the model has answered so far, or cannot answer.
        questions: all questions under review.
    """

    judged: int
    total: int
    per_minute: float | None
    accept_rate: float | None
    strategies: Mapping[str, int]
    read: int
    questions: int

    @property
    def minutes_left(self) -> float | None:
        """The time that the rest will take. None if the rate is not known."""
        return (self.total - self.judged) / self.per_minute if self.per_minute else None


def to_show(prediction: Prediction, chosen: NextQuestion) -> Shown:
    """What a person sees of a prediction, and why the queue chose the question."""
    place = chosen.place
    return Shown(
        *_suggested(prediction),
        prediction.no_answer_probability,
        prediction.candidates[:NUM_CANDIDATES],
        place.strategy,
        place.score,
        place.sampling_probability,
        chosen.blind,
    )


def _suggested(prediction: Prediction) -> tuple[Span | None, float | None]:
    """The answer that a person judges, with its probability. None for "not in the document".

    It is what the prediction says. Where the model is unsure, it is the likeliest of the candidates and no answer.
    """
    if prediction.text and prediction.start is not None and prediction.end is not None:
        return Span(prediction.text, prediction.start, prediction.end), prediction.probability
    best = prediction.candidates[0] if prediction.candidates and prediction.refusal == "unsure" else None
    if best is not None and best.probability > (prediction.no_answer_probability or 0.0):
        return Span(best.text, best.start, best.end), best.probability
    return None, prediction.probability
