"""Free reasoning: the model writes what it likes up to a limit, then the opening of its answer is written in."""

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
    """Tokens that end a completion: the template's end of a turn, and whatever else the model ends sequences with."""
    return sorted({task.end_of_turn(), *sequence_ends(model)})


def sequence_ends(model: Any) -> list[int]:
    """Tokens that end a sequence by the model's own configuration."""
    eos = model.generation_config.eos_token_id
    return [] if eos is None else [int(token) for token in eos] if isinstance(eos, list) else [int(eos)]


def check_place(task: ExtractiveQa) -> None:
    """Refuse free reasoning where it has no place.

    Raises:
        DataError: pause tokens stand there; or the prompt has two turns; or it asks for JSON alone, and nothing was learned to stand
            before that.
    """
    kind, prompt = task.reasoning.kind, task.prompt
    if kind == "pause" or prompt.two_turns:
        what = "pause tokens" if kind == "pause" else "a prompt of two turns"
        raise DataError(f"a model with {what} does not reason freely", "Leave the limit for reasoning out.")
    if kind == "none" and not prompt.reasons:
        raise DataError(
            "the prompt asks for JSON alone, so there is nothing to reason freely about",
            "Take a prompt that reasons, such as json_think, or leave the limit for reasoning out.",
        )


@dataclass(frozen=True, slots=True)
class FreeReasoning:
    """What was written before the opening of an answer.

    Attributes:
        slot: where its last token stands in the cache; the slot it began below if there is none.
        text: its words.
    """

    slot: int
    text: str


def reason(
    cache: PrefixCache, slots: Sequence[int], tokenizer: Any, opening: str, *, limit: int, stops: Collection[int]
) -> list[FreeReasoning]:
    """Let a model reason below each slot, greedily.

    It ends where the model opens its answer by itself, which is cut off again (the caller writes the opening in, in the tokens that were
    learned), where it ends its turn, or at the limit.

    Args:
        cache: the cache, with tokens that have not been read.
        slots: where each branch begins, among the tokens not read yet.
        tokenizer: turns tokens into text.
        opening: the text that opens an answer.
        limit: the most tokens to write.
        stops: tokens that end a turn.
    """
    opens = opening.strip()

    def text(tokens: Sequence[int]) -> str:
        return decode_tokens(tokenizer, tokens)

    grown = grow(cache, slots, likeliest, limits=limit, stop_tokens=stops, stop=lambda _, tokens: opens in text(tokens))
    found = []
    for growth in grown:
        tokens = growth.tokens
        at = text(tokens).find(opens)
        kept = len(tokens) if at < 0 else max(n for n in range(len(tokens)) if len(text(tokens[:n])) <= at)
        found.append(FreeReasoning(growth.slots[kept], text(tokens[:kept])))
    return found
