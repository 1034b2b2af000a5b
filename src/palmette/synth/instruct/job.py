"""Tasks and their answers as a file of conversations, in a job that continues where it was stopped.

Beside the conversations two files are written: the report, with counts and examples for each reason, and every task
that was listed, with what it was solved with and why it was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.corpus.cleaning import Dropped
from palmette.corpus.overlap import EvaluationSets
from palmette.corpus.texts import Text
from palmette.data.forms import standard_rows
from palmette.data.text import short
from palmette.errors import DataError, RunError
from palmette.files import expand
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.instruct.faults import INSTANCES, REQUESTS, TASKS
from palmette.synth.instruct.rounds import IsLeaked, make_rounds
from palmette.synth.instruct.seeds import Seeds
from palmette.synth.instruct.settings import SHARED_WORDS, InstructSettings
from palmette.synth.instruct.text import PROMPT_SHA256
from palmette.synth.rationale_file import dropped, dump, report_of
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import Writer


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


def leak_check(against: Sequence[str]) -> IsLeaked:
    """Whether a text shares 8 words in a row with evaluation sets, or a whole text of 8 words or more.

    Args:
        against: the evaluation sets.

    Raises:
        DataError: a set cannot be read, or holds no text that is long enough.
    """
    if not against:
        return lambda _: False
    sets = EvaluationSets(against, SHARED_WORDS)
    return lambda text: isinstance(sets(Text("task", text, "")), Dropped)


def write_tasks(
    seeds: Seeds,
    out: Path,
    settings: InstructSettings,
    open_writer: Callable[[], Writer],
    say: Say,
    *,
    against: Sequence[str] = (),
    licence: str | None = None,
) -> None:
    """Make tasks with their answers and write them. A job that was stopped continues.

    Args:
        seeds: the seed tasks.
        out: the .jsonl to write. Until it exists, a work file beside it holds what is finished.
        settings: how many tasks are made, and which are kept.
        open_writer: opens what writes the tasks. It is called once the output is checked.
        say: called with lines about what was made.
        against: evaluation sets. What shares 8 words in a row with one is dropped.
        licence: the licence of what the writer writes, for the report.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: an evaluation set cannot be read, or no task is kept. The report is written then.
        PalmetteError: the writer cannot be used.
    """
    out = expand(out)
    check_conversations(out)
    is_leaked = leak_check(against)
    with held_work(out) as work:
        writer = open_writer()
        about = {
            "settings": asdict(settings),
            "writer": writer.identity,
            "prompt_sha256": PROMPT_SHA256,
            "seeds": seeds.describe(),
            "against": list(against),
        }
        lines = make_rounds(writer, seeds, settings, is_leaked, work, begin_work(work, about))
        tasks = [task for line in lines for task in line["tasks"]]
        record = _counts(lines, tasks)
        run.write_json(report_of(out), {**run.environment(), **about, "licence": licence, **record})
        run.write_text(tasks_of(out), dump(tasks))
        _summarize(record, settings.number, say)
        if not record["kept"]:
            raise DataError(
                "no task was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help."
            )
        rows = list(_conversations(tasks))
        run.write_text(out, dump(rows))
        work.unlink()
    say(
        f"{counted(len(rows), 'conversation')} in {out}. The report is {report_of(out)}, and every task is in "
        f"{tasks_of(out)}."
    )


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
            yield {"id": name, **made, "task": task["id"], "classification": task["classification"]}


def _counts(lines: Sequence[Line], tasks: Sequence[Line]) -> dict[str, Any]:
    """What was written, kept and dropped, as JSON holds it."""
    kept = [task for task in tasks if not task["reason"]]
    instances = [one for task in tasks for one in task.get("instances", ())]
    lists = [one for line in lines for one in line["lists"]]
    return {
        "rounds": len(lines),
        "lists": len(lists),
        "listed": len(tasks),
        "kept": len(kept),
        "kept_with_labels": sum(task["classification"] for task in kept),
        "conversations": sum(not one["reason"] for task in kept for one in task["instances"]),
        "tokens_written": sum(line["tokens"] for line in lines),
        "dropped": {
            "lists": dropped(lists, REQUESTS, ("text",)),
            "tasks": dropped(tasks, TASKS, ("instruction", "like")),
            "instances": dropped(instances, INSTANCES, ("input", "output")),
        },
    }


def _summarize(record: Mapping[str, Any], wanted: int, say: Say) -> None:
    for unit, reasons in record["dropped"].items():
        say_dropped(unit, reasons, say)
    say(
        f"{record['kept']:,} of {record['listed']:,} tasks are kept, {record['kept_with_labels']:,} of them with "
        f"labels. {record['tokens_written']:,} tokens were written in {counted(record['rounds'], 'round')}."
    )
    if record["kept"] < wanted:
        say(f"{wanted:,} were asked for, but the last rounds gave none.")


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
