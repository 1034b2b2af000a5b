"""Arenas of made-up models, and their desks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from palmette.arena.desk import Desk
from palmette.arena.folder import Entry, read_arena, write_entries, write_prompts
from palmette.arena.prompts import Prompt
from palmette.arena.store import VoteStore

# Names that no answer and no page holds by chance.
MODELS = ("quillwort-7", "runs/horsetail", "org/Sundew-Chat")


def make_arena(
    folder: Path,
    models: Sequence[str] = MODELS,
    num_prompts: int = 4,
    answers: Mapping[tuple[str, int], str] | None = None,
) -> Path:
    """An arena in which model m answers prompt p with a text of its own, unless `answers` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    languages = ("English", "Russian")
    prompts = [
        Prompt(f"p{number}", (f"Question {number}?",), languages[number % 2], "facts") for number in range(num_prompts)
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
