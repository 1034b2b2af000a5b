"""A recipe's data, and the trees that are built from them: of questions about documents, or of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from palmette.config.recipes import Recipe
from palmette.data.altered import with_negatives
from palmette.data.chat import ChatSet, Conversation, read_chat
from palmette.data.records import DataSet, Document
from palmette.data.source import read_source
from palmette.data.streamed import stream_source
from palmette.decode.reachability import Unreachable, count_unlearnable
from palmette.errors import DataError, ModelError, TemplateError
from palmette.tasks.chat import Chat, join_chats
from palmette.tasks.document_trees import CheckPositions, Unlearnable, describe_left_out, document_trees
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.long_documents import Splits, cut_document
from palmette.train.steps.plan import check_tree
from palmette.train.tree_store import StoredTrees
from palmette.tree.joined import join
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import Segment

Sources = tuple[DataSet | ChatSet, ...]


@dataclass(frozen=True)
class TrainingSet:
    """The trees that a run learns from.

    Attributes:
        trees: the training trees, which may be on disk.
        dropped: the records that were left out while trees were built, each with its reason.
        num_questions: the number of questions that are learned. For conversations, of the assistant's turns.
        splits: the documents that did not fit into one tree.
        unreachable: questions about documents whose answer for training no span decoder gives.
    """

    trees: Sequence[PrefixTree]
    dropped: list[str]
    num_questions: int
    splits: Splits = field(default_factory=Splits)
    unreachable: Unreachable = field(default_factory=Unreachable)


def read_sources(recipe: Recipe) -> Sources:
    """The data that a recipe names.

    Raises:
        DataError: see `read_source` and `read_chat`. Or the data are of another kind.
    """
    data = recipe.data
    if data.kind == "preferences":
        raise DataError(
            "data.kind = preferences is only for stages that learn from preferences",
            "Use palmette train reward, dpo or kto.",
        )
    if data.kind == "text":
        raise DataError("data.kind = text is only for continued pre-training", "Use palmette train pretrain.")
    if data.kind == "chat":
        return tuple(
            read_chat(source, on_bad_record=data.on_bad_record, limit=data.limit_documents, columns=data.columns)
            for source in data.train
        )
    read = stream_source if data.stream else read_source
    found = [
        read(source, on_bad_record=data.on_bad_record, limit_documents=data.limit_documents) for source in data.train
    ]
    return tuple(found) if data.stream else tuple(_with_negatives(source, recipe) for source in found)


def _with_negatives(source: DataSet, recipe: Recipe) -> DataSet:
    """The data with the unanswerable questions that the recipe asks for. Their number is in the manifest."""
    wanted = recipe.data.negatives
    documents = with_negatives(
        source.documents, siblings=wanted.siblings, altered=wanted.altered, seed=recipe.train.seed
    )
    more = replace(source, documents=tuple(documents))
    return replace(more, num_added=more.num_questions - source.num_questions)


def build_trees(
    sources: Sources, task: ExtractiveQa, recipe: Recipe, check_positions: CheckPositions | None = None
) -> TrainingSet:
    """The training trees of a recipe's data, without the records that its policies leave out.

    Args:
        sources: as `read_sources` gives them.
        task: builds trees of documents. For conversations, its chat template does.
        recipe: says which tokens are learned, how long trees may be, and what to do with records that are longer or
            that no tree can be built of.
        check_positions: refuses a branch with more positions than the model reads.

    Raises:
        DataError, TemplateError, PackingError, ModelError: a record cannot be learned from, and the recipe does not say
            to drop it. The message names the record.
    """
    if recipe.data.kind == "chat":
        conversations = [c for source in sources if isinstance(source, ChatSet) for c in source.conversations]
        return _chats(conversations, Chat(task.template, recipe.learn), recipe, check_positions)
    documents = (d for source in sources if isinstance(source, DataSet) for d in source.documents if d.questions)
    dropped: list[str] = []
    trees: list[PrefixTree] | StoredTrees = StoredTrees() if recipe.data.stream else []
    num_questions, splits, unreachable = 0, Splits(), Unreachable()
    for document in documents:  # which may be on disk, so all that is to be known of one is found out at once
        grown, left_out = _grown(task, document, recipe, check_positions, splits)
        for one in left_out:
            if not _may_drop(one, recipe):
                raise one.error
        dropped.extend(describe_left_out(document, left_out))
        for tree in grown:
            check_tree(tree, recipe.train.row_tokens)
        trees.extend(grown)
        num_questions += len(document.questions) - len(left_out)
        unreachable += count_unlearnable([document])
    if isinstance(trees, StoredTrees):
        trees.finish()
    return TrainingSet(trees, dropped, num_questions, splits, unreachable)


def _grown(
    task: ExtractiveQa, document: Document, recipe: Recipe, check_positions: CheckPositions | None, splits: Splits
) -> tuple[list[PrefixTree], list[Unlearnable]]:
    """The trees of a document and the questions that are left out. If the recipe says so, what is too long is split."""
    most = recipe.train.row_tokens
    trees, left_out = document_trees(task, document, max_tokens=most, check_positions=check_positions)
    splits.add(trees)
    long = {one.question for one in left_out if one.reason == "too long"}
    if recipe.on_too_long != "split" or not long:
        return trees, left_out
    whole = replace(document, questions=tuple(q for q in document.questions if q.id in long))
    windows = cut_document(task, whole, most)
    if not windows:
        return trees, left_out
    left_out = [one for one in left_out if one.reason == "bad"]
    grown = []
    for window in windows:
        found, lost = document_trees(task, window, max_tokens=most, check_positions=check_positions)
        splits.add(found)
        grown.extend(found)
        left_out.extend(lost)
    splits.cut = splits.cut[0] + 1, splits.cut[1] + len(grown)
    return [*trees, *grown], left_out


def _may_drop(one: Unlearnable, recipe: Recipe) -> bool:
    """Whether the recipe says to drop such a question. One that the model cannot read counts as bad and as too long."""
    data = recipe.data
    policies = [data.on_bad_record] if one.reason == "bad" else [recipe.on_too_long]
    if isinstance(one.error, ModelError):
        policies = [data.on_bad_record, recipe.on_too_long]
    return "drop" in policies


def _chats(
    conversations: Sequence[Conversation], task: Chat, recipe: Recipe, check_positions: CheckPositions | None
) -> TrainingSet:
    weighted: list[tuple[Conversation, list[Segment]]] = []
    dropped: list[str] = []
    for conversation in conversations:
        try:
            segments = task.segments(conversation)
            (alone,) = join([(conversation.id, segments)])
            if not _fits(alone, recipe, dropped):
                continue
            if check_positions is not None:
                check_positions(alone.num_positions, f"conversation {conversation.id!r}")
        except (DataError, TemplateError, ModelError) as error:
            long = isinstance(error, ModelError) and recipe.on_too_long == "drop"
            if recipe.data.on_bad_record == "error" and not long:
                raise
            dropped.append(error.problem)
            continue
        weighted.append((conversation, segments))
    num_turns = sum(turn.role == "assistant" for conversation, _ in weighted for turn in conversation.turns)
    return TrainingSet(join_chats(weighted, recipe.train.row_tokens), dropped, num_turns)


def _fits(tree: PrefixTree, recipe: Recipe, dropped: list[str]) -> bool:
    """Whether a tree is no longer than a row. If it is, and the recipe says to drop it, the reason goes into `dropped`.

    Raises:
        PackingError: the tree is longer and may not be dropped, or it has no learned token.
    """
    limit = recipe.train.row_tokens
    if tree.num_tokens > limit and recipe.on_too_long == "drop":
        dropped.append(f"{tree.name}: {tree.num_tokens} tokens, limit {limit}")
        return False
    check_tree(tree, limit)
    return True
