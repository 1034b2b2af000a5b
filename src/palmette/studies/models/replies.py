"""What a model says: greedy replies to prompts, as they stand and through its chat template, and its first tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palmette.data.general import ChatPrompt
from palmette.decode.growth import grow, likeliest
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import sequence_ends
from palmette.evaluate.retention.probe import Probe
from palmette.model.forward import check_positions
from palmette.studies.models.texts import Prompt
from palmette.tasks.text_pieces import beginning
from palmette.tree.segments import TextEncoder, decode_tokens

_FIRST = 5  # first tokens that are listed


@dataclass(frozen=True)
class _Put:
    """A prompt as it is put to a model."""

    prompt: Prompt
    form: str
    tokens: list[int]


@torch.inference_mode()
def replies_of(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], *, chats: bool, max_new_tokens: int
) -> tuple[list[dict[str, Any]], float]:
    """The greedy replies of a model to prompts. All of them grow side by side.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        prompts: the prompts.
        chats: whether it has a chat template. Without one, prompts are only put as they stand.
        max_new_tokens: longest reply, in tokens.

    Returns:
        For each prompt and form a record with `prompt`, `form` ("raw" or "chat"), `put`, `reply`, `tokens`, `finish`
        ("end" or "length"), `first` (the likeliest first tokens with their probabilities) and `entropy` of the first
        token in nats. And the tokens written a second.

    Raises:
        ModelError: a prompt with its reply is longer than the model supports.
        TemplateError: the chat template does not take a question.
    """
    puts, stops = _puts(tokenizer, prompts, chats)
    stops |= set(sequence_ends(model))
    if not puts:
        return [], 0.0
    longest = max(len(one.tokens) for one in puts) + max_new_tokens
    check_positions(model, longest, "the longest prompt, with its reply,")
    cache = PrefixCache(model, sum(len(one.tokens) + max_new_tokens for one in puts))
    slots = [cache.append(one.tokens, -1) for one in puts]
    firsts: list[torch.Tensor] = []

    def choose(logits_RV: torch.Tensor, branches: Sequence[int]) -> list[int]:
        if not firsts:
            firsts.append(torch.log_softmax(logits_RV.float(), dim=-1))
        return likeliest(logits_RV, branches)

    started = time.monotonic()
    grown = grow(cache, slots, choose, limits=max_new_tokens, stop_tokens=stops)
    seconds = time.monotonic() - started
    records = [
        {
            "prompt": one.prompt.id,
            "form": one.form,
            "put": decode_tokens(tokenizer, one.tokens),
            "reply": decode_tokens(tokenizer, growth.tokens),
            "tokens": len(growth.tokens),
            "finish": "end" if growth.reason == "end" else "length",
            **_first(tokenizer, logprob_V),
        }
        for one, growth, logprob_V in zip(puts, grown, firsts[0], strict=True)
    ]
    return records, sum(len(growth.tokens) for growth in grown) / seconds


def _puts(tokenizer: Any, prompts: Sequence[Prompt], chats: bool) -> tuple[list[_Put], set[int]]:
    """The prompts as tokens, and the tokens that end a turn of the assistant."""
    encoder, begin = TextEncoder(tokenizer), beginning(tokenizer)
    puts = [_Put(one, "raw", [*begin, *encoder.content(one.raw)]) for one in prompts if one.raw is not None]
    asked = [one for one in prompts if one.chat is not None] if chats else []
    if not asked:
        return puts, set()
    probe = Probe(tokenizer, (), [ChatPrompt(one.id, one.kind, one.chat or "") for one in asked])
    puts += [_Put(one, "chat", tokens) for one, tokens in zip(asked, probe.prompt_tokens(), strict=True)]
    return puts, {probe.end_of_turn}


def _first(tokenizer: Any, logprob_V: torch.Tensor) -> dict[str, Any]:
    top = logprob_V.topk(min(_FIRST, len(logprob_V)))
    probability_V = logprob_V.exp()
    return {
        "first": [
            [decode_tokens(tokenizer, [token]), value]
            for token, value in zip(top.indices.tolist(), top.values.exp().tolist(), strict=True)
        ],
        "entropy": float(-torch.nan_to_num(probability_V * logprob_V).sum()),
    }
