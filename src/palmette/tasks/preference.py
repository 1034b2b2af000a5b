"""Preferences as prefix trees: the prompt is the trunk, each completion a branch.

A tree is named after its record, so that what is read off its branches finds its way back. The leaves of a comparison are "0", "1", ... in
the order of its ranking, best first; that of a verdict is "good" or "bad", and may have one beside it, "other": the completion to another prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch

from palmette.data.chat import Turn
from palmette.data.preference import (
    Comparison,
    DroppedRecord,
    PreferenceError,
    Reason,
    Verdict,
    count_reasons,
    say_counts,
    turn_text,
)
from palmette.errors import DataError, ModelError, PalmetteError, TemplateError
from palmette.tasks.document_trees import CheckPositions
from palmette.tree.branches import Branches
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

Record = TypeVar("Record", Comparison, Verdict)
OnTooLong = Literal["error", "drop"]
GOOD, BAD, OTHER = "good", "bad", "other"
_COMPLETION = "completion"


class PreferenceTrees:
    """Builds the trees of preferences for one chat template.

    Args:
        template: the model's chat template.
        learned: whether completions are learned, up to the token that ends the turn, with weight 1 each (DPO, KTO); otherwise
            nothing is, and what counts is each branch's last token, which is the end of the turn (reward models).
    """

    def __init__(self, template: ChatTemplate, *, learned: bool = True) -> None:
        self._template, self._learn = template, float(learned)

    def of_comparison(self, comparison: Comparison) -> PrefixTree:
        """The prompt with all completions.

        Raises:
            PreferenceError: two completions have the same tokens.
            TemplateError: the chat template cannot hold this conversation.
        """
        names = [str(rank) for rank in range(len(comparison.completions))]
        return self._tree(comparison.id, comparison.prompt, dict(zip(names, comparison.completions, strict=True)))

    def of_verdict(self, verdict: Verdict, other: Verdict | None = None) -> PrefixTree:
        """The prompt with the completion, and with another prompt's completion if one is given.

        KTO's reference point is the KL divergence over such mismatched pairs; here both read the prompt once.

        Args:
            verdict: the record.
            other: the record whose completion is put under this prompt too.

        Raises:
            TemplateError: the chat template cannot hold this conversation.
        """
        completions = {GOOD if verdict.label else BAD: verdict.completion}
        if other is not None:
            completions[OTHER] = other.completion
        return self._tree(verdict.id, verdict.prompt, completions, distinct=False)

    def _tree(
        self, name: str, prompt: Sequence[Turn], completions: dict[str, str], *, distinct: bool = True
    ) -> PrefixTree:
        turns = [Message(turn.role, (Piece(turn_text(turn)),)) for turn in prompt]
        trunk: tuple[Segment, ...] = ()
        leaves: dict[str, tuple[Segment, ...]] = {}
        for leaf, text in completions.items():
            try:
                segments = self._template.segments(
                    [*turns, Message("assistant", (Piece(text, learn=self._learn, tag=_COMPLETION),))]
                )
            except TemplateError as error:
                raise TemplateError(f"record {name!r}: {error.problem}", error.way_out) from error
            cut = next(index for index, segment in enumerate(segments) if segment.tag == _COMPLETION)
            trunk, leaves[leaf] = tuple(segments[:cut]), tuple(segments[cut:])
        if distinct:
            _check_distinct(name, leaves)
        return PrefixTree(Node(trunk, tuple(Node(held, name=leaf) for leaf, held in leaves.items())), name)


def _check_distinct(name: str, leaves: dict[str, tuple[Segment, ...]]) -> None:
    """Two texts may still have the same tokens: a normalizer or a template that trims makes them one."""
    seen: dict[tuple[int, ...], str] = {}
    for leaf, segments in leaves.items():
        tokens = tuple(token for segment in segments for token in segment.tokens)
        if tokens in seen:
            raise PreferenceError(
                "identical",
                f"record {name!r}: completions {seen[tokens]} and {leaf} have the same {len(tokens)} tokens",
                "Take the record out: this tokenizer cannot tell the two apart.",
            )
        seen[tokens] = leaf


@dataclass(frozen=True, slots=True)
class TreeSet(Generic[Record]):
    """Trees, the records that they are of (in the same order), and what was left out."""

    trees: tuple[PrefixTree, ...]
    records: tuple[Record, ...]
    dropped: tuple[DroppedRecord, ...]


def grow(
    records: Iterable[Record],
    tree_of: Callable[[Record], PrefixTree],
    *,
    max_tokens: int,
    on_too_long: OnTooLong = "error",
    on_bad_record: OnTooLong = "error",
    check_positions: CheckPositions | None = None,
) -> TreeSet[Record]:
    """Trees of records, each within the length limit; a completion is never cut.

    Args:
        records: what to build trees of.
        tree_of: builds the tree of one.
        max_tokens: the most tokens of a tree, its prompt counted once.
        on_too_long: "error" refuses the first tree beyond the limit; "drop" leaves such trees out and counts them.
        on_bad_record: the same for records whose completions have the same tokens, or that the chat template does not
            take.
        check_positions: refuses a branch with more positions than the model reads. Such a record is dropped if either
            policy says so.

    Raises:
        DataError, TemplateError, ModelError: a record is too long, says nothing, or does not fit the chat template or
            the model. The message names the first one and counts them all. Or no record is left.
    """
    trees, learned = [], []
    dropped: list[DroppedRecord] = []
    refused: list[PalmetteError] = []
    for record in records:
        try:
            tree = tree_of(record)
            _check_length(tree, max_tokens)
            if check_positions is not None:
                check_positions(tree.num_positions, f"record {tree.name!r}")
        except (PreferenceError, TemplateError, ModelError) as error:
            reason = _reason(error)
            dropped.append(DroppedRecord(reason, error.problem))
            policies: tuple[OnTooLong, ...] = (on_too_long if reason == "too long" else on_bad_record,)
            if isinstance(error, ModelError):
                policies = (on_too_long, on_bad_record)
            if "drop" not in policies:
                refused.append(error)
            continue
        trees.append(tree)
        learned.append(record)
    if refused:
        kind = DataError if isinstance(refused[0], PreferenceError) else type(refused[0])
        raise kind(
            f"{refused[0].problem} (in all: {say_counts(count_reasons(dropped))}; good ones: {len(trees)})",
            refused[0].way_out,
        )
    if not trees:
        lost = f"all were dropped: {say_counts(count_reasons(dropped))}" if dropped else "there are no records"
        raise DataError(f"nothing is left to train on: {lost}", "Fix the records, or raise train.row_tokens.")
    return TreeSet(tuple(trees), tuple(learned), tuple(dropped))


def _reason(error: PalmetteError) -> Reason:
    if isinstance(error, PreferenceError):
        return error.reason
    return "template" if isinstance(error, TemplateError) else "too long"


def _check_length(tree: PrefixTree, max_tokens: int) -> None:
    if tree.num_tokens > max_tokens:
        sides = " + ".join(str(child.num_tokens) for child in tree.root.children)
        raise PreferenceError(
            "too long",
            f"record {tree.name!r} has {tree.num_tokens} tokens ({tree.root.num_tokens} of its prompt, {sides} of its completions), "
            f"more than train.row_tokens = {max_tokens}",
            "Raise train.row_tokens, or set data.on_too_long: drop; a completion is never cut.",
        )


def mismatched(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """For each verdict another one, whose completion answers a different prompt: the next that does, going round.

    Raises:
        DataError: all have the same prompt.
    """
    found: list[Verdict | None] = [None] * len(verdicts)
    ahead: Verdict | None = None  # the next one with another prompt than the verdict after the present one
    for index in reversed(range(2 * len(verdicts))):
        here, after = verdicts[index % len(verdicts)], verdicts[(index + 1) % len(verdicts)]
        if here.prompt != after.prompt:
            ahead = after
        found[index % len(verdicts)] = ahead
    others = [other for other in found if other is not None]
    if len(others) < len(verdicts):
        raise DataError(
            f"all {len(verdicts)} verdicts have the same prompt, so no completion answers another one",
            "Give verdicts on several prompts.",
        )
    return others


def ranking(branches: Branches) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the branches of comparisons: (rank_N, list_N), the rank of each, 0 = best, and which comparison it belongs to.

    Comparisons are numbered in the order of their first branches; the names stand in `branches.by_tree()`.
    """
    number = {tree: index for index, tree in enumerate(branches.by_tree())}
    device = branches.last_N.device
    rank_N = torch.tensor([int(leaf) for _, leaf in branches.names], device=device)
    return rank_N, torch.tensor([number[tree] for tree, _ in branches.names], device=device)


def labels(branches: Branches) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the branches of verdicts: (judged_N, good_N) as bool: which of them somebody judged, and which were found good.

    The others are completions put under a prompt that they do not answer.
    """
    leaves, device = [leaf for _, leaf in branches.names], branches.last_N.device
    judged_N = torch.tensor([leaf in (GOOD, BAD) for leaf in leaves], dtype=torch.bool, device=device)
    return judged_N, torch.tensor([leaf == GOOD for leaf in leaves], dtype=torch.bool, device=device)
