"""Retention: how much fine-tuning changed a model on texts and chat prompts that have nothing to do with the task.

Two things are measured. The first is the perplexity and bits per byte of general text before and after fine-tuning. The
second is the KL divergence of the tuned model's next-token distributions from those of the untouched model, along the
untouched model's greedy completions. Both are scored as prefix trees without branches.

Knowledge and skills are not covered, since no benchmark is run. Conversations of several turns and languages other than
English are not covered either. The sets are small, with twelve texts and two dozen prompts. They show forgetting, but
they cannot rank models that hardly differ.

Shapes: P completion tokens, V tokens in the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from palmette.data.general import chat_prompts, passages, spread
from palmette.decode.growth import grow, likeliest
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import sequence_ends
from palmette.errors import ModelError
from palmette.evaluate.retention.probe import Probe
from palmette.evaluate.retention.scores import CompletionScore, Retention, TextScore
from palmette.model.forward import branch_logprobs, logits_at, model_name, score_tokens
from palmette.progress import progress
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import padded_length
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import decode_tokens

_ROWS = 64  # of logits that are processed at once


@dataclass(frozen=True, slots=True)
class Settings:
    """How retention is measured.

    Attributes:
        max_new_tokens: longest completion, in tokens.
        tokens_per_batch: most tokens in memory at once. The limit rises to the longest text, or prompt with its
            completion, if that is longer.
        num_passages, num_prompts: how many of the built-in texts and chat prompts to use (see `spread`). All if None.
    """

    max_new_tokens: int = 48
    tokens_per_batch: int = 1024
    num_passages: int | None = None
    num_prompts: int | None = None

    def probe(self, tokenizer: Any) -> Probe:
        """The chosen built-in texts and prompts as tokens."""
        return Probe(tokenizer, spread(passages(), self.num_passages), spread(chat_prompts(), self.num_prompts))


@dataclass(frozen=True)
class BaseScores:
    """The scores of the untouched model. With these, the model itself can be removed from memory.

    Attributes:
        texts: its scores of the passages.
        completions: its greedy completions to the prompts, as tokens.
        logprobs: its log-probabilities [P, V] along these completions, batch by batch, on the CPU, in float32. Two
            dozen completions of 48 tokens with a vocabulary of 49,152 take at most 226 MB.
    """

    texts: tuple[TextScore, ...]
    completions: tuple[tuple[int, ...], ...]
    logprobs: tuple[torch.Tensor, ...]


@torch.inference_mode()
def observe(model: Any, probe: Probe, settings: Settings | None = None) -> BaseScores:
    """Measure the untouched model.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        probe: texts and prompts.
        settings: how to measure. The defaults if None.

    Raises:
        ModelError: a text or a completion is longer than the model supports, or the model's numbers are not finite.
    """
    settings = settings or Settings()
    texts = score_texts(model, probe, settings)
    completions = greedy_completions(model, probe, settings)
    batches = _batches(probe.completion_trees(completions), settings)
    logprobs = tuple(learned_logprobs(model, batch.to(model.device)).cpu() for batch in batches)
    return BaseScores(tuple(texts), tuple(completions), logprobs)


@torch.inference_mode()
def compare(untouched: BaseScores, model: Any, probe: Probe, settings: Settings | None = None) -> Retention:
    """Compare a tuned model with the untouched one.

    Args:
        untouched: the scores of the untouched model, from `observe`.
        model: the tuned model, in evaluation mode.
        probe: the texts and prompts that `observe` was given.
        settings: the settings that `observe` was given.

    Raises:
        ModelError: as for `observe`, or the tuned model has a smaller vocabulary.
    """
    settings = settings or Settings()
    texts = score_texts(model, probe, settings)
    completions = greedy_completions(model, probe, settings)
    divergences_of: dict[str, list[float]] = {prompt.id: [] for prompt in probe.prompts}
    batches = _batches(probe.completion_trees(untouched.completions), settings)
    for batch, logprob_PV in zip(batches, untouched.logprobs, strict=True):
        tuned_PV = learned_logprobs(model, batch.to(model.device))
        divergences = kl_divergence(logprob_PV.to(tuned_PV.device), tuned_PV).tolist()
        for name, divergence in zip(_owners(batch), divergences, strict=True):
            divergences_of[name].append(divergence)
    scored = [
        CompletionScore(
            prompt.id,
            prompt.kind,
            num_tokens=len(divergences_of[prompt.id]),
            kl=math.fsum(divergences_of[prompt.id]) / len(divergences_of[prompt.id]),
            unchanged=old == new,
            untouched=decode_tokens(probe.tokenizer, old),
            tuned=decode_tokens(probe.tokenizer, new),
        )
        for prompt, old, new in zip(probe.prompts, untouched.completions, completions, strict=True)
    ]
    return Retention(untouched.texts, tuple(texts), tuple(scored))


def adapter_retention(model: Any, probe: Probe, settings: Settings | None = None) -> Retention:
    """Measure the retention of a peft model.

    With its adapter switched off it *is* the untouched model, so one model in memory is enough.

    Args:
        model: a peft model whose adapter is not merged, in evaluation mode.
        probe: texts and prompts.
        settings: how to measure.
    """
    with model.disable_adapter():
        untouched = observe(model, probe, settings)
    return compare(untouched, model, probe, settings)


@torch.inference_mode()
def score_texts(model: Any, probe: Probe, settings: Settings) -> list[TextScore]:
    """Score how well a model predicts the passages.

    Raises:
        ModelError: a passage is longer than the model supports, or the model's numbers are not finite.
    """
    nll: dict[str, float] = {}
    with progress(len(probe.trees), "general text", "passages") as bar:
        for batch in _batches(probe.trees, settings):
            placed = batch.to(model.device)
            for branches in branch_logprobs(placed, score_tokens(model, placed)):
                nll.update({tree: -float(logprob) for (tree, _), logprob in branches.items()})
                bar.update(len(branches))
    if not all(map(math.isfinite, nll.values())):
        raise _broken(model)
    counts = [int(tree.learn_weight) for tree in probe.trees]
    return [
        TextScore(text.id, count, num_bytes, nll[text.id])
        for text, count, num_bytes in zip(probe.texts, counts, probe.num_bytes, strict=True)
    ]


def kl_divergence(untouched_PV: torch.Tensor, tuned_PV: torch.Tensor) -> torch.Tensor:
    """KL(untouched || tuned) of each row in nats, summed exactly over the whole vocabulary.

    A token that only the tuned model has gets probability 0 from the untouched one, and adds nothing to the sum.

    >>> p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    >>> kl_divergence(p.log(), q.log()) / math.log(2)
    tensor([0.2500])

    Args:
        untouched_PV: log-probabilities.
        tuned_PV: log-probabilities over the same tokens, and possibly more.

    Raises:
        ModelError: the tuned model has fewer tokens in its vocabulary.
    """
    num_tokens = untouched_PV.shape[1]
    if tuned_PV.shape[1] < num_tokens:
        raise ModelError(
            f"the tuned model has {tuned_PV.shape[1]} tokens and the untouched one {num_tokens}",
            "Give the very model that was fine-tuned as --base.",
        )
    pairs = zip(torch.split(untouched_PV, _ROWS), torch.split(tuned_PV, _ROWS), strict=True)
    return torch.cat([(p.exp() * (p - q[:, :num_tokens])).sum(dim=-1) for p, q in pairs])


def learned_logprobs(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Log-probabilities [P, V] at every position that predicts a learned token, in at least float32.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        batch: the packed trees, on the model's device.

    Raises:
        ModelError: the model's numbers are not finite, or a branch is longer than the model supports.
    """
    row_P, column_P = (batch.learn_BT != 0).nonzero(as_tuple=True)
    flat_P = row_P * batch.token_BT.shape[1] + batch.predictor_BT[row_P, column_P]
    logits_PV = logits_at(model, batch, flat_P)
    if not bool(torch.isfinite(logits_PV).all()):
        raise _broken(model)
    return torch.log_softmax(logits_PV, dim=-1, dtype=torch.promote_types(logits_PV.dtype, torch.float32))


