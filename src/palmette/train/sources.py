"""The data of a recipe, and its training trees. Data are questions about documents, or conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmette.config import Recipe
from palmette.data.chat import ChatSet, Conversation, holds_chat, read_chat
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import DataError, TemplateError
from palmette.tasks.chat import Chat, join_chats
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.plan import check_tree
from palmette.tree.joined import join
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import Segment

Sources = tuple[DataSet | ChatSet, ...]


@dataclass(frozen=True)
class TrainingSet:
    """The trees that a run learns from.

    Attributes:
        trees: the training trees.
        dropped: the reason for each record that was left out while trees were built.
        num_questions: number of questions that are learned. For conversations, the number of the assistant's turns.
    """

    trees: list[PrefixTree]
    dropped: list[str]
    num_questions: int


def read_sources(recipe: Recipe) -> Sources:
    """The data that a recipe names.

    Raises:
        DataError: see `read_source` and `read_chat`. Or a file holds conversations, but the recipe does not say so.
    """
    data = recipe.data
    if data.kind == "preferences":
        raise DataError(
            "data.kind = preferences is only for stages that learn from preferences",
            "Use palmette train reward, dpo or kto.",
        )
    if data.kind == "chat":
        return tuple(
            read_chat(source, on_bad_record=data.on_bad_record, limit=data.limit_documents) for source in data.train
        )
    for source in data.train:
        if holds_chat(source):
            raise DataError(f"{source} holds conversations, not questions about documents", "Set data.kind: chat.")
    return tuple(
        read_source(source, on_bad_record=data.on_bad_record, limit_documents=data.limit_documents)
        for source in data.train
    )


def build_trees(sources: Sources, task: ExtractiveQa, recipe: Recipe) -> TrainingSet:
    """The training trees of a recipe's data, with the records that were left out.

    Args:
        sources: the data, from `read_sources`.
        task: builds the trees of documents. For conversations, only its chat template is used.
        recipe: says what is learned, how long trees may be, and whether records that do not fit or cannot be built are
            left out.

    Raises:
        DataError, TemplateError, PackingError: a record cannot be learned from, and the recipe does not say to drop it.
    """
    if recipe.data.kind == "chat":
        conversations = [c for source in sources if isinstance(source, ChatSet) for c in source.conversations]
        return _chats(conversations, Chat(task.template, recipe.learn), recipe)
    documents = [d for source in sources if isinstance(source, DataSet) for d in source.documents if d.questions]
    learned = TrainingSet([], [], 0)
    num_questions = 0
    for document in documents:
        tree = task.training_tree(document)
        if _fits(tree, recipe, learned.dropped):
            learned.trees.append(tree)
            num_questions += len(document.questions)
    return TrainingSet(learned.trees, learned.dropped, num_questions)


def _chats(conversations: Sequence[Conversation], task: Chat, recipe: Recipe) -> TrainingSet:
    weighted: list[tuple[Conversation, list[Segment]]] = []
    dropped: list[str] = []
    for conversation in conversations:
        try:
            segments = task.segments(conversation)
        except (DataError, TemplateError) as error:
            if recipe.data.on_bad_record == "error":
                raise
            dropped.append(error.problem)
            continue
        (alone,) = join([(conversation.id, segments)])
        if _fits(alone, recipe, dropped):
            weighted.append((conversation, segments))
    num_turns = sum(turn.role == "assistant" for conversation, _ in weighted for turn in conversation.turns)
    return TrainingSet(join_chats(weighted, recipe.train.row_tokens), dropped, num_turns)


def _fits(tree: PrefixTree, recipe: Recipe, dropped: list[str]) -> bool:
    """Whether a tree fits into a row. If it does not, and the recipe allows it, the reason is added to `dropped`.

    Raises:
        PackingError: it does not fit and may not be dropped, or it learns nothing.
    """
    limit = recipe.train.row_tokens
    if tree.num_tokens > limit and recipe.data.on_too_long == "drop":
        dropped.append(f"{tree.name}: {tree.num_tokens} tokens, limit {limit}")
        return False
    check_tree(tree, limit)
    return True
