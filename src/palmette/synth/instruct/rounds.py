"""Rounds in which a writer lists tasks and then solves those that are new, until there are enough.

A list is asked for after eight examples, six seed tasks and two that were made, as in Self-Instruct. A round asks for
several lists at once, so the tasks of one do not show in the others. Every round is one line of the work file.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from palmette.corpus.words import words_of
from palmette.progress import progress
from palmette.synth.instruct.faults import fault_of_task, faults_of_instances
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.instruct.seeds import Instance, Seeds, Task
from palmette.synth.instruct.settings import InstructSettings
from palmette.synth.instruct.text import (
    ASKED,
    Turns,
    instance_request,
    kind_request,
    list_request,
    read_instances,
    read_kind,
    read_list,
)
from palmette.synth.work import Line, keep_line
from palmette.synth.writers import Request, Writer, Written

_EXAMPLES, _MADE = 8, 2
_LISTS = 4  # lists of a round, at most
_BARREN = 5  # rounds in a row without a task, after which it is given up
_SHOWN = 2  # solved tasks before a request

# Whether a text shares words with an evaluation set.
IsLeaked = Callable[[str], bool]


def make_rounds(
    writer: Writer, seeds: Seeds, settings: InstructSettings, is_leaked: IsLeaked, work: Path, done: dict[str, Line]
) -> list[Line]:
    """The line of each round: its lists, and every task in them with its reason, and what it was solved with.

    It ends when there are enough tasks, or when five rounds in a row have given none.

    Args:
        writer: writes the tasks.
        seeds: the seed tasks.
        settings: how many tasks are made.
        is_leaked: whether a text shares words with an evaluation set.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.

    Raises:
        PalmetteError: the writer cannot be used, or the work file cannot be written.
    """
    lines: list[Line] = []
    kept: list[str] = []
    known = [(task.id, words_of(task.instruction)) for task in seeds.tasks]
    barren, finished = 0, sum(not task["reason"] for line in done.values() for task in line["tasks"])
    with progress(settings.number, "tasks", "tasks", done=finished) as bar:
        while len(kept) < settings.number and barren < _BARREN:
            name = f"round {len(lines) + 1}"
            if missing := name not in done:
                line = _round(name, writer, seeds, settings, is_leaked, kept, known)
                keep_line(line, work, done)
            line = done[name]
            lines.append(line)
            new = [one["instruction"] for one in line["tasks"] if not one["reason"]]
            known += [(one["id"], words_of(one["instruction"])) for one in line["tasks"] if is_novel(one)]
            kept += new
            barren = 0 if new else barren + 1
            bar.update(len(new) if missing else 0)
    return lines


def is_novel(task: Line) -> bool:
    """Whether a task was solved, or was to be. Later ones are compared with it, even if it was dropped after that."""
    return task["reason"] in ("", "kind unclear", "nothing to learn")


def _round(
    name: str,
    writer: Writer,
    seeds: Seeds,
    settings: InstructSettings,
    is_leaked: IsLeaked,
    kept: Sequence[str],
    known: Sequence[tuple[str, Sequence[str]]],
) -> Line:
    missing = settings.number - len(kept)
    requests = []
    for number in range(min(_LISTS, -(-missing // ASKED))):
        chance = random.Random(f"{settings.seed} {name} {number}")
        made = chance.sample(kept, min(_MADE, len(kept)))
        examples = [task.instruction for task in chance.sample(seeds.tasks, _EXAMPLES - len(made))] + made
        chance.shuffle(examples)
        requests.append(_request(list_request(examples)))
    lists = _written(writer, requests)
    tasks = _listed(name, lists, settings.max_alike, is_leaked, known, missing)
    fresh = [task for task in tasks if not task["reason"]]
    tokens = [one.tokens for one in lists]
    tokens += _solve(fresh, writer, seeds, settings.seed, is_leaked)
    return {
        "id": name,
        "lists": [{"reason": _fault_of_list(one), "text": one.text[:500]} for one in lists],
        "tasks": tasks,
        "tokens": sum(one for one in tokens if one is not None),
    }


def _fault_of_list(written: Written) -> str:
    if written.finish not in ("end", "length"):
        return "failed"
    return "" if read_list(written)[0] else "no list"


def _listed(
    name: str,
    lists: Iterable[Written],
    most: float,
    is_leaked: IsLeaked,
    known: Sequence[tuple[str, Sequence[str]]],
    missing: int,
) -> list[Line]:
    """The tasks in lists with the reasons for which they are dropped. It ends with as many as are missing."""
    tasks: list[Line] = []
    seen = list(known)
    for written in lists:
        if _fault_of_list(written):
            continue
        items, last_cut = read_list(written)
        for index, text in enumerate(items):
            if sum(not one["reason"] for one in tasks) == missing:
                return tasks
            task: Line = {"id": f"{name}/{len(tasks) + 1}", "instruction": text, "like": None}
            cut = last_cut and index == len(items) - 1
            task["reason"] = "cut off" if cut else fault_of_task(text)
            words = words_of(text)
            if not task["reason"] and (like := first_alike(words, seen, most)) is not None:
                task |= {"reason": "alike", "like": like}
            if not task["reason"] and is_leaked(text):
                task["reason"] = "in an evaluation set"
            if not task["reason"]:
                seen.append((task["id"], words))
            tasks.append(task)
    return tasks


def _solve(tasks: Sequence[Line], writer: Writer, seeds: Seeds, seed: int, is_leaked: IsLeaked) -> list[int | None]:
    """Ask which tasks have labels, then for their inputs and outputs. Adds both to the tasks, with reasons.

    Returns:
        The tokens of every text that was written.
    """
    shown = _shown(seeds, seed)
    kinds = _written(writer, [_request(kind_request(one["instruction"], shown[True] + shown[False])) for one in tasks])
    for task, written in zip(tasks, kinds, strict=True):
        task["classification"] = read_kind(written)
        if task["classification"] is None:
            task["reason"] = "kind unclear"
    clear = [task for task in tasks if not task["reason"]]
    solved = _written(
        writer,
        [
            _request(instance_request(one["instruction"], one["classification"], shown[one["classification"]]))
            for one in clear
        ],
    )
    for task, written in zip(clear, solved, strict=True):
        task["instances"] = _instances(task, written, is_leaked)
        if all(one["reason"] for one in task["instances"]):
            task["reason"] = "nothing to learn"
    return [one.tokens for one in (*kinds, *solved)]


def _instances(task: Line, written: Written, is_leaked: IsLeaked) -> list[Line]:
    if written.finish not in ("end", "length"):
        return []
    found: list[Instance]
    found, last_cut = read_instances(written, task["classification"])
    reasons = faults_of_instances(found, classification=task["classification"], last_cut=last_cut)
    return [
        {**asdict(one), "reason": reason or ("in an evaluation set" if is_leaked(f"{one.input}\n{one.output}") else "")}
        for one, reason in zip(found, reasons, strict=True)
    ]


def _shown(seeds: Seeds, seed: int) -> Mapping[bool, list[Task]]:
    """Seed tasks to show solved, with and without labels: two of each, drawn among the shorter half."""
    shown = {}
    for kind in (True, False):
        tasks = sorted((one for one in seeds.tasks if one.classification is kind), key=_size)
        shorter = tasks[: max(_SHOWN, len(tasks) // 2)]
        shown[kind] = random.Random(f"{seed} {kind}").sample(shorter, _SHOWN)
    return shown


def _size(task: Task) -> int:
    return len(task.instruction) + sum(len(one.input) + len(one.output) for one in task.instances)


def _request(turns: Turns) -> Request:
    return Request(turns, zlib.crc32(json.dumps(turns).encode()))


def _written(writer: Writer, requests: Sequence[Request]) -> list[Written]:
    found = dict(writer.write(requests))
    return [found[index] for index in range(len(requests))]
