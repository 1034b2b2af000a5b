"""How models read the same texts: how likely each token is, and how far two models' next tokens are apart.

Letters: P predicted tokens of a text, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palmette.data.general import Passage
from palmette.evaluate.retention.measure import kl_divergence, learned_logprobs
from palmette.evaluate.retention.probe import passage_tree
from palmette.evaluate.retention.scores import TextScore
from palmette.studies.models.texts import SharedText
from palmette.tasks.text_pieces import beginning
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import padded_length
from palmette.tree.segments import TextEncoder, decode_tokens

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character decode to


@dataclass(frozen=True)
class TextReading:
    """How a model reads a text.

    Attributes:
        id: the text's name.
        opening: the first token, if nothing predicts it. Else nothing.
        tokens: the predicted tokens.
        score: their likelihood.
        logprobs: log-probabilities [P, V] of the next token at each place, on the CPU, in float32.
    """

    id: str
    opening: tuple[int, ...]
    tokens: tuple[int, ...]
    score: TextScore
    logprobs: torch.Tensor


@torch.inference_mode()
def read_texts(model: Any, tokenizer: Any, texts: Sequence[SharedText]) -> tuple[list[TextReading], float]:
    """Let a model read texts.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        texts: the texts.

    Returns:
        How it reads each, and the tokens that it reads a second.

    Raises:
        ModelError: a text is longer than the model supports, or its numbers are not finite.
    """
    encoder, begin, found, seconds = TextEncoder(tokenizer), beginning(tokenizer), [], 0.0
    for one in texts:
        tree, num_bytes = passage_tree(tokenizer, encoder, begin, Passage(one.id, one.id, one.text))
        row_tokens = padded_length(tree.num_tokens)
        (batch,) = PackedBatch.pack([tree], row_tokens=row_tokens, tokens_per_batch=row_tokens)
        started = time.monotonic()
        logprob_PV = learned_logprobs(model, batch.to(model.device)).float().cpu()
        seconds += time.monotonic() - started
        opening, tokens = (() if begin else tree.root.segments[0].tokens), tree.root.segments[-1].tokens
        nll = -float(logprob_PV[torch.arange(len(tokens)), torch.tensor(tokens)].double().sum())
        score = TextScore(one.id, len(tokens), num_bytes, nll)
        found.append(TextReading(one.id, opening, tokens, score, logprob_PV))
    return found, sum(len(one.tokens) for one in found) / seconds


def divergences(a: Sequence[TextReading], b: Sequence[TextReading], tokenizer: Any) -> list[dict[str, Any]]:
    """KL(a || b) of the next token, token by token, for each text.

    Args:
        a: how the first model reads the texts.
        b: how another one with the same tokens reads them.
        tokenizer: spells the tokens.

    Returns:
        A record for each text: `id`, `kl` (the mean, in nats per token), `pieces` (text and nats of each token, of
        which the first has none if nothing predicts it), and the perplexity of both models.

    Raises:
        ModelError: the second model has a smaller vocabulary.
    """
    records = []
    for one, other in zip(a, b, strict=True):
        kl_P = kl_divergence(one.logprobs, other.logprobs).tolist()
        pieces = spelled(tokenizer, [*one.opening, *one.tokens])
        records.append(
            {
                "id": one.id,
                "kl": math.fsum(kl_P) / len(kl_P),
                "perplexity": [one.score.perplexity, other.score.perplexity],
                "pieces": list(zip(pieces, [*(None for _ in one.opening), *kl_P], strict=True)),
            }
        )
    return records


def spelled(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """The text that each token adds. A character of several tokens stands at the last of them."""
    pieces, given = [], ""
    for end in range(1, len(tokens) + 1):
        text = decode_tokens(tokenizer, tokens[:end])
        known = text if end == len(tokens) else text.rstrip(_UNFINISHED)
        pieces.append(known[len(given) :])
        given = known if len(known) > len(given) else given
    return pieces
