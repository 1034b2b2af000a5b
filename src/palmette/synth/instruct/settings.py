"""Settings of `palmette synth instruct` and `palmette synth from-text`, without what takes time to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_ALIKE = 0.7  # of Self-Instruct
SHARED_WORDS = 8


@dataclass(frozen=True, slots=True)
class InstructSettings:
    """How many tasks are made, and which are kept.

    Attributes:
        number: how many tasks are to be made.
        max_alike: a task is dropped if its ROUGE-L with a seed task or with a kept one is above this.
        evolve: how often each task is made harder or rarer.
        magpie: whether a local model thinks up the tasks where its template lets the user speak, without seed tasks.
        seed: random seed of the examples.
    """

    number: int
    max_alike: float = MOST_ALIKE
    evolve: int = 0
    magpie: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PairSettings:
    """How many questions with their answers are found in a text, and which are kept.

    Attributes:
        pairs: how many the writer is asked for, for each passage.
        max_alike: a question is dropped if its ROUGE-L with a kept one of the same passage is above this.
        shots: how many earlier passages with their questions are shown before a passage.
        recall: whether only questions are taken that the passage asks itself.
        refine: whether the writer puts each answer into a full reply.
        form: conversations, or texts with their questions and answers below them.
        seed: random seed of the layout of texts.
    """

    pairs: int = 5
    max_alike: float = MOST_ALIKE
    shots: int = 0
    recall: bool = False
    refine: bool = False
    form: Literal["chat", "text"] = "chat"
    seed: int = 0
