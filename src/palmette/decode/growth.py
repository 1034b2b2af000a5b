"""Branches of a prefix cache grown token by token, all of them in each pass.

Letters: R growing branches, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from palmette.decode.prefix_cache import PrefixCache

# Logits [R, V] and the index of the branch that each row belongs to, to one token id for each row.
Chooser = Callable[[torch.Tensor, Sequence[int]], Sequence[int]]


@dataclass(eq=False, slots=True)
class Growth:
    """What grew below one slot.

    Attributes:
        slots: where the branch began in the cache, then where each kept token stands, so that more can be appended below it.
        tokens: the kept tokens; a stop token is not among them.
        reason: what ended it: "end", a stop token; "stop", the rule; "length", the limit.
        end: the stop token that ended it, if one did. It was chosen, but does not stand in the cache.
    """

    slots: list[int]
    tokens: list[int] = field(default_factory=list)
    reason: Literal["end", "stop", "length"] = "length"
    end: int | None = None

    @property
    def slot(self) -> int:
        """Where it ends."""
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

    Kept tokens are appended to the cache, at most the limits' sum; where a branch was not ended by a stop token, the last of them has
    not been read yet. Branches may share a slot. Reading on from the cache takes torch.inference_mode, under which it was filled.

    Args:
        cache: the cache, with tokens that have not been read.
        slots: where each branch begins: slots among the tokens not read yet.
        choose: picks the next token of each growing branch; called once a pass.
        limits: the most tokens of each branch, or of all alike.
        stop_tokens: these end a branch and are not kept.
        stop: called with a branch's index and its tokens after each kept one; True ends it, and keeps the token.

    Returns:
        What grew below each slot, in their order.

    Raises:
        PackingError: the cache has no room, or a slot was read before.
        ModelError: a branch is longer than the model's positions.
    """
    found = [Growth([slot]) for slot in slots]
    most = [limits] * len(found) if isinstance(limits, int) else limits
    growing = [index for index, (_, limit) in enumerate(zip(found, most, strict=True)) if limit > 0]
    while growing:
        logits_RV = cache.read([found[index].slot for index in growing])
        chosen = choose(logits_RV, growing)
        going_on = []
        for index, token in zip(growing, chosen, strict=True):
            branch = found[index]
            if token in stop_tokens:
                branch.reason, branch.end = "end", token
                continue
            branch.tokens.append(token)
            branch.slots.append(cache.append((token,), branch.slot))
            if stop is not None and stop(index, branch.tokens):
                branch.reason = "stop"
            elif len(branch.tokens) < most[index]:
                going_on.append(index)
        growing = going_on
    return found


def likeliest(logits_RV: torch.Tensor, _: Sequence[int]) -> list[int]:
    """The greedy choice."""
    chosen: list[int] = logits_RV.argmax(dim=-1).tolist()
    return chosen
