"""What training with the default recipe would make of records: their tokens, and answers that are no spans."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from palmette.config.recipes import Recipe
from palmette.data.chat import Conversation
from palmette.data.check import Record
from palmette.data.preference import Comparison
from palmette.data.records import Document
from palmette.decode.reachability import Unreachable, count_unlearnable
from palmette.errors import DataError, TemplateError
from palmette.inference.task import recipe_task
from palmette.progress import progress
from palmette.tasks.chat import Chat
from palmette.tasks.document_trees import document_trees, split_by_size
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.preference import PreferenceTrees
from palmette.tree.chat import ChatTemplate

_NO_LIMIT = 1 << 62
_MANY = 500  # records, which take some seconds
_DEFAULT = Recipe(output="")
ROW_TOKENS = _DEFAULT.train.row_tokens


@dataclass
class TokenCounts:
    """The lengths of trees in tokens.

    Attributes:
        row_tokens: the most tokens that a tree may have.
        trunks: by record, the tokens that its branches share: instruction and document, or the prompt of a preference.
            A conversation has none.
        trees: by tree, its tokens. A document whose questions do not fit into one tree has several.
        too_long: by what needs it, the tokens of each tree that cannot be packed: a question with its document, a
            conversation, or a preference.
        unusable: what is wrong with each record that no tree can be built of.
        unreachable: answers that would be learned and that the span decoder can never give.
    """

    row_tokens: int
    trunks: dict[str, int] = field(default_factory=dict)
    trees: dict[str, int] = field(default_factory=dict)
    too_long: dict[str, int] = field(default_factory=dict)
    unusable: list[str] = field(default_factory=list)
    unreachable: Unreachable = field(default_factory=Unreachable)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The counts as (name, value) in words, with the longest trunk and tree by name."""
        found = [(name, _lengths(sizes)) for name, sizes in (("trunks", self.trunks), ("trees", self.trees)) if sizes]
        number = str(len(self.too_long)) if self.too_long else "none"
        longest = f", the longest {_longest(self.too_long)}" if self.too_long else ""
        found.append(("too long", f"{number} of more than train.row_tokens = {self.row_tokens:,}{longest}"))
        if self.unusable:
            found.append(("without a tree", f"{len(self.unusable)}, the first of them: {self.unusable[0]}"))
        if self.unreachable:
            found.append(("out of reach", str(self.unreachable)))
        return tuple(found)

    def as_record(self) -> dict[str, Any]:
        """The counts as a JSON object: row_tokens, and the number and lengths of trunks, trees and those too long."""
        groups = {"trunks": self.trunks, "trees": self.trees, "too_long": self.too_long}
        record: dict[str, Any] = {"row_tokens": self.row_tokens}
        for name, sizes in groups.items():
            record[name] = {"count": len(sizes)}
            if sizes:
                longest = max(sizes, key=lambda one: sizes[one])
                record[name] |= {
                    "median": statistics.median(sizes.values()),
                    "most": sizes[longest],
                    "longest": longest,
                }
        return {**record, "unusable": len(self.unusable), "unreachable": self.unreachable.describe()}

    def add(self, name: str, size: int) -> None:
        """Count a tree."""
        (self.too_long if size > self.row_tokens else self.trees)[name] = size


def count_tokens(records: Sequence[Record], tokenizer: Any, row_tokens: int = ROW_TOKENS) -> TokenCounts:
    """Build the trees of records and count their tokens. Nothing is learned, and no weights are needed.

    Args:
        records: good records of one kind.
        tokenizer: a model's tokenizer, with a chat template.
        row_tokens: the most tokens that a tree may have.
    """
    counts, template = TokenCounts(row_tokens), ChatTemplate(tokenizer)
    task, chat, preferences = recipe_task(_DEFAULT, tokenizer), Chat(template), PreferenceTrees(template)
    for record in _watched(records):
        try:
            if isinstance(record, Document):
                _count_document(counts, task, record)
            elif isinstance(record, Conversation):
                counts.add(repr(record.id), sum(len(segment.tokens) for segment in chat.segments(record)))
            else:
                tree = (
                    preferences.of_comparison(record)
                    if isinstance(record, Comparison)
                    else preferences.of_verdict(record)
                )
                counts.trunks[repr(record.id)] = tree.root.num_tokens
                counts.add(repr(record.id), tree.num_tokens)
        except (DataError, TemplateError) as error:
            counts.unusable.append(error.problem)
    counts.unreachable = count_unlearnable(record for record in records if isinstance(record, Document))
    return counts


def _watched(records: Sequence[Record]) -> Iterator[Record]:
    """The records, with a progress bar if they are many."""
    if len(records) < _MANY:
        yield from records
        return
    with progress(len(records), "counting tokens", "records") as bar:
        for record in records:
            yield record
            bar.update()


def _count_document(counts: TokenCounts, task: ExtractiveQa, document: Document) -> None:
    trees, left_out = document_trees(task, document, max_tokens=_NO_LIMIT)
    counts.unusable += [one.error.problem for one in left_out]
    for tree in trees:
        trunk = tree.root.num_tokens
        counts.trunks[repr(document.id)] = trunk
        fitting = []
        for branch in tree.root.children:
            if trunk + branch.num_tokens > counts.row_tokens:
                counts.add(f"{branch.name!r} of {document.id!r}", trunk + branch.num_tokens)
            else:
                fitting.append(branch.num_tokens)
        for name, size in _parts(fitting, trunk, counts.row_tokens, document.id):
            counts.add(name, size)


def _parts(sizes: Sequence[int], trunk: int, row_tokens: int, name: str) -> Iterator[tuple[str, int]]:
    """The trees of a document, named as `document_trees` names them, and their tokens."""
    parts = list(split_by_size(sizes, room=row_tokens - trunk))
    for number, part in enumerate(parts, start=1):
        of = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""
        yield f"{name!r}{of}", trunk + sum(sizes[index] for index in part)


def _lengths(sizes: dict[str, int]) -> str:
    median = statistics.median(sizes.values())
    return f"{len(sizes)}, {median:,.0f} tokens at the median, {_longest(sizes, ' at most')}"


def _longest(sizes: dict[str, int], words: str = "") -> str:
    name = max(sizes, key=lambda one: sizes[one])
    return f"{sizes[name]:,}{words} in {name}"
