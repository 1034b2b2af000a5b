"""Rewards that tell a random model something from the start."""

from __future__ import annotations

from palmette.data.records import Question
from palmette.tasks.qa_prompt import ParsedAnswer


def letters(completion: ParsedAnswer, _: Question) -> float:
    """The share of letters in what was said: a reward that tells a random model something from the start."""
    return sum("a" <= character <= "z" for character in completion.text) / max(len(completion.text), 1)
