"""Votes of an arena in FastChat's columns, which `palmette arena rank` and other tools read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palmette.arena.events import Event, Said, Shown
from palmette.arena.folder import VOTES, Arena, read_arena
from palmette.arena.state import State
from palmette.arena.store import VoteStore
from palmette.errors import DataError
from palmette.files import expand

_WINNERS: dict[Said, str] = {"left": "model_a", "right": "model_b", "tie": "tie", "both bad": "tie (bothbad)"}


def vote_rows(folder: Path, where: str | Path | None = None) -> list[dict[str, Any]]:
    """The votes of an arena that stand, without those that skip, in the order in which they were given.

    Args:
        folder: the folder of the arena.
        where: the store of its votes. By default the file in the folder.

    Raises:
        DataError: the folder is no arena or has no votes, there is no such store, or an answer that was voted on is not
            there any more.
        RunError: the store cannot be read.
    """
    arena = read_arena(folder)
    kept = where or folder / VOTES
    none_yet = DataError(f"{folder} has no votes yet", f"Collect some: palmette arena serve {folder}")
    if "://" not in str(kept) and not expand(str(kept)).exists():  # opening would make it
        raise none_yet if where is None else DataError(f"there is no store of votes {kept}", "Check --store.")
    with VoteStore.open(kept) as store:
        rows = list(_rows(arena, store))
    if not rows:
        raise none_yet
    return rows


def _rows(arena: Arena, store: VoteStore) -> Iterator[dict[str, Any]]:
    state = State()
    for event in store.events():
        state.add(event)
    for vote in state.standing():
        if vote.said is not None and vote.said != "skip" and vote.id is not None:
            yield _row(arena, vote, vote.said, state.of_vote(vote.id))


def _row(arena: Arena, vote: Event, said: Said, shown: Shown) -> dict[str, Any]:
    prompt = arena.prompts.get(shown.prompt)
    for model, sha256 in ((shown.left, shown.left_sha256), (shown.right, shown.right_sha256)):
        if prompt is None or model not in arena.entries or arena.answer_hash(model, shown.prompt) != sha256:
            raise DataError(
                f"vote {vote.id} is on an answer of {model} to {shown.prompt!r} that {arena.folder} does not hold",
                "Give the folder with the answers that were voted on.",
            )
    assert prompt is not None

    def conversation(model: str) -> list[dict[str, str]]:
        turns = zip(prompt.turns, arena.replies[model][prompt.id], strict=True)
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]

    return {
        "question_id": prompt.id,
        "model_a": shown.left,
        "model_b": shown.right,
        "winner": _WINNERS[said],
        "judge": vote.voter,
        "conversation_a": conversation(shown.left),
        "conversation_b": conversation(shown.right),
        "turn": len(prompt.turns),
        "anony": not shown.named,
        "language": prompt.language or None,
        "category": prompt.category or None,
        "tstamp": vote.time.timestamp(),
        "seconds": vote.seconds,
        "sampling_probability": shown.sampling_probability,
    }
