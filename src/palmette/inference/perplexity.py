"""How well a model predicts texts, by their source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palmette.corpus.texts import TextSource
from palmette.errors import DataError, ModelError
from palmette.inference.base import load_merged
from palmette.inference.names import resolve_model
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import evaluating, model_name, score_tokens
from palmette.progress import progress
from palmette.tasks.text_pieces import TextPieces, num_learned
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree

_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True, slots=True)
class SourceScore:
    """The texts of one source under a model.

    Attributes:
        source: the name of the source.
        num_tokens: tokens that were predicted.
        nll: their negative log-likelihood (nats, summed).
    """

    source: str
    num_tokens: int
    nll: float

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nll / self.num_tokens

    @property
    def perplexity(self) -> float:
        """exp of the nats a token."""
        return math.exp(min(self.loss, 700.0))


@torch.no_grad()
def score_sources(
    model: Any, trees: Sequence[PrefixTree], *, row_tokens: int, tokens_per_batch: int
) -> list[SourceScore]:
    """Score the learned tokens of trees, summed by the name of the tree, in the order in which names first occur.

    Args:
        model: a causal language model with one of our attention backends.
        trees: pieces of texts, named by their source.
        row_tokens: as in `plan_packing`.
        tokens_per_batch: as in `plan_packing`.

    Raises:
        ModelError: a piece is longer than the model supports, or the model's numbers are not finite.
    """
    nll = dict.fromkeys((tree.name for tree in trees), 0.0)
    count = dict.fromkeys(nll, 0)
    batches = PackedBatch.pack(
        trees, row_tokens=row_tokens, tokens_per_batch=tokens_per_batch, one_row=skips_hidden(model)
    )
    with evaluating(model), progress(len(batches), "scoring texts", "batches", passing=True) as bar:
        for batch in batches:
            placed = batch.to(model.device)
            scores = score_tokens(model, placed)
            node_P = placed.node_BT[scores.row_P, scores.column_P].tolist()
            values = zip(scores.row_P.tolist(), node_P, scores.logprob_P.double().tolist(), strict=True)
            for row, node, logprob in values:
                name = batch.rows[row].nodes[node][0]
                nll[name] -= logprob
                count[name] += 1
            bar.update()
    if not all(map(math.isfinite, nll.values())):
        raise ModelError(f"{model_name(model)} gives numbers that are not finite", "Lower train.learning_rate.")
    return [SourceScore(name, count[name], value) for name, value in nll.items()]


def some_pieces(source: TextSource, pieces: TextPieces, most: int) -> Iterator[PrefixTree]:
    """The first pieces of a source, up to about so many learned tokens, named by the source.

    Raises:
        DataError: the source cannot be read, or holds no text.
    """
    total = 0
    for text in source.open():
        if isinstance(text, DataError):
            continue
        for tree in pieces.trees(source.name, text.text):
            if total >= most:
                return
            total += num_learned(tree)
            yield tree
    if not total:
        raise DataError(f"{source.name} holds no text", "Give another source.")


def score_beginnings(name: str, sources: Sequence[TextSource], *, most: int, piece_tokens: int) -> list[SourceScore]:
    """Score the beginning of sources with a model. Texts are cut into pieces that do not see each other.

    Args:
        name: the name of the model.
        sources: the sources.
        most: about how many tokens of each are scored.
        piece_tokens: the longest piece, in tokens.

    Raises:
        DataError: a source cannot be read, or holds no text.
        ModelError: the model is missing or unfit, or its numbers are not finite.
    """
    loaded = load_merged(resolve_model(name))
    check_model(loaded.model, training=False, weights=loaded.content)
    pieces = TextPieces(loaded.tokenizer, piece_tokens)
    trees = [tree for source in sources for tree in some_pieces(source, pieces, most)]
    return score_sources(
        loaded.model, trees, row_tokens=piece_tokens, tokens_per_batch=max(piece_tokens, _TOKENS_PER_BATCH)
    )
