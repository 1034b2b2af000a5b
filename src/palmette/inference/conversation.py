"""A conversation with a model: replies to messages, written token by token.

The messages so far are the trunk of a prefix tree, and the reply grows as its one branch. What a turn shares with the
one before is not read again. Text of people and of the model is content, which never becomes a control token
(`tree/segments.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import torch

from palmette.data.records import check_unicode
from palmette.decode.drawing import draw
from palmette.decode.growth import Growth, grow
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import sequence_ends
from palmette.errors import DataError, ModelError
from palmette.inference.streamed import StreamedText
from palmette.model.forward import check_positions, model_name
from palmette.tree.chat import ChatTemplate, Message, Piece

_FIRST_CAPACITY = 2048  # tokens of a cache. Its mask takes the square of that number in bytes, so it grows as needed.


@dataclass(frozen=True)
class Generation:
    """How replies are drawn.

    Attributes:
        temperature: divisor of the logits. 0 takes the likeliest token each time, so the same messages get the same
            replies.
        top_p: draw from the likeliest tokens with this total probability.
        max_new_tokens: longest reply, in tokens. A longer one is cut.
        seed: random seed of the conversation.

    Raises:
        DataError: a value is out of its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise DataError(f"a temperature of {self.temperature} cannot be used", "Give a number, 0 or more.")
        if not 0 < self.top_p <= 1:
            raise DataError(f"a top-p of {self.top_p} cannot be used", "Give a number above 0 and at most 1.")
        if self.max_new_tokens < 1:
            raise DataError(f"{self.max_new_tokens} new tokens hold no reply", "Give 1 or more.")


@dataclass(frozen=True)
class Reply:
    """A reply of the model.

    Attributes:
        text: its text, without the token that ended it.
        num_tokens: its number of tokens.
        finish: "end" if the model ended it, "length" if it was cut, "interrupted" if the user stopped it.
    """

    text: str
    num_tokens: int
    finish: Literal["end", "length", "interrupted"]


class Conversation:
    """Messages and replies, in turn.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        system: the system message, if there is one.
        generation: how replies are drawn.

    Raises:
        TemplateError: the tokenizer has no chat template.
        DataError: the system message cannot be encoded.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, system: str | None = None, generation: Generation | None = None
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._generation = generation or Generation()
        # Literal, since nobody can correct what the model has written.
        self._template = ChatTemplate(tokenizer, literal=True)
        if system:
            check_unicode(system, "the system message")
        self._system = (Message("system", (Piece(system),)),) if system else ()
        self._cache = PrefixCache(model, 0)
        self.restart()

    def restart(self) -> None:
        """Forget all messages and replies. The random numbers start anew too."""
        self._messages: list[Message] = list(self._system)
        self._tokens: tuple[int, ...] = ()  # in the cache
        self._random = np.random.default_rng(self._generation.seed)

    def go_on(self, said: Sequence[tuple[str, str]]) -> None:
        """Go on after other messages and replies. What they share with the last ones is not read again.

        Args:
            said: messages, each with its reply. One without any text is left out with its message.
        """
        turns = (
            (Message("user", (Piece(one),)), Message("assistant", (Piece(reply),)))
            for one, reply in said
            if reply.strip()
        )
        self._messages = [*self._system, *(message for turn in turns for message in turn)]

    @property
    def num_turns(self) -> int:
        """The number of messages and replies, without the system message."""
        return len(self._messages) - len(self._system)

    def reply(self, text: str, written: Callable[[str], None] = lambda _: None) -> Reply:
        """Reply to a message.

        KeyboardInterrupt ends the reply. What was written stays a part of the conversation.

        Args:
            text: the message.
            written: called with each piece of the reply as soon as it is known. All of them together are its text.

        Raises:
            DataError: the message is empty, or cannot be encoded.
            TemplateError: the chat template does not take the message.
            ModelError: the conversation with a reply is longer than the model's positions, or the model's
                probabilities are not numbers. The conversation is as it was before the message.
        """
        if not text.strip():
            raise DataError("the message is empty", "Write something.")
        check_unicode(text, "the message")
        messages = [*self._messages, Message("user", (Piece(text),))]
        prompt, stops = self._prompt(messages)
        what = f"the conversation of {len(messages) - len(self._system)} messages, with a reply,"
        check_positions(self._model, len(prompt) + self._generation.max_new_tokens, what)
        slot = self._read(prompt)
        streamed = StreamedText(self._tokenizer, written)
        try:
            (growth,) = grow(
                self._cache,
                [slot],
                self._choose,
                limits=self._generation.max_new_tokens,
                stop_tokens=stops,
                stop=lambda _, tokens: streamed.add(tokens),
            )
            finish: Literal["end", "length", "interrupted"] = "end" if growth.reason == "end" else "length"
        except KeyboardInterrupt:
            growth, finish = Growth([slot], list(streamed.tokens)), "interrupted"
        self._tokens = (*prompt, *growth.tokens)
        reply = Reply(streamed.end(growth.tokens), len(growth.tokens), finish)
        # A reply without text has no place in the template, so its turn is left out.
        self._messages = (
            [*messages, Message("assistant", (Piece(reply.text),))] if reply.text.strip() else messages[:-1]
        )
        return reply

    def _prompt(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], set[int]]:
        """The tokens up to where the reply begins, and the tokens that end it."""
        tokens, end = self._template.open_reply(messages)
        return tokens, {end, *sequence_ends(self._model)}

    def _read(self, prompt: Sequence[int]) -> int:
        """Put the prompt into the cache, but for what is there already. The result is the slot of its last token."""
        need = len(prompt) + self._generation.max_new_tokens
        if need > self._cache.capacity:
            self._cache = PrefixCache(self._model, max(need, 2 * self._cache.capacity, _FIRST_CAPACITY))
            self._tokens = ()
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, self._tokens, strict=False)))
        kept = min(common, len(prompt) - 1)  # the last token is computed again, since the reply begins there
        self._cache.truncate(kept)
        self._tokens = tuple(prompt)
        return self._cache.append(prompt[kept:], kept - 1)

    def _choose(self, logits_RV: torch.Tensor, _: Sequence[int]) -> list[int]:
        uniform_R = torch.tensor([self._random.random()], dtype=torch.float64, device=logits_RV.device)
        token_R, logprob_R, _own = draw(logits_RV, uniform_R, self._generation.temperature, self._generation.top_p)
        if math.isnan(float(logprob_R)):
            raise ModelError(
                f"{model_name(self._model)} gives probabilities that are not numbers", "Load another model."
            )
        return [int(token_R)]
