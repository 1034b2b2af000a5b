"""Settings of `palmette synth instruct` and `palmette synth from-text`, without what takes time to import."""

from __future__ import annotations

from dataclasses import dataclass

MOST_ALIKE = 0.7  # of Self-Instruct
SHARED_WORDS = 8


@dataclass(frozen=True, slots=True)
class InstructSettings:
    """How many tasks are made, and which are kept.

    Attributes:
        number: how many tasks are to be made.
        max_alike: a task is dropped if its ROUGE-L with a seed task or with a kept one is above this.
        seed: random seed of the examples.
    """

    number: int
    max_alike: float = MOST_ALIKE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PairSettings:
    """How many questions with their answers are found in a text, and which are kept.

    Attributes:
        pairs: how many the writer is asked for, for each passage.
        max_alike: a question is dropped if its ROUGE-L with a kept one of the same passage is above this.
    """

    pairs: int = 5
    max_alike: float = MOST_ALIKE
