"""Tasks and their answers as a file of conversations, in a job that continues where it was stopped.

Beside the conversations two files are written: the report, with counts and examples for each reason, and every task
that was listed, with what it was solved with and why it was dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.corpus.sources import open_source
from palmette.corpus.words import words_of
from palmette.data.forms import standard_rows
from palmette.data.text import short
from palmette.errors import DataError, RunError
from palmette.files import expand
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.effort import estimate, say_estimate, spent
from palmette.synth.instruct.evolve import Evolution
from palmette.synth.instruct.evolve_text import EVOLUTIONS
from palmette.synth.instruct.evolve_text import PROMPT_SHA256 as EVOLVE_SHA256
from palmette.synth.instruct.faults import INSTANCES, REQUESTS, TASKS
from palmette.synth.instruct.magpie import Magpie
from palmette.synth.instruct.rounds import make_rounds
from palmette.synth.instruct.seeds import BUILTIN, Seeds
from palmette.synth.instruct.self_instruct import SelfInstruct
from palmette.synth.instruct.settings import InstructSettings
from palmette.synth.instruct.text import PROMPT_SHA256
from palmette.synth.leaks import IsLeaked, check_sources, described, leak_check
from palmette.synth.licences import NO_LICENCES, Licences, say_unknown
from palmette.synth.rationale_file import dropped, report_of
from palmette.synth.showing import page_of, write_page_of
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import LocalWriter, Writer


def tasks_of(out: Path) -> Path:
    """The file beside a file of conversations that holds what became of every task."""
    return out.with_name(out.name + ".tasks.jsonl")


def check_conversations(out: Path) -> None:
    """Check that a file of conversations can be written under a name.

    Raises:
        RunError: the file exists, or its name does not end in .jsonl.
    """
    if out.suffix != ".jsonl":
        raise RunError(f"{out} does not end in .jsonl", "Name a file that can be read back.")
    run.check_absent(out)


def write_tasks(
    seeds: Seeds,
    out: Path,
    settings: InstructSettings,
    open_writer: Callable[[], Writer],
    say: Say,
    *,
    against: Sequence[str] = (),
    licences: Licences = NO_LICENCES,
) -> None:
    """Make tasks with their answers and write them. A job that was stopped continues.

    Args:
        seeds: the seed tasks.
        out: the .jsonl to write. Until it exists, a work file beside it holds what is finished.
        settings: how many tasks are made, and which are kept.
        open_writer: opens what writes the tasks. It is called once the output is checked.
        say: called with lines about what was made.
        against: evaluation sets. What shares 8 words in a row with one is dropped.
        licences: those that the user knows.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: an evaluation set cannot be read or is the file of seeds, an endpoint should think up tasks by
            itself, or no task is kept. The report is written then.
        PalmetteError: the writer cannot be used.
    """
    out = expand(out)
    check_conversations(out)
    sources = [] if settings.magpie else [seeds.describe()]
    own_seeds = against and not settings.magpie and seeds.source != BUILTIN
    held = check_sources([open_source(seeds.source)] if own_seeds else [], against)
    is_leaked = leak_check(against)
    with held_work(out) as work:
        writer = open_writer()
        made_of = licences.record(sources, writer.licence)
        maker = _Maker(writer, seeds, settings, is_leaked)
        before = maker.estimate()
        say_estimate(before, say)
        about = {
            "settings": asdict(settings),
            "writer": writer.identity,
            "prompt_sha256": _prompts(settings),
            "seeds": None if settings.magpie else {"sha256": seeds.sha256, "tasks": len(seeds.tasks)},
            "against": held,
        }
        made = maker.make(work, begin_work(work, about))
        told = {"sources": sources, "against": described(against, held), "licences": made_of, "before": before}
        record = {**about, **told, "after": spent(made.lines, writer), **_counts(made)}
        _write(out, record, made, settings, say)
        work.unlink()
    say_unknown(made_of, say)
    say(
        f"{counted(record['conversations'], 'conversation')} in {out}. The report is {report_of(out)}, every task is "
        f"in {tasks_of(out)}, and {page_of(out)} shows samples."
    )


@dataclass(frozen=True)
class _Made:
    """What a job has made: the lines of its rounds and of its steps of evolution."""

    rounds: Sequence[Line]
    steps: Sequence[Line]

    @property
    def lines(self) -> list[Line]:
        return [*self.rounds, *self.steps]

    @property
    def tasks(self) -> list[Line]:
        return [task for line in self.rounds for task in line["tasks"]]

    @property
    def evolved(self) -> list[Line]:
        return [task for line in self.steps for task in line["tasks"]]


class _Maker:
    """Makes tasks, and evolves them."""

    def __init__(self, writer: Writer, seeds: Seeds, settings: InstructSettings, is_leaked: IsLeaked) -> None:
        self._writer, self._number = writer, settings.number
        self._rounds = _rounds(writer, seeds, settings, is_leaked)
        self._evolution = Evolution(writer, settings, is_leaked)
        tasks = () if settings.magpie else seeds.tasks
        self._known = [(task.id, words_of(task.instruction)) for task in tasks]

    def estimate(self) -> dict[str, Any]:
        """What the writer will be asked, if nothing is dropped."""
        return estimate([*self._rounds.typical(), *self._evolution.typical()], self._writer)

    def make(self, work: Path, done: dict[str, Line]) -> _Made:
        """Make what is missing in a work file."""
        rounds = make_rounds(self._rounds, self._number, self._known, work, done)
        kept = [task for line in rounds for task in line["tasks"] if not task["reason"]]
        return _Made(rounds, self._evolution.lines(kept, self._known, work, done))


def _write(out: Path, record: Mapping[str, Any], made: _Made, settings: InstructSettings, say: Say) -> None:
    """Write the report, the page, every task and, if there are any, the conversations."""
    run.write_json(report_of(out), {**run.environment(), **record})
    run.write_json_lines(tasks_of(out), [*made.tasks, *made.evolved])
    _summarize(record, settings, say)
    rows = list(_conversations([*made.tasks, *made.evolved]))
    write_page_of(out, record, conclusion=_conclusion(record), dropped=record["dropped"], kept=[*map(_shown, rows)])
    if not rows:
        raise DataError("no task was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help.")
    run.write_json_lines(out, rows)


def _rounds(writer: Writer, seeds: Seeds, settings: InstructSettings, is_leaked: IsLeaked) -> SelfInstruct | Magpie:
    if not settings.magpie:
        return SelfInstruct(writer, seeds, settings, is_leaked)
    if not isinstance(writer, LocalWriter):
        raise DataError("an endpoint does not let a model speak as the user", "Give a local model with --writer MODEL.")
    return Magpie(writer, settings, is_leaked)


def _prompts(settings: InstructSettings) -> str | list[str]:
    """The hashes of the words in which a writer is asked."""
    first = "magpie" if settings.magpie else PROMPT_SHA256
    return [first, EVOLVE_SHA256] if settings.evolve else first


def _conversations(tasks: Iterable[Line]) -> Iterable[Mapping[str, Any]]:
    """A conversation for each input that was kept, with the instruction and the input as Alpaca's reader joins them."""
    for task in tasks:
        if task["reason"]:
            continue
        kept = [one for one in task["instances"] if not one["reason"]]
        for number, one in enumerate(kept, start=1):
            row = {"instruction": task["instruction"], "input": one["input"], "output": one["output"]}
            (made,) = standard_rows([row])
            assert isinstance(made, dict)
            name = task["id"] if len(kept) == 1 else f"{task['id']}/{number}"
            yield {
                "id": name,
                **made,
                "task": task["id"],
                "classification": task["classification"],
                **({"evolved_from": task["parent"]} if "parent" in task else {}),
            }


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A conversation for the page."""
    return {turn["role"]: turn["content"] for turn in row["messages"]}


def _counts(made: _Made) -> dict[str, Any]:
    """What was written, kept and dropped, as JSON holds it."""
    tasks, evolved = made.tasks, made.evolved
    kept = [task for task in tasks if not task["reason"]]
    further = [task for task in evolved if not task["reason"]]
    instances = [one for task in (*tasks, *evolved) for one in task.get("instances", ())]
    lists = [one for line in made.rounds for one in line["lists"]]
    return {
        "rounds": len(made.rounds),
        "lists": len(lists),
        "listed": len(tasks),
        "kept": len(kept),
        "kept_with_labels": sum(task["classification"] for task in kept),
        "evolutions": len(evolved),
        "kept_evolutions": len(further),
        "kept_by_way": dict(Counter(task["way"] for task in further)),
        "conversations": sum(not one["reason"] for task in (*kept, *further) for one in task["instances"]),
        "dropped": {
            "lists": dropped(lists, REQUESTS, ("text",)),
            "tasks": dropped(tasks, TASKS, ("instruction", "like")),
            "evolutions": dropped(evolved, EVOLUTIONS, ("instruction", "way", "like")),
            "instances": dropped(instances, INSTANCES, ("input", "output")),
        },
    }


def _conclusion(record: Mapping[str, Any]) -> str:
    told = f"{record['kept']:,} of {counted(record['listed'], 'task')} are kept"
    if record["kept_with_labels"]:
        told += f", {record['kept_with_labels']:,} of them with labels"
    if record["evolutions"]:
        told += f", and {record['kept_evolutions']:,} of {counted(record['evolutions'], 'evolution')}"
    return f"{told}."


def _summarize(record: Mapping[str, Any], settings: InstructSettings, say: Say) -> None:
    for unit, reasons in record["dropped"].items():
        say_dropped(unit, reasons, say)
    written = record["after"]["tokens_written"]
    say(f"{_conclusion(record)} {written:,} tokens were written, in {counted(record['rounds'], 'round')} of tasks.")
    if record["kept"] < settings.number:
        say(f"{settings.number:,} were asked for, but the last rounds gave none.")


def say_dropped(unit: str, reasons: Mapping[str, Mapping[str, Any]], say: Say) -> None:
    """Say how many of something were dropped for each reason, with the first one.

    Args:
        unit: what they are.
        reasons: as `dropped` gives them.
        say: called with a line for each reason.
    """
    for reason, about in reasons.items():
        first = short(next(iter(about["examples"][0].values()), ""))
        say(f"  dropped {unit}: {about['number']:,} {reason} ({about['meaning']}). First: {first}")
