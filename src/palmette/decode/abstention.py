"""The probability that a question has no answer, from one forward pass for all questions of a document."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from palmette.data.records import Document
from palmette.model.attention import skips_hidden
from palmette.model.forward import branch_logprobs, score_tokens
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import padded_length


@torch.inference_mode()
def abstention_probabilities(
    model: Any, task: ExtractiveQa, documents: Sequence[Document], *, tokens_per_batch: int = 4096
) -> Iterator[dict[str, float]]:
    """The probability of replying "?" to each question, given that the completion opens as the format asks.

    It is the exact product of the probabilities of the completion's tokens, from "?" to the end of the turn.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        task: builds the trees.
        documents: documents with their questions.
        tokens_per_batch: the most tokens of one forward pass. A document with more is a pass of its own.

    Yields:
        {question id: probability}, batch by batch.
    """
    trees = [task.abstention_tree(document) for document in documents if document.questions]
    row_tokens = max((tree.num_tokens for tree in trees), default=0)
    one_row = skips_hidden(model)
    for batch in PackedBatch.pack(
        trees, row_tokens=padded_length(row_tokens), tokens_per_batch=tokens_per_batch, one_row=one_row
    ):
        on_device = batch.to(model.device)
        branches = branch_logprobs(on_device, score_tokens(model, on_device))
        yield {question: math.exp(float(logprob)) for row in branches for (_, question), logprob in row.items()}
