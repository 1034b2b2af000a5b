"""Events of an arena: which two answers somebody was shown, what they said, and what they took back.

Events are only ever added. What holds now is a fold over them (`arena/state.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from palmette.errors import DataError

EventKind = Literal["shown", "vote", "undo", "revealed"]
Said = Literal["left", "right", "tie", "both bad", "skip"]
SAID: tuple[Said, ...] = get_args(Said)

Key: TypeAlias = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Shown:
    """Two answers as they stand before somebody.

    Attributes:
        prompt: the id of the prompt.
        left, right: the models.
        left_sha256, right_sha256: the hashes of their answers, as `answer_hash` gives them.
        sampling_probability: the probability with which this pair of models and this prompt were drawn among all that
            this person could be asked. The sides were drawn after that, each with probability one half.
        named: whether an answer tells its model, so the vote is not blind.
        weight: how often this pair of models would have been drawn if all were alike, over how often it was.
    """

    prompt: str
    left: str
    right: str
    left_sha256: str
    right_sha256: str
    sampling_probability: float
    named: bool = False
    weight: float = 1.0

    @property
    def models(self) -> frozenset[str]:
        """Both models."""
        return frozenset((self.left, self.right))

    @property
    def key(self) -> Key:
        """The prompt and both models: what nobody judges twice."""
        return self.prompt, self.models

    @property
    def answers(self) -> frozenset[tuple[str, str]]:
        """Both answers: the prompt and the hash of each."""
        return frozenset(((self.prompt, self.left_sha256), (self.prompt, self.right_sha256)))


@dataclass(frozen=True, slots=True)
class Chat:
    """A free conversation with two models at once.

    Attributes:
        turns: the messages.
        left, right: the replies of each model, one to each message.
    """

    turns: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in an arena.

    Attributes:
        kind: "shown", "vote", "undo" (of a vote), or "revealed" (the models' names were shown after a vote).
        time: when, in UTC.
        voter: who.
        session: the session of the voter, one browser.
        about: the id of the event that it refers to: for a vote what was shown, else the vote.
        shown: what was shown.
        said: what somebody said of it, for a vote.
        seconds: how long that took.
        chat: the conversation so far, where one was shown and not the answers to a prompt.
        id: the number that the store gave. None before that.

    Raises:
        DataError: a vote says nothing that is known, or took a negative time.
    """

    kind: EventKind
    time: datetime
    voter: str
    session: str
    about: int | None = None
    shown: Shown | None = None
    said: Said | None = None
    seconds: float | None = None
    chat: Chat | None = None
    id: int | None = None

    def __post_init__(self) -> None:
        if (self.kind == "vote") != (self.said in SAID):
            raise DataError(f"{self.said!r} is not a vote", f"The votes are {', '.join(SAID)}.")
        if self.seconds is not None and not 0.0 <= self.seconds < math.inf:
            raise DataError(f"a vote took {self.seconds!r} seconds", "Send the time as a number from 0 on.")
