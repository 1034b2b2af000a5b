"""Rollouts: what is asked of a sampler, what it gives back, and the interface that every sampler has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from palmette.errors import PackingError
from palmette.tree.segments import decode_tokens

Finish = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token each time.
        top_p: tokens are drawn from the smallest set of likeliest ones whose probability, at this temperature, reaches this much (nucleus
            sampling; Holtzman et al., 2020). The likeliest token is always in it; of equally likely ones those of lower id come first.
        max_new_tokens: where an endless completion is cut.
        stop: strings that end a completion wherever they first stand in its text, across tokens too.
        seed: of all draws.

    Raises:
        ValueError: a value out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"a temperature of {self.temperature!r} is not a number from 0 on")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"a top_p of {self.top_p!r} is not above 0 and at most 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, below 1")
        if not isinstance(self.stop, tuple) or "" in self.stop:
            raise ValueError(f"stop is {self.stop!r}: it takes a tuple of strings, none of them empty")
        if self.seed < 0:
            raise ValueError(f"a seed of {self.seed} is below 0")

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the model's own distribution."""
        return self.temperature == 1 and self.top_p == 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion that was sampled.

    Attributes:
        tokens: every token that was drawn, the one that ended it among them: the end-of-turn token, or those of the stop string. All of
            them are the policy's doing, so all are to be learned from, or weighed.
        logprobs: the log-probability of each under the model as it is, at temperature 1 and with every token allowed (nats): what the
            training forward gives for the same tokens.
        sampling_logprobs: the log-probability of each under the distribution it was drawn from: 0 at temperature 0; None where the sampler
            cannot tell.
        text: what was said, without the token or the string that ended it.
        num_text_tokens: how many of the tokens, from the first on, lie within the text. What the text holds beyond them stands in a token
            that also holds the beginning of the stop string.
        finish: what ended it: "end", an end token; "stop", a stop string; "length", the limit.
        sampling: how it was drawn.
        key: the number of its prompt's draws; `seed`, `key` and `index` determine them.
        index: which of its prompt's samples it is.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    sampling_logprobs: tuple[float, ...] | None
    text: str
    num_text_tokens: int
    finish: Finish
    sampling: Sampling
    key: int
    index: int


class RolloutSampler(Protocol):
    """Whatever samples completions."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        *,
        keys: Sequence[int] | None = None,
    ) -> Iterator[list[Rollout]]:
        """Sample completions of prompts, with the weights as they are; take all of them before the weights change.

        Args:
            prompts: tokens of each prompt.
            num_samples: completions of each.
            sampling: how they are drawn.
            keys: a number for each prompt (from 0 on), which with the seed determines its draws; its place among the prompts if None.

        Yields:
            The completions of each prompt, in their order.

        Raises:
            PackingError: a prompt is empty, or does not fit.
            ModelError: a prompt with its completion is longer than the model was made for.
        """
        ...


def check_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, room: int, room_name: str) -> None:
    """See that there is something to go on from, and room to do so.

    Args:
        prompts: tokens of each prompt.
        sampling: how completions are drawn.
        room: tokens there are for a prompt with one completion.
        room_name: what the caller calls this number.

    Raises:
        PackingError: a prompt is empty, or does not fit.
    """
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise PackingError(f"prompt {index} is empty: nothing predicts a first token", "Begin it with some token.")
        need = len(prompt) + sampling.max_new_tokens
        if need > room:
            raise PackingError(
                f"prompt {index} needs {need} tokens with a completion; {room_name} is {room}",
                f"Raise {room_name}, lower max_new_tokens, or shorten the prompt.",
            )


def checked_keys(num_prompts: int, num_samples: int, keys: Sequence[int] | None) -> Sequence[int]:
    """The number of each prompt's draws; its place if none are given.

    Raises:
        ValueError: fewer than one sample is asked for; there are not as many keys as prompts, or one is below 0.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}, below 1")
    if keys is None:
        return range(num_prompts)
    if len(keys) != num_prompts or any(key < 0 for key in keys):
        raise ValueError(f"there are {len(keys)} keys for {num_prompts} prompts, or one is below 0")
    return keys


def completion_text(tokenizer: Any, tokens: Sequence[int], finish: Finish, stop: Sequence[str]) -> tuple[str, int]:
    """The text of a completion, without what ended it, and how many leading tokens lie within it.

    Args:
        tokenizer: the tokenizer.
        tokens: every token that was drawn.
        finish: what ended it.
        stop: the stop strings.
    """
    kept = tokens[:-1] if finish == "end" else tokens
    text = decode_tokens(tokenizer, kept)
    if finish != "stop":
        return text, len(kept)
    cut = cut_at(text, stop)
    text = text if cut is None else cut
    counts = range(len(kept), 0, -1)
    return text, next((count for count in counts if text.startswith(decode_tokens(tokenizer, kept[:count]))), 0)


def cut_at(text: str, stop: Sequence[str]) -> str | None:
    """A text up to the first of the stop strings in it; None where there is none.

    >>> cut_at("red, green; blue", (";", ", "))
    'red'
    """
    places = [place for place in (text.find(string) for string in stop) if place >= 0]
    return text[: min(places)] if places else None
