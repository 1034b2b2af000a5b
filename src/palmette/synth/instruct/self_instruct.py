"""Self-Instruct (Wang et al., 2022): a writer lists tasks after examples, and then solves those that are new.

A list is asked for after eight examples, six seed tasks and two that were made, as in Self-Instruct. A round asks for
several lists at once, so the tasks of one do not show in the others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from palmette.synth.instruct.faults import faults_of_instances
from palmette.synth.instruct.rounds import Known, Listing
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
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line
from palmette.synth.writers import Writer, Written, request_of, tokens_of, written_by

_EXAMPLES, _MADE = 8, 2
_LISTS = 4  # lists of a round, at most
_SHOWN = 2  # solved tasks before a request


@dataclass(frozen=True)
class SelfInstruct:
    """Rounds of lists and solutions.

    Attributes:
        writer: writes the tasks.
        seeds: the seed tasks.
        settings: how many tasks are made.
        is_leaked: whether a text shares words with an evaluation set.
    """

    writer: Writer
    seeds: Seeds
    settings: InstructSettings
    is_leaked: IsLeaked

    def __call__(self, name: str, kept: Sequence[str], known: Known) -> Line:
        """See `Round`."""
        missing = self.settings.number - len(kept)
        requests = []
        for number in range(min(_LISTS, -(-missing // ASKED))):
            chance = random.Random(f"{self.settings.seed} {name} {number}")
            made = chance.sample(kept, min(_MADE, len(kept)))
            examples = [task.instruction for task in chance.sample(self.seeds.tasks, _EXAMPLES - len(made))] + made
            chance.shuffle(examples)
            requests.append(request_of(list_request(examples)))
        lists = written_by(self.writer, requests)
        tasks = _listed(Listing(name, self.settings.max_alike, self.is_leaked, known), lists, missing)
        solved = self._solve([task for task in tasks if not task["reason"]])
        return {
            "id": name,
            "lists": [{"reason": _fault_of_list(one), "text": one.text[:500]} for one in lists],
            "tasks": tasks,
            **tokens_of([*lists, *solved]),
        }

    def _solve(self, tasks: Sequence[Line]) -> list[Written]:
        """Ask which tasks have labels, then for their inputs and outputs. Adds both to the tasks, with reasons."""
        shown = _shown(self.seeds, self.settings.seed)
        asked = [request_of(kind_request(one["instruction"], shown[True] + shown[False])) for one in tasks]
        kinds = written_by(self.writer, asked)
        for task, written in zip(tasks, kinds, strict=True):
            task["classification"] = read_kind(written)
            if task["classification"] is None:
                task["reason"] = "kind unclear"
        clear = [task for task in tasks if not task["reason"]]
        solved = written_by(
            self.writer,
            [
                request_of(instance_request(one["instruction"], one["classification"], shown[one["classification"]]))
                for one in clear
            ],
        )
        for task, written in zip(clear, solved, strict=True):
            task["instances"] = _instances(task, written, self.is_leaked)
            if all(one["reason"] for one in task["instances"]):
                task["reason"] = "nothing to learn"
        return [*kinds, *solved]

    def typical(self) -> Iterator[Turns]:
        """Requests as long as those that so many tasks take, if none is dropped."""
        tasks, shown = self.seeds.tasks, _shown(self.seeds, self.settings.seed)
        for number in range(self.settings.number):
            task = tasks[number % len(tasks)]
            if number % ASKED == 0:
                yield list_request([one.instruction for one in tasks[:_EXAMPLES]])
            yield kind_request(task.instruction, shown[True] + shown[False])
            yield instance_request(task.instruction, task.classification, shown[task.classification])


def _fault_of_list(written: Written) -> str:
    if written.finish not in ("end", "length"):
        return "failed"
    return "" if read_list(written)[0] else "no list"


def _listed(listing: Listing, lists: Sequence[Written], missing: int) -> list[Line]:
    """The tasks in lists with the reasons for which they are dropped. It ends with as many as are missing."""
    for written in lists:
        if _fault_of_list(written):
            continue
        items, last_cut = read_list(written)
        for index, text in enumerate(items):
            if listing.num_fresh == missing:
                return listing.tasks
            listing.add(text, "cut off" if last_cut and index == len(items) - 1 else "")
    return listing.tasks


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
