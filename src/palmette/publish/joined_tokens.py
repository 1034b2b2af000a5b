"""How many prompts get other tokens from a plain tokenizer than they had in training.

Training tokenises each part of a prompt by itself: the template's text, the document, the question. Another program
encodes the whole text at once. Where the tokenizer's rule for splitting text joins characters across two parts, the
tokens differ. Llama 3 joins a full stop with the line breaks after it, for example, and so it does at the end of a
document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from palmette.config.recipes import Recipe
from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.segments import decode_tokens

MAX_PROMPTS = 1000
_BUILTIN = "builtin:train"


@dataclass(frozen=True, slots=True)
class JoinedPrompts:
    """Prompts whose text, encoded as a whole, has other tokens than in training.

    Attributes:
        joined: how many there are.
        total: how many prompts were compared.
        data: where the prompts are from: "the training data" or "the built-in corpus".
    """

    joined: int
    total: int
    data: str

    @property
    def percent(self) -> float:
        """The share of them, in percent. It is 0 where no prompt was compared."""
        return 100 * self.joined / self.total if self.total else 0.0


def count_joined(recipe: Recipe, task: ExtractiveQa, tokenizer: Any) -> JoinedPrompts:
    """Compare the tokens of prompts with the tokenizer's encoding of their text.

    At most `MAX_PROMPTS` prompts of a run's training data are compared, evenly chosen. If these data can no longer be
    read, prompts of the built-in corpus are compared.

    Args:
        recipe: the run's recipe.
        task: its task.
        tokenizer: its tokenizer.
    """
    data = "the training data"
    try:
        documents = [document for name in recipe.data.train for document in _documents(name, recipe)]
    except DataError:
        data, documents = "the built-in corpus", list(read_source(_BUILTIN).documents)
    prompts = [(document, question) for document in documents for question in document.questions]
    chosen = list(_evenly(prompts))
    joined = sum(is_joined(task.prompt_tokens(*prompt), tokenizer) for prompt in chosen)
    return JoinedPrompts(joined, len(chosen), data)


def is_joined(tokens: list[int], tokenizer: Any) -> bool:
    """Whether a tokenizer encodes the text of some tokens as other tokens."""
    encoded: list[int] = tokenizer(decode_tokens(tokenizer, tokens), add_special_tokens=False)["input_ids"]
    return encoded != tokens


def _documents(name: str, recipe: Recipe) -> tuple[Document, ...]:
    return tuple(read_source(name, limit_documents=recipe.data.limit_documents).documents)


def _evenly(prompts: list[tuple[Document, Question]]) -> Iterator[tuple[Document, Question]]:
    count = min(len(prompts), MAX_PROMPTS)
    return (prompts[index * len(prompts) // count] for index in range(count))
