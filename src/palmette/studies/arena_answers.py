"""Answers of several models to the prompts of an arena, written beforehand and kept one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.arena.folder import ANSWERS, PROMPTS, Entry, is_arena, read_entries, write_entries, write_prompts
from palmette.arena.prompts import Prompt, read_prompts
from palmette.errors import DataError, RunError, reason_of
from palmette.inference.names import resolve_model
from palmette.judge import answers
from palmette.judge.answers import Answers
from palmette.judge.repliers import Asked, EndpointReplier
from palmette.judge.spec import read_endpoint
from palmette.lock import locked
from palmette.run import check_same, write_json

_JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Replying:
    """How replies are written.

    Attributes:
        temperature: how freely they are drawn. 0 takes the likeliest token each time.
        max_new_tokens: the longest reply, in tokens.
        seed: the seed of the draws.
    """

    temperature: float = 0.7
    max_new_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was sampled.

    Attributes:
        num_prompts: the number of prompts.
        entries: all models of the folder.
        costs: {model behind an endpoint: what its answers of this job cost}, where its prices are known.
    """

    num_prompts: int
    entries: list[Entry]
    costs: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the answers of a model come from.

    Attributes:
        model: its name.
        base: the model that it was trained from, if that is known.
        take: gives the answers to what is asked, with a file that keeps them.
        cost: what they have cost so far.
    """

    model: str
    base: str
    take: Callable[[Sequence[Asked], Path], Answers]
    cost: Callable[[], float | None] = lambda: None


def sample_answers(prompts: str, models: Sequence[str], out: Path, replying: Replying) -> Sampled:
    """Write the answers of models to prompts, one model after the other. A job that was stopped goes on.

    The same folder takes further models later.

    Args:
        prompts: see `read_prompts`.
        models: names of models and runs, files of answers (.json, .jsonl), and YAML files that describe an endpoint.
        out: the folder of the arena.
        replying: how replies are written.

    Raises:
        DataError: there are no such prompts, two models have one name, or a file lacks an answer.
        ModelError, EndpointError: a model cannot be used.
        RunError: the folder was begun with other prompts or settings, is in use, or cannot be written.
    """
    asked = read_prompts(prompts)
    sources = [_source(name, replying) for name in models]
    for source in sources:
        if sum(one.model == source.model for one in sources) > 1:
            raise DataError(f"two models are called {source.model}", "Name each once, or rename one.")
    with locked(out, wait=False) as held:
        if not held:
            raise RunError(f"{out} is being written by another process", "Wait for it, or give another --out.")
        _begin(out, asked, replying)
        entries = read_entries(out)
        known = {entry.model for entry in entries}
        entries += [
            Entry(source.model, f"{ANSWERS}/{number:02}.jsonl", source.base)
            for number, source in enumerate((one for one in sources if one.model not in known), len(entries) + 1)
        ]
        write_entries(out, entries)
        for source in sources:
            entry = next(entry for entry in entries if entry.model == source.model)
            turns = [Asked(one.id, one.turns, one.category, replying.temperature, one.document) for one in asked]
            source.take(turns, out / entry.answers)
    costs = {source.model: source.cost() for source in sources}
    return Sampled(len(asked), entries, {model: cost for model, cost in costs.items() if cost is not None})


def _begin(out: Path, asked: Sequence[Prompt], replying: Replying) -> None:
    """Create the folder, or check that it was begun with the same prompts and settings, or for free chats."""
    records = [prompt.record() for prompt in asked]
    settings: dict[str, Any] = {
        "prompts_sha256": hashlib.sha256(json.dumps(records).encode("utf-8")).hexdigest(),
        "temperature": replying.temperature,
        "max_new_tokens": replying.max_new_tokens,
        "seed": replying.seed,
    }
    job = out / _JOB
    try:
        if job.exists():
            check_same(json.loads(job.read_text(encoding="utf-8")), settings, where=out, way_out="Give another --out.")
            return
        begun = is_arena(out)  # by `palmette arena serve --chat`, and it may hold votes already
        if out.exists() and not begun and any(one.name not in (PROMPTS, ANSWERS) for one in out.iterdir()):
            raise RunError(f"{out} holds something else", "Give another --out.")
        (out / ANSWERS).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot use the folder {out}: {reason_of(error)}", "Give another --out.") from error
    write_prompts(out, asked)
    write_json(job, settings)


def _source(name: str, replying: Replying) -> _Source:
    """What a name means. Nothing is loaded yet."""
    length, seed = replying.max_new_tokens, replying.seed
    if name.endswith(answers.SUFFIXES):
        found = answers.read_answers(name)
        return _Source(found.model, "", lambda asked, store: _copied(found, asked, store, name))
    endpoint = read_endpoint(name)
    if endpoint is not None:
        replier = EndpointReplier(endpoint, length, seed)
        return _Source(
            endpoint.model,
            "",
            lambda asked, store: answers.written_answers(endpoint.model, asked, store, lambda: replier),
            lambda: replier.cost,
        )
    return _Source(
        name,
        resolve_model(name).base,
        lambda asked, store: answers.answers_of(name, asked, store, max_new_tokens=length, seed=seed),
    )


def _copied(given: Answers, asked: Sequence[Asked], store: Path, name: str) -> Answers:
    """The answers of a file. Those in AlpacaEval's columns are known by what was asked, and the others by its id."""
    replies = {one.id: given.replies.get(one.id) or given.replies.get(one.turns[0]) for one in asked}
    for one in asked:
        if len(replies[one.id] or ()) < len(one.turns):
            raise DataError(f"{name} has no answer to the prompt {one.id!r}", "Give answers to all of them.")
    rows = {one.id: list(replies[one.id] or ())[: len(one.turns)] for one in asked}
    return answers.written_answers(given.model, asked, store, lambda: lambda one: rows[one.id])