def _owners(batch: PackedBatch) -> list[str]:
    """The name of the tree of each learned token, in the order of `learned_logprobs`."""
    places = (batch.learn_BT != 0).nonzero().tolist()
    return [batch.rows[row].nodes[int(batch.node_BT[row, column])][0] for row, column in places]


def _batches(trees: Sequence[PrefixTree], settings: Settings) -> list[PackedBatch]:
    """Pack trees into batches. The same trees always give the same batches."""
    row_tokens = padded_length(max(tree.num_tokens for tree in trees))
    return PackedBatch.pack(trees, row_tokens=row_tokens, tokens_per_batch=settings.tokens_per_batch)


@torch.inference_mode()
def greedy_completions(model: Any, probe: Probe, settings: Settings) -> list[tuple[int, ...]]:
    """The model's greedy completions to the prompts, as tokens. They include the end of the turn if it comes.

    Raises:
        ModelError: a prompt with its completion is longer than the model supports.
    """
    stops = {probe.end_of_turn, *sequence_ends(model)}
    prompts = probe.prompt_tokens()
    needs = [len(prompt) + settings.max_new_tokens for prompt in prompts]
    cache = PrefixCache(model, max(settings.tokens_per_batch, *needs))
    completions: list[tuple[int, ...]] = []
    with progress(len(prompts), "chat completions", "prompts") as bar:
        while len(completions) < len(prompts):
            start = len(completions)
            fitting = sum(used <= cache.capacity for used in accumulate(needs[start:]))
            completions.extend(_continue(cache, prompts[start : start + fitting], stops, settings.max_new_tokens))
            bar.update(fitting)
    return completions


def _continue(
    cache: PrefixCache, prompts: Sequence[Sequence[int]], stops: set[int], limit: int
) -> list[tuple[int, ...]]:
    """The greedy completion of each prompt."""
    cache.truncate(0)
    slots = [cache.append(prompt, -1) for prompt in prompts]
    growths = grow(cache, slots, likeliest, limits=limit, stop_tokens=stops)
    return [(*growth.tokens, *(() if growth.end is None else (growth.end,))) for growth in growths]


def _broken(model: Any) -> ModelError:
    return ModelError(f"{model_name(model)} gives numbers that are not finite", "Train it with a lower learning rate.")
