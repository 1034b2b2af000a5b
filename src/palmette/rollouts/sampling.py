"""Rollouts: the settings of a sampler, its results, and the interface that every sampler has."""

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
        temperature: divisor of the logits. 0 takes the likeliest token each time.
        top_p: nucleus sampling (Holtzman et al., 2020). Tokens are drawn from the smallest set of likeliest tokens
            whose probability at this temperature reaches `top_p`. The likeliest token is always in the set. Among
            equally likely tokens, those with lower ids come first.
        max_new_tokens: most tokens of a completion. A longer one is cut.
        stop: strings that end a completion where they first occur in its text, also across tokens.
        seed: random seed of all draws.

    Raises:
        ValueError: a value is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"a temperature of {self.temperature!r} is not a finite number of 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"a top_p of {self.top_p!r} is not above 0 and at most 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, below 1")
        if not isinstance(self.stop, tuple) or "" in self.stop:
            raise ValueError(f"stop is {self.stop!r}, and it must be a tuple of strings, none of them empty")
        if self.seed < 0:
            raise ValueError(f"a seed of {self.seed} is below 0")

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the model's own distribution."""
        return self.temperature == 1 and self.top_p == 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """A sampled completion.

    Attributes:
        tokens: every token that was drawn, also those that ended it: the end-of-turn token, or the tokens of the stop
            string. The policy chose all of them, so all of them are learned from.
        logprobs: log-probability of each token under the model itself, at temperature 1 and with every token allowed
            (nats). The forward pass of training gives the same.
        sampling_logprobs: log-probability of each token under the distribution that it was drawn from. It is 0 at
            temperature 0. None if the sampler cannot tell.
        text: the text, without the token or string that ended it.
        num_text_tokens: number of leading tokens that are entirely in the text. The rest of the text is in a token that
            also holds the beginning of the stop string.
        finish: "end" if an end token ended it, "stop" for a stop string, "length" for the limit.
        sampling: how it was drawn.
        key: number of its prompt's draws. `seed`, `key` and `index` determine a completion.
        index: number of the sample among those of its prompt, from 0.
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
    """Anything that samples completions."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        *,
        keys: Sequence[int] | None = None,
    ) -> Iterator[list[Rollout]]:
        """Sample completions of prompts with the current weights. Take all results before the weights change.

        Args:
            prompts: tokens of each prompt.
            num_samples: number of completions of each prompt.
            sampling: how they are drawn.
            keys: a number of 0 or more for each prompt. With the seed it determines the prompt's draws. None numbers
                the prompts from 0.

        Yields:
            The completions of each prompt, in the order of the prompts.

        Raises:
            PackingError: a prompt is empty, or does not fit.
            ModelError: a prompt with its completion has more positions than the model supports.
        """
        ...


def check_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, room: int, room_name: str) -> None:
    """Check that each prompt has a token, and room for a completion.

    Args:
        prompts: tokens of each prompt.
        sampling: how completions are drawn.
        room: most tokens of a prompt with one completion.
        room_name: name of this limit, for messages.

    Raises:
        PackingError: a prompt is empty, or does not fit.
    """
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise PackingError(f"prompt {index} is empty, so nothing predicts its completion", "Begin it with a token.")
        need = len(prompt) + sampling.max_new_tokens
        if need > room:
            raise PackingError(
                f"prompt {index} needs {need} tokens with a completion, and {room_name} is {room}",
                f"Raise {room_name}, lower max_new_tokens, or shorten the prompt.",
            )


def checked_keys(num_prompts: int, num_samples: int, keys: Sequence[int] | None) -> Sequence[int]:
    """The number of each prompt's draws. Without keys, prompts are numbered from 0.

    Raises:
        ValueError: `num_samples` is below 1, there are not as many keys as prompts, or a key is below 0.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}, below 1")
    if keys is None:
        return range(num_prompts)
    if len(keys) != num_prompts or any(key < 0 for key in keys):
        raise ValueError(f"there are {len(keys)} keys for {num_prompts} prompts, or one is below 0")
    return keys


def completion_text(tokenizer: Any, tokens: Sequence[int], finish: Finish, stop: Sequence[str]) -> tuple[str, int]:
    """The text of a completion, without the token or string that ended it, and the number of leading tokens in it.

    Args:
        tokenizer: the tokenizer.
        tokens: every token that was drawn.
        finish: why the completion ended.
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
    """A text up to the first stop string in it. None if it holds none.

    >>> cut_at("red, green; blue", (";", ", "))
    'red'
    """
    places = [place for place in (text.find(string) for string in stop) if place >= 0]
    return text[: min(places)] if places else None
