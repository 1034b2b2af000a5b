"""Branches of a prefix cache that grow token by token, all of them in each pass.

Letters: R growing branches, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from palmette.decode.prefix_cache import PrefixCache

# From logits [R, V] and the index of the branch of each row to one token id for each row.
Chooser = Callable[[torch.Tensor, Sequence[int]], Sequence[int]]


@dataclass(eq=False, slots=True)
class Growth:
    """The branch that grew below one slot.

    Attributes:
        slots: the slot below which the branch began, then the slot of each of its tokens, so that more can be appended.
        tokens: the tokens of the branch, without a stop token.
        reason: why it ended. "end": a stop token. "stop": the rule. "length": the limit.
        end: the stop token that ended it, if one did. It was chosen, but is not in the cache.
    """

    slots: list[int]
    tokens: list[int] = field(default_factory=list)
    reason: Literal["end", "stop", "length"] = "length"
    end: int | None = None

    @property
    def slot(self) -> int:
        """The slot of its end."""
        return self.slots[-1]


@torch.inference_mode()
def grow(
    cache: PrefixCache,
    slots: Sequence[int],
    choose: Chooser,
    *,
    limits: int | Sequence[int],
    stop_tokens: Collection[int] = (),
    stop: Callable[[int, Sequence[int]], bool] | None = None,
) -> list[Growth]:
    """Grow a branch below each slot until it ends.

    Tokens are appended to the cache, at most the sum of the limits. If a branch was not ended by a stop token, its last
    token has not been read yet. Branches may share a slot. To read further from the cache, stay in
    torch.inference_mode, under which it was filled.

    Args:
        cache: the cache, with tokens that have not been read.
        slots: where each branch begins, among the tokens not read yet.
        choose: picks the next token of each growing branch. It is called once in each pass.
        limits: the most tokens of each branch, or of every branch.
        stop_tokens: tokens that end a branch and are not added to it.
        stop: called with the index of a branch and its tokens after each new one. True ends the branch with that token.

    Returns:
        The branch below each slot, in the order of the slots.

    Raises:
        PackingError: the cache has no room, or a slot was read before.
        ModelError: a branch is longer than the model's positions.
    """
    branches = [Growth([slot]) for slot in slots]
    most = [limits] * len(branches) if isinstance(limits, int) else limits
    growing = [index for index, (_, limit) in enumerate(zip(branches, most, strict=True)) if limit > 0]
    while growing:
        logits_RV = cache.read([branches[index].slot for index in growing])
        chosen = choose(logits_RV, growing)
        remaining = []
        for index, token in zip(growing, chosen, strict=True):
            branch = branches[index]
            if token in stop_tokens:
                branch.reason, branch.end = "end", token
                continue
            branch.tokens.append(token)
            branch.slots.append(cache.append((token,), branch.slot))
            if stop is not None and stop(index, branch.tokens):
                branch.reason = "stop"
            elif len(branch.tokens) < most[index]:
                remaining.append(index)
        growing = remaining
    return branches


def likeliest(logits_RV: torch.Tensor, _: Sequence[int]) -> list[int]:
    """The greedy choice."""
    chosen: list[int] = logits_RV.argmax(dim=-1).tolist()
    return chosen
