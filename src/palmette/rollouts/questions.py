"""Questions about documents in groups whose completions fit into a row, and the prefix tree of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from palmette.data.records import Document, Question
from palmette.errors import ModelError, PackingError, PalmetteError, TemplateError
from palmette.tasks.document_trees import CheckPositions, split_by_size
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.open_completion import OpenCompletion
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
    on_bad_record: Literal["error", "drop"] = "error",
    check_positions: CheckPositions | None = None,
) -> tuple[list[PromptGroup], list[str]]:
    """Split documents so that the tree of each part fits into a row, whatever is sampled.

    Args:
        documents: the documents. Those without questions are passed over.
        task: builds the prompts.
        num_samples: completions to each question.
        max_new_tokens: the most tokens of a completion.
        most_questions: the most questions of a part.
        row_tokens: the most tokens of a tree.
        on_too_long: what to do about a question whose tree alone has more: refuse it, or leave it out.
        on_bad_record: the same for a question of which no prompt can be built.
        check_positions: refuses a prompt that needs more positions, with its completion, than the model reads. Such a
            question is left out if either policy says so.

    Returns:
        The parts, and the questions that were left out, each with its reason.

    Raises:
        DataError: the model would not give its answer in one completion of its own.
        TemplateError: the chat template does not take a document or a question.
        PackingError, ModelError: a question with its completions does not fit.
    """
    task.check_one_completion()
    groups: list[PromptGroup] = []
    dropped: list[str] = []
    key = 0
    for document in documents:
        fitting: list[tuple[int, Question, OpenCompletion]] = []
        for question in document.questions:
            key += 1
            try:
                opened = _open(task, document, question)
                _check_fits(opened, question, num_samples, max_new_tokens, row_tokens)
                if check_positions is not None:
                    what = f"question {question.id!r} of document {document.id!r}, with its completion,"
                    check_positions(_num_prompt_tokens(opened) + max_new_tokens, what)
            except (TemplateError, PackingError, ModelError) as error:
                if "drop" not in _policies(error, on_too_long, on_bad_record):
                    raise
                dropped.append(error.problem)
                continue
            fitting.append((key - 1, question, opened))
        for part in _parts(fitting, num_samples * max_new_tokens, most_questions, row_tokens):
            keys, questions, opens = zip(*part, strict=True)
            first, ends = opens[0], tuple(opened.question for opened in opens)
            name = f"{document.id}#{len(groups)}"
            groups.append(PromptGroup(name, document, questions, keys[0], first.root, first.document, ends))
    return groups, dropped


def _policies(error: PalmetteError, on_too_long: str, on_bad_record: str) -> tuple[str, ...]:
    """The policies under which such a question may be left out."""
    if isinstance(error, ModelError):
        return on_too_long, on_bad_record
    return (on_too_long if isinstance(error, PackingError) else on_bad_record,)


def _open(task: ExtractiveQa, document: Document, question: Question) -> OpenCompletion:
    try:
        return task.open_completion(document.text, question.text)
    except TemplateError as error:
        named = f"question {question.id!r} of document {document.id!r}: {error.problem}"
        raise TemplateError(named, error.way_out) from error


def _check_fits(
    opened: OpenCompletion, question: Question, num_samples: int, max_new_tokens: int, row_tokens: int
) -> None:
    alone = _num_prompt_tokens(opened) + num_samples * max_new_tokens
    if alone > row_tokens:
        raise PackingError(
            f"question {question.id!r} with {num_samples} completions needs up to {alone} tokens, "
            f"more than train.row_tokens = {row_tokens}",
            "Raise train.row_tokens, lower rollouts.samples or rollouts.max_new_tokens, or set data.on_too_long: drop.",
        )


def _num_prompt_tokens(opened: OpenCompletion) -> int:
    return len(opened.root) + len(opened.document) + len(opened.question)


def _parts(
    fitting: Sequence[tuple[int, Question, OpenCompletion]], completion_tokens: int, most: int, row_tokens: int
) -> Iterator[list[tuple[int, Question, OpenCompletion]]]:
    """Runs of questions with consecutive numbers, no more than `most`, whose trees fit into a row."""
    for _, run in groupby(enumerate(fitting), key=lambda pair: pair[1][0] - pair[0]):
        consecutive = [one for _, one in run]
        trunk = len(consecutive[0][2].root) + len(consecutive[0][2].document)
        sizes = [len(opened.question) + completion_tokens for _, _, opened in consecutive]
        for part in split_by_size(sizes, room=row_tokens - trunk, most=most):
            yield [consecutive[index] for index in part]
