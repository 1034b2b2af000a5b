"""The packing plan, which says which trees share a row and which rows share a batch."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any

from palmette.errors import PackingError
from palmette.tree.prefix_tree import PrefixTree, SegmentKey, leading_keys

# Rows are padded to a multiple of this, so that a run meets few shapes, for each of which libraries keep a compiled
# kernel. On rows of a few hundred tokens or more, 32 adds 1 or 2 percent and 64 twice that. 16 saves less than 1
# percent at twice the number of shapes.
PAD_MULTIPLE = 32


def padded_length(num_tokens: int) -> int:
    """The row length that holds so many tokens.

    >>> padded_length(1), padded_length(32), padded_length(33)
    (32, 32, 64)
    """
    return -(-num_tokens // PAD_MULTIPLE) * PAD_MULTIPLE


def plan_batches(lengths: Sequence[int], *, row_tokens: int, tokens_per_batch: int) -> list[list[list[int]]]:
    """Put trees into rows, and rows into batches, longest first.

    A tree goes into the fullest row that still has room for it. Rows of similar length share a batch.

    >>> plan_batches([30, 100, 64, 20], row_tokens=128, tokens_per_batch=256)
    [[[1, 3], [2, 0]]]

    Args:
        lengths: tokens of each tree.
        row_tokens: the most tokens a row may hold.
        tokens_per_batch: the most tokens a batch may hold, padding included. A single row may exceed it.

    Returns:
        Batches of rows of indices into `lengths`. Every index occurs once.

    Raises:
        PackingError: a tree is longer than `row_tokens`.
    """
    rows, used = _fill_rows(lengths, row_tokens)
    order = sorted(range(len(rows)), key=lambda r: (-used[r], r))
    widths = [padded_length(used[row]) for row in order]
    num_batches = len(_cut(widths, tokens_per_batch))
    # The same number of batches under the least budget. Without this, one batch would be as large as allowed and the
    # last one a small rest, which needs more memory and gains nothing.
    least = bisect_left(range(tokens_per_batch), -num_batches, key=lambda budget: -len(_cut(widths, budget)))
    return [[rows[row] for row in order[start:end]] for start, end in _cut(widths, least)]


def _fill_rows(lengths: Sequence[int], row_tokens: int) -> tuple[list[list[int]], list[int]]:
    """Put trees into rows, longest first, each into the fullest row with room for it, the first of them on a tie.

    This is best-fit decreasing bin packing. Rows are found by the room that they have left, so the time grows as
    n log n with the number of trees.

    Returns:
        The indices of each row, and the tokens that it holds.

    Raises:
        PackingError: a tree is longer than `row_tokens`.
    """
    rows: list[list[int]] = []
    used: list[int] = []
    rooms: list[int] = []  # the tokens left in some row, sorted, each number once
    by_room: dict[int, list[int]] = {}  # the rows with that many tokens left, as a heap
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > row_tokens:
            raise PackingError(
                f"tree {index} has {length} tokens, more than the {row_tokens} of a row",
                "Raise row_tokens, or split the record.",
            )
        at = bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            row = heappop(by_room[room])
            if not by_room[room]:
                del by_room[room], rooms[at]
        else:
            row, room = len(rows), row_tokens
            rows.append([])
            used.append(0)
        rows[row].append(index)
        used[row] += length
        left = room - length
        if left not in by_room:
            by_room[left] = []
            insort(rooms, left)
        heappush(by_room[left], row)
    return rows, used


def plan_packing(
    trees: Sequence[PrefixTree], *, row_tokens: int, tokens_per_batch: int, one_row: bool, parts: int = 1
) -> list[list[list[int]]]:
    """Choose rows and batches for trees as their attention backend prefers.

    Args:
        trees: the trees.
        row_tokens: the most tokens of a row, unless `one_row`.
        tokens_per_batch: the most tokens of a batch. See `plan_batches` and `plan_single_rows` for the tokens that
            count.
        one_row: put the trees of a batch into one row. This is faster where attention skips the tokens that nobody may
            look at (on a CPU), and slower where its cost is the square of the row (a dense mask). The numbers are the
            same either way.
        parts: the number of processes that share the batches. Each gets trees of about as many tokens in batches of its
            own, so there are at least so many batches, if there are so many trees.

    Returns:
        Batches of rows of indices into `trees`. Every index occurs once.

    Raises:
        PackingError: a tree is longer than `row_tokens`.
    """
    if not trees:
        return []
    if parts > 1:
        prefixes = _prefixes(trees) if one_row else [{} for _ in trees]
        limits: Any = {"row_tokens": row_tokens, "tokens_per_batch": tokens_per_batch, "one_row": one_row}
        return [
            [[part[index] for index in row] for row in rows]
            for part, _ in _spread([tree.num_tokens for tree in trees], prefixes, min(parts, len(trees)))
            for rows in plan_packing([trees[index] for index in part], **limits)
        ]
    if one_row:
        return plan_single_rows(trees, tokens_per_batch=tokens_per_batch)
    lengths = [tree.num_tokens for tree in trees]
    # A dense mask costs the square of the row, so rows are no longer than the longest tree.
    row_tokens = min(row_tokens, padded_length(max(lengths)))
    return plan_batches(lengths, row_tokens=row_tokens, tokens_per_batch=tokens_per_batch)


def _cut(widths: Sequence[int], tokens_per_batch: int) -> list[tuple[int, int]]:
    """Cut rows, longest first, into batches of at most so many tokens, each as (first row, one past the last)."""
    cuts: list[tuple[int, int]] = []
    for row in range(len(widths)):
        if cuts and (row + 1 - cuts[-1][0]) * widths[cuts[-1][0]] <= tokens_per_batch:
            cuts[-1] = (cuts[-1][0], row + 1)
        else:
            cuts.append((row, row + 1))
    return cuts


def plan_single_rows(trees: Sequence[PrefixTree], *, tokens_per_batch: int) -> list[list[list[int]]]:
    """Put trees into few batches of one row each, which are of similar length.

    This suits attention that skips the tokens that nobody may look at (`model/blocks.py`). There a long row costs no
    more than short ones, one padding is enough for all, and segments that trees begin with in common are computed
    once. Under a dense mask the cost is the square of the row, and `plan_batches` is the better choice.

    Longest first, each tree goes into the row with the fewest tokens. Here all but the longest tree share their first
    20 tokens:

    >>> from palmette.tree.prefix_tree import Node
    >>> from palmette.tree.segments import Segment
    >>> tree = lambda *segments: PrefixTree(Node(tuple(map(Segment, segments))))
    >>> shared = (1,) * 20
    >>> trees = [tree(shared, (2,) * 5), tree(shared, (3,) * 4), tree((9,) * 30), tree(shared, (4,) * 3)]
    >>> plan_single_rows(trees, tokens_per_batch=32)
    [[[0, 1, 3]], [[2]]]
    >>> plan_single_rows(trees, tokens_per_batch=64)
    [[[2, 0, 1, 3]]]

    Args:
        trees: the trees.
        tokens_per_batch: the most tokens a batch may hold. Padding counts, and segments that its trees share count
            once. A single tree may exceed it.

    Returns:
        Batches of one row of indices into `trees`. Every index occurs once.
    """
    lengths = [tree.num_tokens for tree in trees]
    prefixes = _prefixes(trees)

    def fits(num_rows: int) -> bool:
        spread = _spread(lengths, prefixes, num_rows)
        return all(padded_length(used) <= tokens_per_batch or len(row) == 1 for row, used in spread)

    # With as many rows as trees, all fit.
    num_rows = bisect_left(range(len(trees)), True, lo=1, key=fits)
    return [[row] for row, _ in _spread(lengths, prefixes, num_rows)] if trees else []


def _prefixes(trees: Sequence[PrefixTree]) -> list[dict[int, int]]:
    """The leading segments of each tree: {a number for the path down to the segment: its number of tokens}."""
    numbers: dict[tuple[int, SegmentKey], int] = {}
    prefixes = []
    for tree in trees:
        path, above = {}, -1
        for key in leading_keys(tree.root.segments):
            above = numbers.setdefault((above, key), len(numbers))
            path[above] = len(key[0])
        prefixes.append(path)
    return prefixes


def _spread(lengths: Sequence[int], prefixes: Sequence[dict[int, int]], num_rows: int) -> list[tuple[list[int], int]]:
    """Spread trees evenly over so many rows.

    Returns:
        The indices of each row, and its tokens, with shared segments counted once. The longest row comes first.
    """
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    held: list[set[int]] = [set() for _ in range(num_rows)]
    heap = [(0, row) for row in range(num_rows)]
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        used, row = heap[0]
        shared = sum(tokens for number, tokens in prefixes[index].items() if number in held[row])
        rows[row].append(index)
        held[row].update(prefixes[index])
        heapreplace(heap, (used + lengths[index] - shared, row))
    return [(rows[row], used) for used, row in sorted(heap, key=lambda entry: (-entry[0], entry[1]))]
