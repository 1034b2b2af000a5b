"""Questions and answers that stand in texts as a file of conversations, in a job that continues where it was stopped.

A conversation is the passage with the question, and the answer. All conversations about a passage begin with it, so it
is the shared trunk of their tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import DataError
from palmette.files import expand
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.effort import estimate, say_estimate, spent
from palmette.synth.instruct.job import check_conversations, say_dropped, tasks_of
from palmette.synth.instruct.pair_rows import rows_of
from palmette.synth.instruct.pair_text import PAIRS, PROMPT_SHA256
from palmette.synth.instruct.pairs import TEXTS, pair_lines, typical
from palmette.synth.instruct.settings import PairSettings
from palmette.synth.leaks import leak_check
from palmette.synth.licences import NO_LICENCES, Licences, say_unknown
from palmette.synth.passages import Passages
from palmette.synth.rationale_file import dropped, report_of
from palmette.synth.showing import page_of, write_page_of
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import Writer


def write_pairs(
    passages: Passages,
    out: Path,
    settings: PairSettings,
    open_writer: Callable[[], Writer],
    say: Say,
    *,
    against: Sequence[str] = (),
    licences: Licences = NO_LICENCES,
) -> None:
    """Find questions and answers in passages and write them. A job that was stopped continues.

    Args:
        passages: the passages of documents.
        out: the .jsonl to write. Until it exists, a work file beside it holds what is finished.
        settings: how many are asked for, and which are kept.
        open_writer: opens what writes them. It is called once the output is checked.
        say: called with lines about what was found.
        against: evaluation sets. What shares 8 words in a row with one is dropped.
        licences: those that the user knows.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: an evaluation set cannot be read, or nothing is kept. The report is written then.
        PalmetteError: the writer cannot be used.
    """
    out = expand(out)
    check_conversations(out)
    is_leaked = leak_check(against)
    with held_work(out) as work:
        writer = open_writer()
        made_of = licences.record(passages.identities, writer.licence)
        before = estimate(typical(passages.passages, settings), writer)
        say_estimate(before, say)
        about = {
            "settings": asdict(settings),
            "writer": writer.identity,
            "prompt_sha256": PROMPT_SHA256,
            "sources": passages.identities,
            "reading": passages.settings,
        }
        done = begin_work(work, about)
        lines = pair_lines(passages.passages, writer, settings, is_leaked, work, done)
        record = {
            **about,
            **passages.as_record(),
            "licences": made_of,
            "before": before,
            "after": spent(lines, writer),
            **_counts(lines),
        }
        _write(out, passages, record, lines, settings, say)
        work.unlink()
    say_unknown(made_of, say)
    say(
        f"They are in {out}. The report is {report_of(out)}, every question is in {tasks_of(out)}, and {page_of(out)} "
        f"shows samples."
    )


def _write(
    out: Path,
    passages: Passages,
    record: Mapping[str, Any],
    lines: Sequence[Line],
    settings: PairSettings,
    say: Say,
) -> None:
    """Write the report, the page, every question and, if any are kept, the rows."""
    run.write_json(report_of(out), {**run.environment(), **record})
    run.write_json_lines(tasks_of(out), ({"passage": line["id"], **pair} for line in lines for pair in line["pairs"]))
    _summarize(passages, record, say)
    rows = list(rows_of(passages.passages, lines, settings))
    told = {**passages.dropped, **record["dropped"]}
    write_page_of(out, record, conclusion=_conclusion(passages, record), dropped=told, kept=[*map(_shown, rows)])
    if not record["kept"]:
        raise DataError("nothing was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help.")
    run.write_json_lines(out, rows)


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A row for the page."""
    if "text" in row:
        return {"text": row["text"]}
    place = row["place"]
    told = {turn["role"]: turn["content"] for turn in row["messages"]}
    return {**told, "stands in": f"{place['document']}, characters {place['start']:,} to {place['end']:,}"}


def _counts(lines: Sequence[Line]) -> dict[str, Any]:
    """What was written, kept and dropped, as JSON holds it."""
    pairs = [pair for line in lines for pair in line["pairs"]]
    kept = [sum(not pair["reason"] for pair in line["pairs"]) for line in lines]
    return {
        "found": len(pairs),
        "kept": sum(kept),
        "passages_with_questions": sum(number > 0 for number in kept),
        "dropped": {
            "texts": dropped(lines, TEXTS, ("text",)),
            "pairs": dropped(pairs, PAIRS, ("question", "answer", "reply")),
        },
    }


def _summarize(passages: Passages, record: Mapping[str, Any], say: Say) -> None:
    for reason, number in passages.num_dropped.items():
        say(f"  left out: {number:,} {reason}")
    for unit, reasons in record["dropped"].items():
        say_dropped(unit, reasons, say)
    say(f"{_conclusion(passages, record)} {record['after']['tokens_written']:,} tokens were written.")


def _conclusion(passages: Passages, record: Mapping[str, Any]) -> str:
    return (
        f"{record['kept']:,} of {counted(record['found'], 'question')} are kept, about "
        f"{record['passages_with_questions']:,} of {counted(len(passages.passages), 'passage')}."
    )
