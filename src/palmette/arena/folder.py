"""The folder of an arena: its prompts, its models, and the answer of every model to every prompt."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette.arena.events import Key
from palmette.arena.naming import named, names_of
from palmette.arena.prompts import Prompt, read_prompts
from palmette.errors import DataError, reason_of
from palmette.run import read_log, write_json, write_json_lines

PROMPTS, MODELS, VOTES, ANSWERS = "prompts.jsonl", "models.json", "votes.db", "answers"
_AGAIN = "Run `palmette arena sample` again with the same --out."


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of an arena.

    Attributes:
        model: its name.
        answers: the file of its answers, below the folder. Its name does not tell the model's.
        base: the model that it was trained from, if that is known. It may call itself by that name.
    """

    model: str
    answers: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two models' answers to a prompt.

    Attributes:
        prompt: the id of the prompt.
        models: the two models, in the order of the folder.
        hashes: the hashes of their answers.
        identical: whether both answers are the same but for white space at the ends.
        named: what one of the answers says that tells its model. None if neither does.
    """

    prompt: str
    models: tuple[str, str]
    hashes: tuple[str, str]
    identical: bool
    named: str | None

    @property
    def key(self) -> Key:
        """The prompt and both models, as `Shown.key`."""
        return self.prompt, frozenset(self.models)

    @property
    def answers(self) -> frozenset[tuple[str, str]]:
        """Both answers, as `Shown.answers`."""
        return frozenset((self.prompt, one) for one in self.hashes)


@dataclass(frozen=True)
class Arena:
    """An arena whose answers are complete.

    Attributes:
        folder: its folder.
        prompts: {id: prompt}.
        entries: {name: model}.
        replies: {model: {id of a prompt: a reply to each message}}.
    """

    folder: Path
    prompts: Mapping[str, Prompt]
    entries: Mapping[str, Entry]
    replies: Mapping[str, Mapping[str, tuple[str, ...]]]

    def comparisons(self) -> Iterator[AnswerPair]:
        """Every pair of models on every prompt."""
        hashes = {(model, prompt): self.answer_hash(model, prompt) for model in self.entries for prompt in self.prompts}
        tells = {
            (entry.model, prompt.id): named(
                self.replies[entry.model][prompt.id], prompt.turns, names_of(entry.model, entry.base)
            )
            for entry in self.entries.values()
            for prompt in self.prompts.values()
        }
        for one, other in itertools.combinations(self.entries, 2):
            for prompt in self.prompts:
                texts = [[text.strip() for text in self.replies[model][prompt]] for model in (one, other)]
                told = tells[one, prompt] or tells[other, prompt]
                both = (hashes[one, prompt], hashes[other, prompt])
                yield AnswerPair(prompt, (one, other), both, texts[0] == texts[1], told)

    def answer_hash(self, model: str, prompt: str) -> str:
        """The hash that an answer is known by in votes."""
        return answer_hash(self.replies[model][prompt])


def answer_hash(replies: Sequence[str]) -> str:
    """SHA-256 of an answer: of its replies as a JSON list.

    >>> answer_hash(["yes"])[:12]
    'ba87142089ca'
    """
    return hashlib.sha256(json.dumps(list(replies), ensure_ascii=False).encode("utf-8")).hexdigest()


def is_arena(path: str | Path) -> bool:
    """Whether a path is the folder of an arena."""
    return (Path(path) / MODELS).is_file()


def write_prompts(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Write the prompts of an arena."""
    write_json_lines(folder / PROMPTS, (one.record() for one in prompts))


def write_entries(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the models of an arena."""
    write_json(folder / MODELS, [asdict(entry) for entry in entries])


def read_entries(folder: Path) -> list[Entry]:
    """The models of an arena. An empty list if there are none yet.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / MODELS
    if not path.exists():
        return []
    try:
        return [Entry(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"cannot read {path}: {reason_of(error)}", "Sample the answers again, into another folder."
        ) from error


def read_arena(folder: Path) -> Arena:
    """Read an arena.

    Raises:
        DataError: the folder is no arena, has fewer than two models, or lacks answers.
    """
    if not is_arena(folder):
        raise DataError(f"{folder} is not the folder of an arena", "Make one: palmette arena sample --out FOLDER.")
    prompts = {prompt.id: prompt for prompt in read_prompts(str(folder / PROMPTS))}
    entries = {entry.model: entry for entry in read_entries(folder)}
    if len(entries) < 2:
        raise DataError(f"{folder} has answers of one model", f"Give another --model. {_AGAIN}")
    replies = {}
    for entry in entries.values():
        found = _replies(folder / entry.answers)
        lacking = [one for one in prompts.values() if len(found.get(one.id, ())) != len(one.turns)]
        if lacking:
            raise DataError(
                f"{folder} lacks {len(lacking)} of {len(prompts)} answers of {entry.model}: the first is to "
                f"{lacking[0].id!r}",
                _AGAIN,
            )
        replies[entry.model] = found
    return Arena(folder, prompts, entries, replies)


def _replies(path: Path) -> dict[str, tuple[str, ...]]:
    """The answers of a file in FastChat's columns, by the ids of their prompts."""
    lines: list[dict[str, Any]] = read_log(path) if path.exists() else []
    try:
        return {str(line["question_id"]): tuple(map(str, line["choices"][0]["turns"])) for line in lines}
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} holds a line that is no answer", "Remove the file, and sample again.") from error
