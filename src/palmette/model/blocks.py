"""Masked attention that skips hidden keys: a block of queries is multiplied only with the keys that one of them sees.

The cost of a dense mask is the square of the row's length, whether keys are visible or not. In a packed tree most of
that square is hidden, since siblings do not see each other, nor do trees that share a row. This module is meant for
CPUs, where a call costs little next to its arithmetic.

Letters: B rows, T queries, C keys (the cached ones, then the row's own), H heads, G key heads, D size of a head,
K keys that a block sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from palmette.model.kernels import Kernels, kernels_for

BLOCK_SIZE = 192  # queries of a block, where cached keys come before the row's own
_GRID = 16  # blocks start at multiples of this
_MOST = 512  # the most queries of a block
# The cost of a block beside its scores, in scores. Measured for 9 heads on two cores, where any value between 10,000
# and 40,000 does as well.
_OVERHEAD = 20_000
Rows = Sequence[Sequence["QueryBlock"]]


@dataclass(frozen=True)
class QueryBlock:
    """Consecutive queries of one row, and the keys that they see.

    Attributes:
        start: row index of the first query.
        end: one past the row index of the last query.
        key_K: indices of the keys that at least one of the queries may look at.
        mask_TK: which of these keys each query may look at (bool).
    """

    start: int
    end: int
    key_K: torch.Tensor
    mask_TK: torch.Tensor


def query_blocks(may_attend_BTC: torch.Tensor) -> list[list[QueryBlock]]:
    """Cut each row's queries into blocks.

    >>> mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()[None]
    >>> for block in query_blocks(mask)[0]:
    ...     print(block.start, block.end, block.key_K.tolist(), block.mask_TK.int().tolist())
    0 4 [0, 1, 2, 3] [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    >>> [(block.start, block.end) for block in query_blocks(torch.ones(1, 500, 500).tril().bool())[0]]
    [(0, 160), (160, 336), (336, 500)]

    Args:
        may_attend_BTC: the attention mask (bool). Every query sees a key.
    """
    rows = []
    for mask_TC in may_attend_BTC:
        num_queries, num_keys = mask_TC.shape
        cuts = [*range(0, num_queries, BLOCK_SIZE), num_queries]
        if num_queries == num_keys:
            cuts = cheapest_cuts(mask_TC.sum(dim=1).numpy())
        row = []
        for start, end in pairwise(cuts):
            queries = mask_TC[start:end]
            key_K = queries.any(dim=0).nonzero().squeeze(1)
            row.append(QueryBlock(start, end, key_K, queries[:, key_K].contiguous()))
        rows.append(row)
    return rows


def cheapest_cuts(visible_T: np.ndarray) -> list[int]:
    """Cut a row of packed trees where the scores and the blocks together cost the least.

    In a depth-first row, a key before a block that any of its queries sees is seen by its first query. A block from s
    to e is therefore multiplied with (visible[s] - 1) + (e - s) keys. So the cost is known without the mask, and
    dynamic programming finds the best cuts.

    Args:
        visible_T: number of keys that each query sees, itself included.

    Returns:
        The cuts in order. The first is 0 and the last is T.
    """
    num_tokens = len(visible_T)
    position = np.array([*range(0, num_tokens, _GRID), num_tokens])
    best, previous = np.zeros(len(position)), np.zeros(len(position), dtype=np.int64)
    for index in range(1, len(position)):
        first = max(0, index - _MOST // _GRID)
        start = position[first:index]
        length = position[index] - start
        cost = best[first:index] + length * (visible_T[start] - 1 + length) + _OVERHEAD
        chosen = int(cost.argmin())
        best[index], previous[index] = cost[chosen], first + chosen
    cuts, index = [num_tokens], len(position) - 1
    while index > 0:
        index = int(previous[index])
        cuts.append(int(position[index]))
    return cuts[::-1]


def attend(
    kernels: Kernels,
    query_BHTD: torch.Tensor,
    key_BGCD: torch.Tensor,
    value_BGCD: torch.Tensor,
    rows: Rows,
    scale: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Scaled dot-product attention under the mask that `rows` was cut from.

    Args:
        kernels: the elementwise operations.
        query_BHTD: queries.
        key_BGCD: keys. A group of H / G query heads shares each of their heads.
        value_BGCD: values. Their D may be another.
        rows: the blocks of each row.
        scale: factor of the scores.

    Returns:
        The output, [B, T, H, D], and the weights of each block, which `attend_backward` needs.
    """
    num_rows, num_heads, num_tokens, _ = query_BHTD.shape
    output = value_BGCD.new_empty(num_rows, num_tokens, num_heads, value_BGCD.shape[-1])
    kept = []
    for index, blocks in enumerate(rows):
        for block in blocks:
            query, keys, values = _block(query_BHTD[index], key_BGCD[index], value_BGCD[index], block)
            weights = torch.bmm(query, keys.transpose(1, 2))
            kernels.masked_softmax(weights.view(-1, *block.mask_TK.shape), block.mask_TK, scale)
            _of_block(output[index], block).copy_(torch.bmm(weights, values).view(num_heads, -1, values.shape[-1]))
            kept.append(weights)
    return output, kept


def attend_backward(
    kernels: Kernels,
    grad_BTHD: torch.Tensor,
    query_BHTD: torch.Tensor,
    key_BGCD: torch.Tensor,
    value_BGCD: torch.Tensor,
    rows: Rows,
    kept: Sequence[torch.Tensor],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of queries, keys and values, given that of `attend`'s output. For arguments see `attend`."""
    wide = torch.promote_types(key_BGCD.dtype, torch.float32)  # since a key's gradient is a sum over many blocks
    grad_query = query_BHTD.new_empty(query_BHTD.shape)
    grad_key, grad_value = (x.new_zeros(x.shape, dtype=wide) for x in (key_BGCD, value_BGCD))
    weights_left = iter(kept)
    for index, blocks in enumerate(rows):
        for block in blocks:
            weights = next(weights_left)
            query, keys, values = _block(query_BHTD[index], key_BGCD[index], value_BGCD[index], block)
            grad = _of_block(grad_BTHD[index], block).reshape(len(keys), -1, values.shape[-1])
            kernels.scatter_add(torch.bmm(weights.transpose(1, 2), grad), block.key_K, grad_value[index])
            grad_scores = torch.bmm(grad, values.transpose(1, 2))
            kernels.softmax_backward(grad_scores, weights, scale)
            kernels.scatter_add(torch.bmm(grad_scores.transpose(1, 2), query), block.key_K, grad_key[index])
            size = query.shape[-1]
            grad_query[index, :, block.start : block.end] = torch.bmm(grad_scores, keys).view(
                -1, len(block.mask_TK), size
            )
    return grad_query, grad_key.to(key_BGCD.dtype), grad_value.to(value_BGCD.dtype)


def _block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: QueryBlock
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of a block.

    Query heads that share a key head are laid out as more queries of that head: [G, H / G * T, D].
    """
    query = query[:, block.start : block.end].reshape(len(key), -1, query.shape[-1])
    return query, key.index_select(1, block.key_K), value.index_select(1, block.key_K)


def _of_block(x_THD: torch.Tensor, block: QueryBlock) -> torch.Tensor:
    """The block's part of a row, [H, T, D]."""
    return x_THD[block.start : block.end].transpose(0, 1)


class BlockAttention(torch.autograd.Function):
    """`attend` as an operation with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: Rows, scale: float
    ) -> torch.Tensor:
        """The output, [B, T, H, D]."""
        output, kept = attend(kernels_for(query.dtype, query.device.type), query, key, value, rows, scale)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.rows, ctx.scale = rows, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, *kept = ctx.saved_tensors
        kernels = kernels_for(query.dtype, query.device.type)
        return (*attend_backward(kernels, grads[0], query, key, value, ctx.rows, kept, ctx.scale), None, None)
