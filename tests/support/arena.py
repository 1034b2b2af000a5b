"""Arenas of made-up models, and their desks."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from palmette.arena.chats import Chats, Speaker, Talk
from palmette.arena.desk import Desk
from palmette.arena.folder import Entry, read_arena, write_entries, write_prompts
from palmette.arena.naming import names_of
from palmette.arena.prompts import Prompt
from palmette.arena.store import VoteStore
from palmette.errors import RunError

# Names that no answer and no page holds by chance.
MODELS = ("quillwort-7", "runs/horsetail", "org/Sundew-Chat")


def make_arena(
    folder: Path,
    models: Sequence[str] = MODELS,
    num_prompts: int = 4,
    answers: Mapping[tuple[str, int], str] | None = None,
    documents: Mapping[int, str] | None = None,
) -> Path:
    """An arena in which model m answers prompt p with a text of its own, unless `answers` says otherwise.

    Prompts with documents are exact tasks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    languages = ("English", "Russian")
    prompts = [
        Prompt(
            f"p{number}", (f"Question {number}?",), languages[number % 2], "facts", (documents or {}).get(number, "")
        )
        for number in range(num_prompts)
    ]
    write_prompts(folder, prompts)
    entries = []
    for number, model in enumerate(models):
        entries.append(Entry(model, f"answers/{number + 1:02}.jsonl"))
        file = folder / entries[-1].answers
        file.parent.mkdir(exist_ok=True)
        lines = []
        for index, prompt in enumerate(prompts):
            text = (answers or {}).get((model, index), f"Reply {chr(97 + number)} to {index}.")
            turns = {"question_id": prompt.id, "model_id": model, "choices": [{"index": 0, "turns": [text]}]}
            lines.append(json.dumps(turns) + "\n")
        file.write_text("".join(lines), encoding="utf-8")
    write_entries(folder, entries)
    return folder


@contextmanager
def desk_of(folder: Path, seed: int = 0, *, with_named: bool = False) -> Iterator[Desk]:
    """The desk of an arena, which draws by a seed."""
    with VoteStore.open(folder / "votes.db") as store:
        yield Desk(store, read_arena(folder), with_named=with_named, source=random.Random(seed))


class Scripted:
    """Models to talk with, which reply as they are told.

    Attributes:
        hold: while one of these is cleared, that model writes and writes.
        broken: the models that fail.
        asked: what each was asked, with what was said to it before.
    """

    def __init__(self, models: Sequence[str] = MODELS[:2]) -> None:
        self.hold = {model: threading.Event() for model in models}
        self.broken: set[str] = set()
        self.asked: list[tuple[str, list[tuple[str, str]], str]] = []
        for event in self.hold.values():
            event.set()

    @property
    def speakers(self) -> list[Speaker]:
        return [Speaker(model, names_of(model), partial(self._reply, model)) for model in self.hold]

    def _reply(self, model: str, said: Sequence[tuple[str, str]], message: str) -> str:
        self.asked.append((model, list(said), message))
        assert self.hold[model].wait(60)
        if model in self.broken:
            raise RunError(f"{model} is broken", "Repair it.")
        if message == "Who are you?":
            return f"I am {names_of(model)[0]}."
        return f"Reply {chr(97 + list(self.hold).index(model))}{len(said) + 1}."


def wait_for(chats: Chats, voter: str) -> Talk:
    """Where a conversation is once nothing is being written any more."""
    until = time.monotonic() + 30
    while (talk := chats.talk(voter)).writing is not None:
        assert time.monotonic() < until
        time.sleep(0.005)
    return talk
