"""A recipe's data, and the trees that are learned from them: questions about documents, or conversations."""

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
    """What a run learns from.

    Attributes:
        trees: the training trees.
        dropped: records left out while trees were made, with the reason of each.
        num_questions: questions that are learned; of conversations, the assistant's turns.
    """

    trees: list[PrefixTree]
    dropped: list[str]
    num_questions: int


def read_sources(recipe: Recipe) -> Sources:
    """The data that a recipe names.

    Raises:
        DataError: see `read_source` and `read_chat`; or a file holds conversations, and the recipe does not say so.
    """
    data = recipe.data
    if data.kind == "preferences":
        raise DataError(
            "data.kind: preferences is for the stages that learn from them", "Use palmette train reward, dpo or kto."
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
    """The training trees of a recipe's data, with what its policies leave out.

    Args:
        sources: as `read_sources` gives them.
        task: what trees of documents are built with; of conversations, its chat template is.
        recipe: what is learned, how long trees may be, and what is done with those that are longer or cannot be built.

    Raises:
        DataError, TemplateError, PackingError: a record that cannot be learned from, unless the recipe says to drop it.
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
    """Whether a tree is no longer than a row; if not, the reason goes into `dropped`, where the recipe allows that.

    Raises:
        PackingError: it is longer and may not be dropped, or it learns nothing.
    """
    limit = recipe.train.row_tokens
    if tree.num_tokens > limit and recipe.data.on_too_long == "drop":
        dropped.append(f"{tree.name}: {tree.num_tokens} tokens, limit {limit}")
        return False
    check_tree(tree, limit)
    return True
