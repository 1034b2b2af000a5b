"""The training trees of one document, which is split where it is too long for one tree, and its bad questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from palmette.data.records import Document
from palmette.errors import DataError, ModelError, PackingError, PalmetteError, TemplateError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

CheckPositions = Callable[[int, str], None]  # check(positions, what) raises a ModelError


@dataclass(frozen=True, slots=True)
class Unlearnable:
    """A question that cannot be learned.

    Attributes:
        reason: "bad" if no tree can be built. "too long" if its tree alone is longer than a row, or than the model
            reads.
        question: the id of the question.
        error: the error, which names the document and the question.
        problem: the problem without these names, which is the same for all questions where the document causes it.
    """

    reason: Literal["bad", "too long"]
    question: str
    error: PalmetteError
    problem: str


def document_trees(
    task: ExtractiveQa, document: Document, *, max_tokens: int, check_positions: CheckPositions | None = None
) -> tuple[list[PrefixTree], list[Unlearnable]]:
    """The trees of a document's questions, and the questions that cannot be learned.

    Where the questions do not fit into one tree, there are several, which repeat the document. A document whose tokens
    are learned themselves (`learn: full`) is learned in the first of them only, so that it counts once.

    Args:
        task: builds the branches.
        document: the document.
        max_tokens: the most tokens of a tree.
        check_positions: refuses a branch with more positions than the model reads.

    Returns:
        The trees, named by the document and, where there are several, by their number. The questions left out.
    """
    trunk: tuple[Segment, ...] = ()
    branches: list[Node] = []
    left_out: list[Unlearnable] = []
    for question in document.questions:
        what = f"question {question.id!r} of document {document.id!r}"
        try:
            trunk, branch = task.training_branch(document, question)
        except (DataError, TemplateError) as error:
            problem = error.problem.removeprefix(f"question {question.id!r} ")
            named = f"{what} {problem}" if problem != error.problem else f"{what}: {problem}"
            left_out.append(Unlearnable("bad", question.id, type(error)(named, error.way_out), problem))
            continue
        length = _num_tokens(trunk) + branch.num_tokens
        try:
            if length > max_tokens:
                raise PackingError(
                    f"{what} needs a tree of {length} tokens, more than train.row_tokens = {max_tokens}",
                    "Raise train.row_tokens, or set data.on_too_long: split or drop.",
                )
            if check_positions is not None:
                check_positions(length, what)
        except (PackingError, ModelError) as error:
            left_out.append(Unlearnable("too long", question.id, error, error.problem.removeprefix(what).strip()))
            continue
        branches.append(branch)
    sizes = [branch.num_tokens for branch in branches]
    parts = list(split_by_size(sizes, room=max_tokens - _num_tokens(trunk)))
    once = tuple(replace(segment, learn=0.0) for segment in trunk)
    trees = []
    for number, part in enumerate(parts):
        name = document.id if len(parts) == 1 else f"{document.id} (part {number + 1} of {len(parts)})"
        root = Node(once if number else trunk, tuple(branches[index] for index in part))
        trees.append(PrefixTree(root, name))
    return trees, left_out


def describe_left_out(document: Document, left_out: Sequence[Unlearnable]) -> list[str]:
    """One line for each question that was left out, or for the document where all its questions share one problem.

    >>> from palmette.data.records import Question
    >>> document = Document("d", "Text.", (Question("a", "A?"), Question("b", "B?")))
    >>> lost = [Unlearnable("bad", name, DataError(f"question {name!r}: no", ""), "no") for name in "ab"]
    >>> describe_left_out(document, lost), describe_left_out(document, lost[:1])
    (["document 'd' with all its 2 questions: no"], ["question 'a': no"])
    """
    if len(left_out) == len(document.questions) > 1 and len({one.problem for one in left_out}) == 1:
        return [f"document {document.id!r} with all its {len(left_out)} questions: {left_out[0].problem}"]
    return [one.error.problem for one in left_out]


def split_by_size(sizes: Sequence[int], *, room: int, most: int | None = None) -> Iterator[range]:
    """Split a sequence into runs of consecutive items whose sizes fit into a room.

    >>> list(split_by_size([3, 3, 3, 9, 1], room=7)), list(split_by_size([1, 1, 1], room=9, most=2))
    ([range(0, 2), range(2, 3), range(3, 4), range(4, 5)], [range(0, 2), range(2, 3)])

    Args:
        sizes: the size of each item.
        room: the most that a run may hold. A single item may exceed it.
        most: the most items of a run. None for no limit.

    Yields:
        The indices of each run, in order. Every index occurs once.
    """
    start, used = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (used + size > room or index - start == most):
            yield range(start, index)
            start, used = index, 0
        used += size
    if sizes:
        yield range(start, len(sizes))


def _num_tokens(segments: Sequence[Segment]) -> int:
    return sum(len(segment.tokens) for segment in segments)
