"""Masked attention that skips what nobody may look at: a block of queries meets only the keys that one of them sees.

A dense mask costs the square of the row, hidden or not. In a packed tree most of that square is hidden: siblings do not see each
other, nor do trees that share a row. Meant for CPUs, where a call costs little next to its arithmetic.

Letters: B rows, T tokens, H heads, D size of a head, K keys that a block sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

BLOCK_SIZE = 192


@dataclass(frozen=True)
class QueryBlock:
    """Consecutive queries of one row, and what they see.

    Attributes:
        start: row index of the first query.
        end: one past the last.
        key_K: row indices of the keys that at least one of them may look at.
        bias_TK: what is added to their scores: 0 where the query may look at the key, else the least number of the dtype.
    """

    start: int
    end: int
    key_K: torch.Tensor
    bias_TK: torch.Tensor


def query_blocks(may_attend_BTT: torch.Tensor, dtype: torch.dtype, size: int = BLOCK_SIZE) -> list[list[QueryBlock]]:
    """Cut each row's queries into blocks.

    >>> mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()[None]
    >>> for block in query_blocks(mask, torch.float32, size=2)[0]:
    ...     print(block.start, block.end, block.key_K.tolist(), (block.bias_TK == 0).int().tolist())
    0 2 [0, 1] [[1, 0], [1, 1]]
    2 4 [0, 2, 3] [[1, 1, 0], [1, 1, 1]]

    Args:
        may_attend_BTT: the attention mask (bool).
        dtype: of the scores.
        size: queries of a block.
    """
    rows = []
    for mask_TT in may_attend_BTT:
        row = []
        for start in range(0, len(mask_TT), size):
            queries = mask_TT[start : start + size]
            key_K = queries.any(dim=0).nonzero().squeeze(1)
            bias_TK = torch.zeros(len(queries), len(key_K), dtype=dtype)
            bias_TK.masked_fill_(~queries[:, key_K], torch.finfo(dtype).min)
            row.append(QueryBlock(start, start + len(queries), key_K, bias_TK))
        rows.append(row)
    return rows


def blockwise_attention(
    query_BHTD: torch.Tensor,
    key_BHTD: torch.Tensor,
    value_BHTD: torch.Tensor,
    rows: Sequence[Sequence[QueryBlock]],
    scaling: float | None,
) -> torch.Tensor:
    """Scaled dot-product attention under the mask that `rows` was cut from, [B, H, T, D].

    Args:
        query_BHTD: queries.
        key_BHTD: keys; they may have fewer heads, each shared by a group of query heads.
        value_BHTD: values, with the keys' heads; their D may differ.
        rows: the blocks of each row.
        scaling: factor of the scores; 1 / sqrt(D) if None.
    """
    num_rows, num_heads, num_tokens, size = query_BHTD.shape
    groups = num_heads // key_BHTD.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    # Query heads that share a key head become more queries of that head, so that keys and values are never copied out.
    query = (query_BHTD * scaling).reshape(num_rows, -1, groups, num_tokens, size)
    outputs = []
    for index, blocks in enumerate(rows):
        parts = [_attend(query[index], key_BHTD[index], value_BHTD[index], block) for block in blocks]
        outputs.append(torch.cat(parts, dim=2))
    return torch.stack(outputs).view(num_rows, num_heads, num_tokens, value_BHTD.shape[-1])


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: QueryBlock) -> torch.Tensor:
    """One block: scaled queries [G, groups, T, D] against keys and values [G, T, D] of G key heads."""
    chosen = query[:, :, block.start : block.end]
    scores = chosen.flatten(1, 2) @ key.index_select(1, block.key_K).transpose(1, 2)
    # In place, and without a copy in float32: the scores are rounded already, and softmax adds up in float32 inside.
    weights = torch.softmax(scores.view(*chosen.shape[:3], -1).add_(block.bias_TK), dim=-1)
    return (weights.flatten(1, 2) @ value.index_select(1, block.key_K)).view(*chosen.shape[:3], value.shape[-1])
