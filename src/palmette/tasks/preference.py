"""Preferences as prefix trees. The prompt is the trunk, and each completion is a branch.

A tree has the name of its record, so that scores of its branches can be assigned to the record. The leaves of a
comparison are named "0", "1", ... in the order of its ranking, best first. The leaf of a verdict is named "good" or
"bad". It may have a sibling named "other", which is the completion to another prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from palmette.data.chat import Turn
from palmette.data.preference import Comparison, PreferenceError, Reason, Verdict, turn_text
from palmette.data.preference_sets import DroppedRecord, count_reasons, say_counts
from palmette.errors import DataError, ModelError, PalmetteError, TemplateError
from palmette.tasks.document_trees import CheckPositions
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
        learned: whether each token of the completions is learned with weight 1, up to the end of the turn (DPO, KTO).
            Otherwise no token is learned, and the last token of each branch counts, which ends the turn (reward
            models).
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

        KTO's reference point is the KL divergence over such mismatched pairs. Here both completions share one prompt.

        Args:
            verdict: the record.
            other: a record whose completion is put under this prompt too.

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
    """Different texts may have the same tokens, where a normalizer or a trimming template makes them equal."""
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
    """Trees, their records in the same order, and the records that were left out."""

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
    """Trees of records, each within the length limit. A completion is never cut.

    Args:
        records: the records.
        tree_of: builds the tree of a record.
        max_tokens: the most tokens of a tree. Its prompt counts once.
        on_too_long: "error" refuses the first tree beyond the limit. "drop" leaves such trees out and counts them.
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
            f"{refused[0].problem} (in all: {say_counts(count_reasons(dropped))}, good records: {len(trees)})",
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
            f"record {tree.name!r} has {tree.num_tokens} tokens ({tree.root.num_tokens} of its prompt, "
            f"{sides} of its completions), more than train.row_tokens = {max_tokens}",
            "Raise train.row_tokens, or set data.on_too_long: drop. A completion is never cut.",
        )


def mismatched(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """For each verdict the next one with another prompt. The last verdicts take from the first ones.

    Raises:
        DataError: all have the same prompt.
    """
    following: list[Verdict | None] = [None] * len(verdicts)
    ahead: Verdict | None = None  # the next verdict with another prompt than the one after the present one
    for index in reversed(range(2 * len(verdicts))):
        here, after = verdicts[index % len(verdicts)], verdicts[(index + 1) % len(verdicts)]
        if here.prompt != after.prompt:
            ahead = after
        following[index % len(verdicts)] = ahead
    others = [other for other in following if other is not None]
    if len(others) < len(verdicts):
        raise DataError(
            f"all {len(verdicts)} verdicts have the same prompt, so no completion answers another one",
            "Give verdicts on several prompts.",
        )
    return others
