"""Sampling rollouts on the prefix tree.

All samples of a prompt share its keys and values, and prompts share those of a common beginning. Completions grow as
branches, one token of each in a forward pass.

Every sample has its own random numbers, which the seed, its prompt's key and its index determine. Each number decides
one
token: the token in whose interval of the cumulative distribution, in the order of the vocabulary, the number falls. So
    the
way in which prompts share batches changes a sample only where the rounding of logits moves a border across the number.

Not covered: placeholders (attend = False) between prompt and completion.

Letters: R growing branches, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import torch

from palmette.decode.drawing import draw
from palmette.decode.growth import Growth, grow
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.trie import SpanTrie
from palmette.errors import ModelError
from palmette.model.forward import check_positions, evaluating, model_name
from palmette.rollouts.sampling import Rollout, Sampling, check_prompts, checked_keys, completion_text, cut_at
from palmette.tree.segments import decode_tokens

_ROWS = 64  # rows of logits that are processed at once


@dataclass(slots=True)
class _Batch:
    """Samples that grow side by side.

    Attributes:
        trie: the tokens of their prompts. The token of node n is at slot n - 1 of the cache.
        samples: (prompt, index of the sample) of each sample, in order.
        reserved: most tokens that their completions need.
    """

    trie: SpanTrie = field(default_factory=SpanTrie)
    samples: list[tuple[int, int]] = field(default_factory=list)
    reserved: int = 0

    @property
    def num_tokens(self) -> int:
        """Most tokens that the batch can hold."""
        return len(self.trie) - 1 + self.reserved


class Sampler:
    """Samples completions of prompts.

    Args:
        model: a causal language model with one of our attention backends. It is in evaluation mode while it samples.
        tokenizer: its tokenizer, for texts and stop strings.
        end_tokens: tokens that end a completion, such as the template's end of a turn.
        tokens_per_batch: most tokens of a prefix tree at one time. It bounds the memory: the keys and values of so many
            tokens, and a mask of its square in bytes. A prompt counts once for all its samples. Each sample counts with
            `max_new_tokens`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, end_tokens: Collection[int], tokens_per_batch: int = 8192
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._end_tokens, self._tokens_per_batch = frozenset(end_tokens), tokens_per_batch

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        *,
        keys: Sequence[int] | None = None,
    ) -> Iterator[list[Rollout]]:
        """Sample completions as `RolloutSampler.sample` does. All prompts are checked before the first is sampled."""
        keys = checked_keys(len(prompts), num_samples, keys)
        check_prompts(prompts, sampling, self._tokens_per_batch, "tokens_per_batch")
        deepest = max(map(len, prompts), default=0) + sampling.max_new_tokens
        check_positions(self._model, deepest, "the longest prompt, with its completion,")
        batches = list(_plan(prompts, num_samples, sampling.max_new_tokens, self._tokens_per_batch))
        return self._rollouts(batches, prompts, num_samples, sampling, keys)

    def _rollouts(
        self,
        batches: Sequence[_Batch],
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        keys: Sequence[int],
    ) -> Iterator[list[Rollout]]:
        cache = PrefixCache(self._model, max((batch.num_tokens for batch in batches), default=0))
        last: Sequence[int] = ()
        rollouts: list[Rollout] = []
        for batch in batches:
            chooser = _Chooser(self._model, sampling, [(keys[prompt], index) for prompt, index in batch.samples])
            with evaluating(self._model):
                slots = _read_in(cache, batch, prompts, last)
                growths = grow(
                    cache,
                    slots,
                    chooser.choose,
                    limits=sampling.max_new_tokens,
                    stop_tokens=self._end_tokens,
                    stop=self._stop_rule(sampling),
                )
            last = prompts[batch.samples[0][0]]
            for row, growth in enumerate(growths):
                rollouts.append(self._rollout(growth, chooser, row))
                if len(rollouts) == num_samples:
                    yield rollouts
                    rollouts = []

    def _stop_rule(self, sampling: Sampling) -> Any:
        if not sampling.stop:
            return None
        return lambda _, tokens: cut_at(decode_tokens(self._tokenizer, tokens), sampling.stop) is not None

    def _rollout(self, growth: Growth, chooser: _Chooser, row: int) -> Rollout:
        tokens = (*growth.tokens, *(() if growth.end is None else (growth.end,)))
        text, num_text_tokens = completion_text(self._tokenizer, tokens, growth.reason, chooser.sampling.stop)
        key, index = chooser.samples[row]
        return Rollout(
            tokens=tokens,
            logprobs=tuple(chooser.logprobs[row]),
            sampling_logprobs=tuple(chooser.sampling_logprobs[row]),
            text=text,
            num_text_tokens=num_text_tokens,
            finish=growth.reason,
            sampling=chooser.sampling,
            key=key,
            index=index,
        )


