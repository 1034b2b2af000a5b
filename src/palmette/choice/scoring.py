"""Log-probabilities of the choices of items, in as few forward passes as a token budget allows.

Letters: B rows, T tokens of a row, N scored tokens of all sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from palmette.choice.encoding import EncodedItem, Scored
from palmette.choice.tree import trees_of
from palmette.errors import ModelError
from palmette.model.attention import skips_hidden
from palmette.model.forward import model_name, score_tokens
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import padded_length


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model gives to the choices of an item.

    Attributes:
        logprobs: the log-probability of each choice after its context (nats).
        alone: that of each choice without its context, if it was asked for.
    """

    logprobs: tuple[float, ...]
    alone: tuple[float, ...] = ()


@torch.inference_mode()
def score_items(model: Any, items: Sequence[EncodedItem], *, tokens_per_batch: int) -> list[Scores]:
    """Score items.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        items: the items.
        tokens_per_batch: the most tokens in memory at once. The limit rises to the longest item.

    Raises:
        ModelError: the model's numbers are not finite, or an item is longer than it reads.
    """
    trees, sequences = trees_of(items)
    row_tokens = padded_length(max(tree.num_tokens for tree in trees))
    sums: dict[tuple[str, int], float] = {}
    for batch in PackedBatch.pack(
        trees, row_tokens=row_tokens, tokens_per_batch=max(tokens_per_batch, row_tokens), one_row=skips_hidden(model)
    ):
        sums |= _sums(model, batch, sequences)
    if not all(map(math.isfinite, sums.values())):
        raise ModelError(f"{model_name(model)} gives numbers that are not finite", "Load it in float32.")
    return [
        Scores(
            tuple(sums[f"{number}", index] for index in range(len(item.choices))),
            tuple(sums[f"{number} alone", index] for index in range(len(item.alone))),
        )
        for number, item in enumerate(items)
    ]


def _sums(model: Any, batch: PackedBatch, sequences: Mapping[str, Sequence[Scored]]) -> dict[tuple[str, int], float]:
    """The sum of the log-probabilities of the scored tokens of each sequence of a batch."""
    names: list[tuple[str, int]] = []
    owner_N: list[int] = []
    row_N: list[int] = []
    column_N: list[int] = []
    for row, column, tree, index in _ends(batch):
        scored = sequences[tree][index]
        for _ in range(len(scored.tokens) - scored.start):
            owner_N.append(len(names))
            row_N.append(row)
            column_N.append(column)
            column = batch.rows[row].predictor[column]
        names.append((tree, index))
    rows, columns = torch.tensor(row_N), torch.tensor(column_N)
    selected_BT = torch.zeros(batch.token_BT.shape, dtype=torch.bool)
    selected_BT[rows, columns] = True
    found = score_tokens(model, _within(model, batch).to(model.device), selected_BT.to(model.device))
    logprob_BT = torch.zeros(batch.token_BT.shape, dtype=torch.float64)
    logprob_BT[found.row_P.cpu(), found.column_P.cpu()] = found.logprob_P.double().cpu()
    totals = torch.zeros(len(names), dtype=torch.float64)
    totals.index_add_(0, torch.tensor(owner_N), logprob_BT[rows, columns])
    return dict(zip(names, totals.tolist(), strict=True))


def _within(model: Any, batch: PackedBatch) -> PackedBatch:
    """A batch in which the last token of a sequence may lie one position beyond those of the model.

    Nothing reads that token, so it shares the last position.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or batch.max_position != limit:
        return batch
    return replace(batch, position_BT=batch.position_BT.clamp(max=limit - 1))


def _ends(batch: PackedBatch) -> Iterator[tuple[int, int, str, int]]:
    """Where each sequence of a batch ends: its row, the column of its last token, its tree and its index."""
    for row, layout in enumerate(batch.rows):
        last = [-1] * len(layout.nodes)
        for column, node in enumerate(layout.node):
            last[node] = column
        for node, (tree, ended) in enumerate(layout.nodes):
            at = node
            while last[at] < 0:  # a root that other trees share as a whole has no tokens of its own
                at = layout.parents[at]
            for index in filter(None, ended.split(",")):
                yield row, last[at], tree, int(index)
