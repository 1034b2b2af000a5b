"""Tasks evolved step by step (Evol-Instruct, Xu et al., 2023): each step makes harder or rarer ones of what was kept.

A step takes the last version of every task. Where its evolution is dropped, the version stays, and the next step tries
another way. The evolutions of a group of tasks are one line of the work file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from palmette.corpus.words import words_of
from palmette.progress import progress
from palmette.synth.instruct.evolve_text import (
    draw_way,
    evolve_request,
    fault_of_evolved,
    read_evolved,
    same_request,
)
from palmette.synth.instruct.faults import fault_of_matter
from palmette.synth.instruct.replies import add_replies
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.instruct.rounds import Known
from palmette.synth.instruct.settings import InstructSettings
from palmette.synth.instruct.text import Turns, read_kind
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line, keep_line
from palmette.synth.writers import Writer, Written, request_of, tokens_of, written_by

_GROUP = 8  # tasks that are evolved together, which a stop may lose
_TYPICAL = "word " * 60


@dataclass
class Lineage:
    """A task and what became of it.

    Attributes:
        root: the id of the task that it began with.
        text: its last version.
        last: the id of the last version.
        ids: the ids of all versions.
    """

    root: str
    text: str
    last: str
    ids: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Evolution:
    """Steps of evolution.

    Attributes:
        writer: rewrites the tasks, compares them, and replies to them.
        settings: how many steps there are.
        is_leaked: whether a text shares words with an evaluation set.
    """

    writer: Writer
    settings: InstructSettings
    is_leaked: IsLeaked

    def lines(self, tasks: Iterable[Line], known: Known, work: Path, done: dict[str, Line]) -> list[Line]:
        """The line of each group of each step, with the evolved tasks and why they were dropped.

        Args:
            tasks: the tasks that were kept.
            known: seed tasks, with which evolutions are compared too.
            work: the work file, which gets the new lines.
            done: the lines that it holds already. New ones are added.

        Raises:
            PalmetteError: the writer cannot be used, or the work file cannot be written.
        """
        lineages = [Lineage(task["id"], text_of(task), task["id"], {task["id"]}) for task in tasks]
        seen = [*known, *((one.root, words_of(one.text)) for one in lineages)]
        lines: list[Line] = []
        names = [
            (step, start) for step in range(1, self.settings.evolve + 1) for start in range(0, len(lineages), _GROUP)
        ]
        if not names:
            return lines
        finished = sum(_name(*one) in done for one in names)
        with progress(len(names), "evolutions", "groups", done=finished) as bar:
            for step, start in names:
                group, name = lineages[start : start + _GROUP], _name(step, start)
                if name not in done:
                    keep_line(self._step(name, group, seen), work, done)
                    bar.update()
                lines.append(done[name])
                for lineage, task in zip(group, done[name]["tasks"], strict=True):
                    if task["reason"] in ("", "nothing to learn"):
                        lineage.ids.add(task["id"])
                        seen.append((task["id"], words_of(task["instruction"])))
                    if not task["reason"]:
                        lineage.text, lineage.last = task["instruction"], task["id"]
        return lines

    def _step(self, name: str, group: Sequence[Lineage], seen: Known) -> Line:
        seen = list(seen)
        ways = [draw_way(f"{self.settings.seed} {name} {one.root}") for one in group]
        asked = [request_of(evolve_request(one.text, way)) for one, way in zip(group, ways, strict=True)]
        written = written_by(self.writer, asked)
        tasks = []
        for number, (lineage, way, text) in enumerate(zip(group, ways, written, strict=True), start=1):
            task = self._read(f"{name}/{number}", lineage, way, text, seen)
            tasks.append(task)
            if not task["reason"]:
                seen.append((task["id"], words_of(task["instruction"])))
        compared = self._compare([one for one in tasks if not one["reason"]], {one.last: one.text for one in group})
        replies = add_replies([one for one in tasks if not one["reason"]], self.writer, self.is_leaked)
        return {"id": name, "tasks": tasks, **tokens_of([*written, *compared, *replies])}

    def _read(self, name: str, lineage: Lineage, way: str, written: Written, seen: Known) -> Line:
        """The evolution of a task, with the reason for which its words alone are dropped."""
        text = read_evolved(written)
        task: Line = {"id": name, "instruction": text, "parent": lineage.last, "way": way, "like": None}
        task["classification"] = False
        if written.finish not in ("end", "length"):
            reason = "failed"
        elif written.finish == "length":
            reason = "cut off"
        else:
            reason = fault_of_matter(text) or fault_of_evolved(text, lineage.text)
        others = (one for one in seen if one[0] not in lineage.ids)
        like = None if reason else first_alike(words_of(text), others, self.settings.max_alike)
        if like is not None:
            reason, task["like"] = "alike", like
        if not reason and self.is_leaked(text):
            reason = "in an evaluation set"
        return {**task, "reason": reason}

    def _compare(self, tasks: Sequence[Line], parents: dict[str, str]) -> list[Written]:
        """Ask whether anything was gained. Adds the reason to tasks where it was not."""
        asked = [request_of(same_request(parents[one["parent"]], one["instruction"])) for one in tasks]
        compared = written_by(self.writer, asked)
        for task, written in zip(tasks, compared, strict=True):
            same = read_kind(written)
            task["reason"] = "gain unclear" if same is None else "nothing gained" if same else ""
        return compared

    def typical(self) -> Iterator[Turns]:
        """Requests as long as those that the steps take, if every task is kept."""
        for _ in range(self.settings.evolve * self.settings.number):
            yield evolve_request(_TYPICAL, "constraint")
            yield same_request(_TYPICAL, _TYPICAL)
            yield (("user", _TYPICAL),)


def _name(step: int, start: int) -> str:
    return f"step {step}, from {start + 1}"


def text_of(task: Line) -> str:
    """A task with its first input that was kept, as one text."""
    given = next((one["input"] for one in task["instances"] if not one["reason"]), "")
    return f"{task['instruction']}\n\n{given}" if given else str(task["instruction"])
