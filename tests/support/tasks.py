"""A small document, and the tasks on it."""

from __future__ import annotations

from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate

DOCUMENT = Document(
    "tower",
    "The tower is granite.",
    (Question("q1", "Of what?", (Answer("granite", 13),)), Question("q2", "Who?", ())),
)


def task_with(tokenizer: Any, reasoning: Reasoning, prompt: str = "plain", **options: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer), load_prompt(prompt), reasoning=reasoning, **options)
