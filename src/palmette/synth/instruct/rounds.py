"""Rounds in which a writer gives tasks with their answers, until there are enough.

What a round does is up to `self_instruct.py` and `magpie.py`. Every round is one line of the work file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from palmette.corpus.words import words_of
from palmette.progress import progress
from palmette.synth.instruct.faults import fault_of_task
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line, keep_line

_BARREN = 5  # rounds in a row without a task, after which it is given up

# The name and the words of each task that new ones are compared with.
Known = Sequence[tuple[str, Sequence[str]]]


class Round(Protocol):
    """What gives tasks."""

    def __call__(self, name: str, kept: Sequence[str], known: Known) -> Line:
        """The line of a round, with its tasks, their answers and why they were dropped.

        Args:
            name: the round.
            kept: the tasks that were kept so far.
            known: what new tasks are compared with.
        """


def make_rounds(do_round: Round, number: int, known: Known, work: Path, done: dict[str, Line]) -> list[Line]:
    """The line of each round.

    It ends when there are enough tasks, or when five rounds in a row have given none.

    Args:
        do_round: gives the tasks.
        number: how many tasks are made.
        known: tasks that new ones are compared with from the start.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.

    Raises:
        PalmetteError: the writer cannot be used, or the work file cannot be written.
    """
    lines: list[Line] = []
    kept: list[str] = []
    known = list(known)
    finished = sum(not task["reason"] for line in done.values() for task in line["tasks"] if "parent" not in task)
    barren = 0
    with progress(number, "tasks", "tasks", done=finished) as bar:
        while len(kept) < number and barren < _BARREN:
            name = f"round {len(lines) + 1}"
            if missing := name not in done:
                keep_line(do_round(name, kept, known), work, done)
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


class Listing:
    """The tasks of a round as they are read, each with the reason for which it is dropped.

    Args:
        name: the round.
        most: a task whose ROUGE-L with another is above this is dropped.
        is_leaked: whether a text shares words with an evaluation set.
        known: what tasks are compared with.

    Attributes:
        tasks: the tasks so far.
    """

    def __init__(self, name: str, most: float, is_leaked: IsLeaked, known: Known) -> None:
        self._name, self._most, self._is_leaked, self._seen = name, most, is_leaked, list(known)
        self.tasks: list[Line] = []

    @property
    def num_fresh(self) -> int:
        """Tasks that are not dropped so far."""
        return sum(not one["reason"] for one in self.tasks)

    def add(self, text: str, reason: str = "") -> Line:
        """Take a task. It is checked unless there is a reason already.

        Returns:
            Its line.
        """
        task: Line = {"id": f"{self._name}/{len(self.tasks) + 1}", "instruction": text, "like": None}
        task["reason"] = reason or fault_of_task(text)
        words = words_of(text)
        if not task["reason"] and (like := first_alike(words, self._seen, self._most)) is not None:
            task |= {"reason": "alike", "like": like}
        if not task["reason"] and self._is_leaked(text):
            task["reason"] = "in an evaluation set"
        if not task["reason"]:
            self._seen.append((task["id"], words))
        self.tasks.append(task)
        return task
