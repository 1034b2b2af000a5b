"""Votes of an arena in FastChat's columns, which `palmette arena rank` and other tools read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.arena.events import Chat, Event, Said, Shown
from palmette.arena.folder import VOTES, Arena, is_arena, read_arena, read_entries
from palmette.arena.state import State
from palmette.arena.store import VoteStore
from palmette.errors import DataError
from palmette.files import expand

CHAT = "chat"  # the category of free conversations
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
    arena = read_arena(folder) if not is_arena(folder) or read_entries(folder) else None  # people may only chat there
    kept = where or folder / VOTES
    none_yet = DataError(f"{folder} has no votes yet", f"Collect some: palmette arena serve {folder}")
    if "://" not in str(kept) and not expand(str(kept)).exists():  # opening would make it
        raise none_yet if where is None else DataError(f"there is no store of votes {kept}", "Check --store.")
    with VoteStore.open(kept) as store:
        rows = list(_rows(arena, store))
    if not rows:
        raise none_yet
    return rows


def _rows(arena: Arena | None, store: VoteStore) -> Iterator[dict[str, Any]]:
    state = State()
    for event in store.events():
        state.add(event)
    for vote in state.standing():
        if vote.said is not None and vote.said != "skip" and vote.id is not None:
            shown = state.of_vote(vote.id)
            said = _chatted(state.shown_to(vote.id).chat) or _sampled(arena, vote, shown)
            yield _row(vote, vote.said, shown, said)


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said to two models, and what they replied."""

    turns: tuple[str, ...]
    replies: tuple[tuple[str, ...], tuple[str, ...]]
    language: str
    category: str

    def conversation(self, side: int) -> list[dict[str, str]]:
        turns = zip(self.turns, self.replies[side], strict=True)
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]


def _chatted(chat: Chat | None) -> _Said | None:
    return None if chat is None else _Said(chat.turns, (chat.left, chat.right), "", CHAT)


def _sampled(arena: Arena | None, vote: Event, shown: Shown) -> _Said:
    """The answers of a folder that a vote is on."""
    prompt = None if arena is None else arena.prompts.get(shown.prompt)
    for model, sha256 in ((shown.left, shown.left_sha256), (shown.right, shown.right_sha256)):
        if (
            arena is None
            or prompt is None
            or model not in arena.entries
            or arena.answer_hash(model, shown.prompt) != sha256
        ):
            there = "the folder" if arena is None else str(arena.folder)
            raise DataError(
                f"vote {vote.id} is on an answer of {model} to {shown.prompt!r} that {there} does not hold",
                "Give the folder with the answers that were voted on.",
            )
    assert arena is not None
    assert prompt is not None
    replies = (arena.replies[shown.left][prompt.id], arena.replies[shown.right][prompt.id])
    return _Said(prompt.messages, replies, prompt.language, prompt.category)


def _row(vote: Event, winner: Said, shown: Shown, said: _Said) -> dict[str, Any]:
    return {
        "question_id": shown.prompt,
        "model_a": shown.left,
        "model_b": shown.right,
        "winner": _WINNERS[winner],
        "judge": vote.voter,
        "conversation_a": said.conversation(0),
        "conversation_b": said.conversation(1),
        "turn": len(said.turns),
        "anony": not shown.named,
        "language": said.language or None,
        "category": said.category or None,
        "tstamp": vote.time.timestamp(),
        "seconds": vote.seconds,
        "sampling_probability": shown.sampling_probability,
        "weight": shown.weight,
    }
