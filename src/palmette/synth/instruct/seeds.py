"""Seed tasks: those of a file in the format of Self-Instruct, or our own sixty, twenty of them with labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from palmette.data.records import check_unicode
from palmette.data.source import raw_rows
from palmette.data.text import short
from palmette.data.values import as_id, without_nulls
from palmette.errors import DataError

BUILTIN = "builtin"
FEWEST, FEWEST_OF_A_KIND = 8, 2
_COLUMNS = (
    "Each row needs 'instruction' (a text), 'instances' (a list of {'input': ..., 'output': ...}) and "
    "'is_classification' (true or false)."
)


@dataclass(frozen=True, slots=True)
class Instance:
    """An input of a task and its output. The input is empty where the task needs none."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Attributes:
        id: its id.
        instruction: what is to be done.
        classification: whether its output is one of a few labels.
        instances: inputs with their outputs.
    """

    id: str
    instruction: str
    classification: bool
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Seeds:
    """Seed tasks, and what identifies them.

    Attributes:
        source: as the user named it.
        sha256: hash of the file's bytes.
        tasks: the tasks.
    """

    source: str
    sha256: str
    tasks: tuple[Task, ...]

    def describe(self) -> dict[str, Any]:
        """The source, its hash and its size, for the report."""
        return {"source": self.source, "sha256": self.sha256, "tasks": len(self.tasks)}


def read_seeds(source: str = BUILTIN) -> Seeds:
    """Read seed tasks.

    Args:
        source: "builtin", a .jsonl or .json file, a table, or a hub data set.

    Raises:
        DataError: there is no such source, a row is no task, two have one id, or there are fewer than 8 tasks or than 2
            with and 2 without labels, which the prompts take as examples.
    """
    rows: Iterable[Any]
    if source == BUILTIN:
        raw = resources.files("palmette.synth.instruct").joinpath("seeds.jsonl").read_bytes()
        digest, rows = hashlib.sha256(raw).hexdigest(), [json.loads(line) for line in raw.splitlines()]
    else:
        digest, rows = raw_rows(
            source, default_split="train", columns=_COLUMNS, example="HuggingFaceH4/self-instruct-seed"
        )
    found: dict[str, Task] = {}
    for number, row in enumerate(rows, start=1):
        if isinstance(row, DataError):
            raise row
        task = _task(without_nulls(row), number, f"{source}, row {number}")
        if task.id in found:
            raise DataError(f"{source} has two tasks with the id {short(task.id)}", "Give each an id of its own.")
        found[task.id] = task
    with_labels = sum(task.classification for task in found.values())
    if len(found) < FEWEST or min(with_labels, len(found) - with_labels) < FEWEST_OF_A_KIND:
        raise DataError(
            f"{source} has {len(found)} tasks, {with_labels} of them with labels",
            f"Give at least {FEWEST} tasks, {FEWEST_OF_A_KIND} with and {FEWEST_OF_A_KIND} without labels.",
        )
    return Seeds(source, digest, tuple(found.values()))


def _task(row: Mapping[str, Any], number: int, where: str) -> Task:
    instruction, labels, instances = row.get("instruction"), row.get("is_classification"), row.get("instances")
    if not isinstance(labels, bool):
        raise DataError(f"{where}: 'is_classification' is {short(labels)}, neither true nor false", _COLUMNS)
    if isinstance(instances, dict):  # the hub's form of a list of objects
        inputs, outputs = instances.get("input"), instances.get("output")
        if isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs):
            instances = [{"input": one, "output": other} for one, other in zip(inputs, outputs, strict=True)]
    if not isinstance(instances, list) or not instances:
        raise DataError(f"{where}: 'instances' is {short(instances)}, not a list of instances", _COLUMNS)
    made = []
    for one in instances:
        if not isinstance(one, dict):
            raise DataError(f"{where}: an instance is {short(one)}, not an object", _COLUMNS)
        made.append(Instance(_text(one.get("input", ""), where, "input"), _text(one.get("output"), where, "output")))
    if not all(one.output for one in made):
        raise DataError(f"{where}: an instance has an empty 'output'", _COLUMNS)
    text = _text(instruction, where, "instruction")
    if not text:
        raise DataError(f"{where}: 'instruction' is empty", _COLUMNS)
    return Task(as_id(row.get("id", number)), text, labels, tuple(made))


def _text(value: Any, where: str, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} is {short(value)}, not a text", _COLUMNS)
    check_unicode(value, f"{where}: {key!r}")
    return value.strip()
