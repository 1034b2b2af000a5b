"""Cloze questions about documents as a file, and the report beside it that says what was left out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from palmette import run
from palmette.errors import DataError
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.cloze import REASONS, Cloze, ClozeSettings, make_cloze
from palmette.synth.passages import Passages
from palmette.synth.rationale_file import check_output, report_of, write_questions


def write_cloze(passages: Passages, out: Path, settings: ClozeSettings, say: Say) -> None:
    """Make cloze questions about passages and write them, with a report beside them.

    Args:
        passages: the passages of documents.
        out: the .jsonl, or SQuAD v2 .json, to write.
        settings: how many questions are made, and of which spans.
        say: called with lines about what was made.

    Raises:
        RunError: the file exists, has an unknown ending, or cannot be written.
        DataError: nothing recurs in any passage. The report is written then.
    """
    check_output(out)
    done = make_cloze(passages.passages, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "writer": "cloze",
        "settings": asdict(settings),
        **passages.as_record(),
        "questions": done.num_questions,
        "answerable": done.num_answerable,
        "passages_without_questions": dict(done.passages),
        "spans_left_out": dict(done.spans),
        "reasons": {reason: REASONS[reason] for reason in done.spans},
        "examples": done.examples,
    }
    run.write_json(report_of(out), {**run.environment(), **record})
    if not done.documents:
        raise DataError(
            f"nothing recurs in {counted(len(passages.passages), 'passage')}",
            f"See {report_of(out)}. Give longer texts, or a larger --passage-words.",
        )
    write_questions(done.documents, out)
    _summarize(done, passages, out, say)


def _summarize(done: Cloze, passages: Passages, out: Path, say: Say) -> None:
    number = done.num_questions
    where = f"{counted(len(done.documents), 'passage')} of {counted(passages.num_documents, 'document')}"
    say(
        f"{counted(number, 'question')} about {where}, {number / passages.num_documents:,.1f} a document. "
        f"{number - done.num_answerable:,} of them have no answer."
    )
    for reason, count in passages.num_dropped.items():
        say(f"  left out: {count:,} {reason}")
    for reason, count in done.passages.items():
        say(f"  left out: {count:,} passage: {reason}")
    for reason, count in done.spans.items():
        say(f"  left out: {count:,} span: {reason} ({REASONS[reason]}). First: {done.examples[reason][0]}")
    say(f"They are in {out}. The report is {report_of(out)}.")
