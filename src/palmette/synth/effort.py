"""What a job asks of a writer, in tokens and in money: an estimate before it begins, and the counts at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.writers import Writer

_CHARACTERS_PER_TOKEN = 4  # of English, where the tokenizer is the server's

Turns = tuple[tuple[str, str], ...]


def estimate(requests: Iterable[Turns], writer: Writer) -> dict[str, Any]:
    """What requests will take, as JSON holds it. Tokens are estimated from characters, four to one.

    Args:
        requests: what the writer is to be asked, as far as that is known before it answers.
        writer: the writer.
    """
    number = characters = 0
    for turns in requests:
        number += 1
        characters += sum(len(text) for _, text in turns)
    read = characters // _CHARACTERS_PER_TOKEN
    most = None if writer.most_tokens is None else number * writer.most_tokens
    cost = None if writer.price is None or most is None else writer.price.of(read, most)
    return {"requests": number, "tokens_read": read, "most_tokens_written": most, "most_cost": cost}


def say_estimate(found: Mapping[str, Any], say: Say) -> None:
    """Say what a job will take, before anything is asked."""
    requests = counted(found["requests"], "request")
    told = f"If nothing is dropped, the writer gets about {requests} of {found['tokens_read']:,} tokens in all."
    if found["most_tokens_written"] is not None:
        told += f" It writes {found['most_tokens_written']:,} tokens at most."
    if found["most_cost"] is not None:
        told += f" That costs {found['most_cost']:,.4f} at most."
    say(told)


def spent(lines: Iterable[Mapping[str, Any]], writer: Writer) -> dict[str, Any]:
    """What a job has taken, as JSON holds it. What was done before a stop counts, and so do answers of a cache.

    Args:
        lines: lines of a work file, with the tokens that were written (`tokens`) and read (`tokens_read`).
        writer: the writer.
    """
    written = read = 0
    for line in lines:
        written += line["tokens"] or 0
        read += line.get("tokens_read") or 0  # older work files do not have it
    cost = None if writer.price is None else writer.price.of(read, written)
    return {"tokens_read": read, "tokens_written": written, "cost": cost}
