"""Free reasoning: the model writes text up to a limit, then the opening of its answer is inserted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.decode.growth import grow, likeliest
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import DataError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.segments import decode_tokens


def end_tokens(model: Any, task: ExtractiveQa) -> list[int]:
    """Tokens that end a completion: the template's end of a turn, and those with which the model ends sequences."""
    return sorted({task.end_of_turn(), *sequence_ends(model)})


def sequence_ends(model: Any) -> list[int]:
    """Tokens that end a sequence by the model's own configuration."""
    eos = model.generation_config.eos_token_id
    return [] if eos is None else [int(token) for token in eos] if isinstance(eos, list) else [int(eos)]


def check_place(task: ExtractiveQa) -> None:
    """Refuse free reasoning if the prompt has no place for it.

    Raises:
        DataError: the model has pause tokens there, the prompt has two turns, or it asks for JSON alone and no
            rationale was learned.
    """
    kind, prompt = task.reasoning.kind, task.prompt
    if kind == "pause" or prompt.two_turns:
        what = "pause tokens" if kind == "pause" else "a prompt of two turns"
        raise DataError(f"a model with {what} does not reason freely", "Leave out the limit for reasoning.")
    if kind == "none" and not prompt.reasons:
        raise DataError(
            "the prompt asks for JSON alone, so there is nothing to reason freely about",
            "Take a prompt that reasons, such as json_think, or leave out the limit for reasoning.",
        )


@dataclass(frozen=True, slots=True)
class FreeReasoning:
    """The reasoning before the opening of an answer.

    Attributes:
        slot: the slot of its last token in the cache. The slot below which it began if it is empty.
        text: its text.
    """

    slot: int
    text: str


def reason(
    cache: PrefixCache, slots: Sequence[int], tokenizer: Any, opening: str, *, limit: int, stops: Collection[int]
) -> list[FreeReasoning]:
    """Let a model reason below each slot, greedily.

    The reasoning ends where the model opens its answer, where it ends its turn, or at the limit. The opening itself is
    cut off, since the caller inserts it in the tokens that were learned.

    Args:
        cache: the cache, with tokens that have not been read.
        slots: where each branch begins, among the tokens not read yet.
        tokenizer: decodes tokens.
        opening: the text that opens an answer.
        limit: the most tokens of a reasoning.
        stops: the tokens that end a turn.
    """
    opens = opening.strip()

    def text(tokens: Sequence[int]) -> str:
        return decode_tokens(tokenizer, tokens)

    grown = grow(cache, slots, likeliest, limits=limit, stop_tokens=stops, stop=lambda _, tokens: opens in text(tokens))
    reasoned = []
    for growth in grown:
        tokens = growth.tokens
        at = text(tokens).find(opens)
        length = len(tokens) if at < 0 else max(n for n in range(len(tokens)) if len(text(tokens[:n])) <= at)
        reasoned.append(FreeReasoning(growth.slots[length], text(tokens[:length])))
    return reasoned
