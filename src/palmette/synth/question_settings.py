"""Settings of `palmette synth questions`, without anything that takes time to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuestionSettings:
    """How many questions are made, and which are kept.

    Attributes:
        spans: the most spans of a passage that are asked for.
        min_probability: a question is kept if the reader gives its best span at least this probability.
        unanswerable: the most questions of other passages that a passage is asked.
        max_answered: such a question is kept if the reader finds it answered with at most this probability.
        number: how many questions are kept, as evenly as may be among fifths of the reader's probability. None keeps
            all.
        seed: random seed of the choice among spans and among questions.
    """

    spans: int = 8
    min_probability: float = 0.3
    unanswerable: int = 2
    max_answered: float = 0.3
    number: int | None = None
    seed: int = 0
