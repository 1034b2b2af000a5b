"""The packing plan: which trees share a row, and which rows share a batch."""

from __future__ import annotations

from collections.abc import Sequence

from palmette.errors import PackingError

# Rows are padded to a multiple of this, so that a run meets few shapes: libraries keep a compiled kernel for each.
PAD_MULTIPLE = 64


def padded_length(num_tokens: int) -> int:
    """The row length that holds so many tokens.

    >>> padded_length(1), padded_length(64), padded_length(65)
    (64, 64, 128)
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
        tokens_per_batch: the most tokens a batch may hold, padding counted; a single row may exceed it.

    Returns:
        Batches of rows of indices into `lengths`; every index exactly once.

    Raises:
        PackingError: a tree is longer than `row_tokens`.
    """
    rows: list[list[int]] = []
    used: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > row_tokens:
            raise PackingError(
                f"tree {index} has {lengths[index]} tokens, more than the {row_tokens} of a row",
                "Raise row_tokens, or split the record.",
            )
        fits = [row for row in range(len(rows)) if used[row] + lengths[index] <= row_tokens]
        if fits:
            row = max(fits, key=lambda r: (used[r], -r))
            rows[row].append(index)
            used[row] += lengths[index]
        else:
            rows.append([index])
            used.append(lengths[index])
    batches: list[list[list[int]]] = []
    width = 0
    for row in sorted(range(len(rows)), key=lambda r: (-used[r], r)):
        if batches and (len(batches[-1]) + 1) * width <= tokens_per_batch:
            batches[-1].append(rows[row])
        else:
            batches.append([rows[row]])
            width = padded_length(used[row])
    return batches
