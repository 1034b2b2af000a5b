"""A training example as the loss sees it: one document or conversation, packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from palmette.config.recipes import Recipe
from palmette.data.chat import Conversation, holds_chat, read_chat
from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.inference.base import source_tokenizer
from palmette.inference.names import resolve_model
from palmette.inference.task import recipe_task
from palmette.tasks.chat import Chat, leading_turns
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate

Record = TypeVar("Record")


@dataclass(frozen=True)
class Example:
    """A packed training example.

    Attributes:
        batch: the example, alone in one row.
        tokenizer: what its tokens are decoded with.
        kind: what its branches are, questions about a document or conversations that open alike.
    """

    batch: PackedBatch
    tokenizer: Any
    kind: Literal["question", "conversation"]

    @property
    def num_learned(self) -> int:
        """Tokens that the loss sees."""
        return sum(1 for weight in self.batch.rows[0].learn if weight)

    @property
    def num_unpacked(self) -> int:
        """Tokens that it would take to give every branch a row of its own."""
        row = self.batch.rows[0]
        ends = [n for n in range(len(row.nodes)) if row.nodes[n][1] or n not in row.parents]
        return sum(1 + max(p for p, n in zip(row.position, row.node, strict=True) if n == end) for end in ends)


def training_example(model: str, data: str | None, number: int, num_branches: int) -> Example:
    """Pack an example as training with a run's recipe would pack it.

    Args:
        model: a run folder, finished or not, or the name of a model, which gets the default recipe.
        data: where the example is from. The recipe's own data if None.
        number: which document or conversation, counted from 1.
        num_branches: the most questions, or conversations that open like the chosen one.

    Raises:
        DataError: the data cannot be read or have no such document or conversation.
        ModelError: there is no such tokenizer.
        RecipeError: the recipe of the run cannot be read.
    """
    source = resolve_model(model, finished=False)
    recipe = source.recipe or Recipe(output="")
    data = data or recipe.data.train[0]
    # The data come first: a mistake in them is told before a model's tokenizer is loaded or made.
    if _is_chat(data, recipe):
        conversations = _conversations(data, recipe, number, num_branches)
        tokenizer = source_tokenizer(source)
        # Another recipe's kinds of tokens say nothing about conversations.
        learn = recipe.learn if recipe.data.kind == "chat" or isinstance(recipe.learn, str) else "assistant"
        tree = Chat(ChatTemplate(tokenizer), learn).trees(conversations)[0]
        return Example(PackedBatch.from_trees([[tree]]), tokenizer, "conversation")
    document = _document(data, number, num_branches)
    tokenizer = source_tokenizer(source)
    tree = recipe_task(recipe, tokenizer).training_tree(document)
    return Example(PackedBatch.from_trees([[tree]]), tokenizer, "question")


def _is_chat(data: str, recipe: Recipe) -> bool:
    """Whether a source holds conversations: as the recipe says of its own, as its first row looks of another file."""
    if data not in recipe.data.train and (data.startswith("builtin:") or Path(data).suffix in {".json", ".jsonl"}):
        return holds_chat(data)
    return recipe.data.kind == "chat"


def _document(data: str, number: int, num_questions: int) -> Document:
    """A document with the first of its questions."""
    documents = read_source(data).documents
    document = _numbered(documents, number, f"{data} has {len(documents)} documents")
    return replace(document, questions=document.questions[:num_questions])


def _numbered(records: Sequence[Record], number: int, there_are: str) -> Record:
    """The record with a number that counts from 1."""
    if not 1 <= number <= len(records):
        raise DataError(f"{there_are}, no number {number}", "Count from 1.")
    return records[number - 1]


def _conversations(data: str, recipe: Recipe, number: int, num_conversations: int) -> list[Conversation]:
    """A conversation and the first of those that open like it."""
    conversations = read_chat(data, on_bad_record=recipe.data.on_bad_record).conversations
    chosen = _numbered(conversations, number, f"{data} has {len(conversations)} conversations")
    others = [other for other in conversations if other is not chosen and leading_turns(other) == leading_turns(chosen)]
    return [chosen, *others[: num_conversations - 1]]
