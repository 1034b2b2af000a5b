"""Questions about documents in groups whose completions fit into a row, and the prefix tree of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from palmette.data.records import Document, Question
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

COMPLETION = "completion"  # tag of sampled tokens


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """A document with the questions about it that are asked together.

    Attributes:
        name: name of its tree, unique in the run.
        document: the document. Of its questions, only those in `questions` are asked.
        questions: the questions that are asked.
        first_key: number of the first question in all the data. The others follow it. With the seed, the number of a
            question determines the draws of its completions.
        root: tokens that all documents share.
        trunk: tokens of the document, and those between it and any question.
        ends: tokens of each question, up to where the completion begins.
    """

    name: str
    document: Document
    questions: tuple[Question, ...]
    first_key: int
    root: tuple[int, ...]
    trunk: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Tokens of each question with everything before it."""
        return [self.root + self.trunk + end for end in self.ends]

    def tree(self, completions: Sequence[Sequence[tuple[str, tuple[int, ...]]]]) -> PrefixTree:
        """The prefix tree of completions.

        One question, [4] after [1] and [2, 3], with the completions [5, 9] and [6]:

        >>> from palmette.tree.prefix_tree import lay_out
        >>> asked = PromptGroup("d", Document("d", "", ()), (Question("q", ""),), 0, (1,), (2, 3), ((4,),))
        >>> row = lay_out(asked.tree([[("0", (5, 9)), ("1", (6,))]]))
        >>> row.token, row.predictor
        ([1, 2, 3, 4, 5, 9, 6], [-1, 0, 1, 2, 3, 4, 3])
        >>> row.learn, row.nodes[-1]
        ([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], ('d', '1'))

        Args:
            completions: the completions of each question, as (name of the leaf, tokens).
        """
        below = tuple(
            Node(
                (Segment(end, tag="question"),),
                tuple(Node((Segment(tokens, learn=1.0, tag=COMPLETION),), name=name) for name, tokens in group),
                question.id,
            )
            for question, end, group in zip(self.questions, self.ends, completions, strict=True)
        )
        return PrefixTree(Node((Segment(self.root), Segment(self.trunk, tag="document")), below), self.name)


def group_prompts(
    documents: Sequence[Document],
    task: ExtractiveQa,
    *,
    num_samples: int,
    max_new_tokens: int,
    most_questions: int,
    row_tokens: int,
    on_too_long: Literal["error", "drop"] = "error",
) -> tuple[list[PromptGroup], list[str]]:
    """Group the questions of documents so that the tree of each group fits into a row, whatever is sampled.

    Args:
        documents: the documents. Those without questions are ignored.
        task: builds the prompts.
        num_samples: number of completions to each question.
        max_new_tokens: most tokens of a completion.
        most_questions: most questions of a group.
        row_tokens: most tokens of a tree.
        on_too_long: whether a question whose tree does not fit even alone is an error, or is left out.

    Returns:
        The groups, and the reason for each question that was left out.

    Raises:
        DataError: under this task the model does not answer in one completion.
        PackingError: a question does not fit with its completions.
    """
    task.check_one_completion()
    groups: list[PromptGroup] = []
    dropped: list[str] = []
    key = 0
    for document in documents:
        fitting: list[tuple[int, Question, tuple[int, ...]]] = []
        for question in document.questions:
            opened = task.open_completion(document.text, question.text)
            shared = len(opened.root) + len(opened.document)
            alone = shared + len(opened.question) + num_samples * max_new_tokens
            key += 1
            if alone <= row_tokens:
                fitting.append((key - 1, question, opened.question))
                continue
            problem = f"question {question.id!r} with {num_samples} completions needs up to {alone} tokens"
            if on_too_long == "error":
                raise PackingError(
                    f"{problem}, more than train.row_tokens = {row_tokens}",
                    "Raise train.row_tokens, lower rollouts.samples or rollouts.max_new_tokens, or set "
                    "data.on_too_long: drop.",
                )
            dropped.append(f"{problem}, limit {row_tokens}")
        room = row_tokens - shared if fitting else 0
        for part in _parts(fitting, num_samples * max_new_tokens, most_questions, room):
            keys, questions, ends = zip(*part, strict=True)
            name = f"{document.id}#{len(groups)}"
            groups.append(PromptGroup(name, document, questions, keys[0], opened.root, opened.document, ends))
    return groups, dropped


def _parts(
    fitting: Sequence[tuple[int, Question, tuple[int, ...]]], completion_tokens: int, most: int, room: int
) -> Iterator[list[tuple[int, Question, tuple[int, ...]]]]:
    """Parts of at most `most` questions with consecutive numbers, whose tokens fit into the room."""
    part: list[tuple[int, Question, tuple[int, ...]]] = []
    used = 0
    for one in fitting:
        need = len(one[2]) + completion_tokens
        if part and (len(part) == most or used + need > room or one[0] != part[-1][0] + 1):
            yield part
            part, used = [], 0
        part.append(one)
        used += need
    if part:
        yield part