def _plan(
    prompts: Sequence[Sequence[int]], num_samples: int, max_new_tokens: int, tokens_per_batch: int
) -> Iterator[_Batch]:
    """Batches in the order of the prompts. A prompt's samples go to several batches if they do not fit into one."""
    batch = _Batch()
    for prompt, tokens in enumerate(prompts):
        for index in range(num_samples):
            need = len(tokens) - _num_shared(batch.trie, tokens) + max_new_tokens
            if batch.samples and batch.num_tokens + need > tokens_per_batch:
                yield batch
                batch = _Batch()
            batch.trie.grow(tokens)
            batch.samples.append((prompt, index))
            batch.reserved += max_new_tokens
    if batch.samples:
        yield batch


def _num_shared(trie: SpanTrie, tokens: Sequence[int]) -> int:
    """Number of leading tokens that the trie holds already."""
    node = 0
    for count, token in enumerate(tokens):
        following = trie.children[node].get(token)
        if following is None:
            return count
        node = following
    return len(tokens)


def _read_in(cache: PrefixCache, batch: _Batch, prompts: Sequence[Sequence[int]], last: Sequence[int]) -> list[int]:
    """Append the prompts of a batch to the cache, each common beginning once.

    Tokens that its first prompt shares with the first prompt of the batch before (`last`) stay in the cache. The last
    token of a prompt is computed again, since a sample begins there.

    Returns:
        The slot at which each sample begins.
    """
    order = list(dict.fromkeys(prompt for prompt, _ in batch.samples))
    first = prompts[order[0]]
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    cache.truncate(min(common, *(len(prompts[prompt]) - 1 for prompt in order)))
    begins: dict[int, int] = {}
    for prompt in order:
        tokens, slots = prompts[prompt], [node - 1 for node in batch.trie.grow(prompts[prompt])]
        held = sum(slot < cache.length for slot in slots)
        begins[prompt] = cache.append(tokens[held:], slots[held - 1] if held else -1)
    return [begins[prompt] for prompt, _ in batch.samples]


class _Chooser:
    """Draws the next token of every sample, and records its log-probabilities.

    Args:
        model: the model that gives the logits, for messages.
        sampling: how tokens are drawn.
        samples: (key, index) of each sample.
    """

    def __init__(self, model: Any, sampling: Sampling, samples: Sequence[tuple[int, int]]) -> None:
        self._model = model
        self.sampling, self.samples = sampling, samples
        self.logprobs: list[list[float]] = [[] for _ in samples]
        self.sampling_logprobs: list[list[float]] = [[] for _ in samples]
        self._generators = [np.random.default_rng((sampling.seed, key, index)) for key, index in samples]

    def choose(self, logits_RV: torch.Tensor, rows: Sequence[int]) -> list[int]:
        """Draw one token for each row.

        Raises:
            ModelError: a logit is not a number.
        """
        uniform = [self._generators[row].random() for row in rows]
        uniform_R = torch.tensor(uniform, dtype=torch.float64, device=logits_RV.device)
        parts = zip(torch.split(logits_RV, _ROWS), torch.split(uniform_R, _ROWS), strict=True)
        drawn = [draw(part_RV, part_R, self.sampling.temperature, self.sampling.top_p) for part_RV, part_R in parts]
        tokens, logprobs, sampling_logprobs = (torch.cat(values).tolist() for values in zip(*drawn, strict=True))
        if any(map(math.isnan, logprobs)):
            raise ModelError(
                f"{model_name(self._model)} gives probabilities that are not numbers",
                "Load it in another dtype, or train it again with a lower learning rate.",
            )
        for row, logprob, sampling_logprob in zip(rows, logprobs, sampling_logprobs, strict=True):
            self.logprobs[row].append(logprob)
            self.sampling_logprobs[row].append(sampling_logprob)
        return list(tokens)
