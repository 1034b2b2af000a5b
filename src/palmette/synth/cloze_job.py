"""Cloze questions about documents as a file, and the report beside it that says what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import Document, Question
from palmette.errors import DataError
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.cloze import PASSAGES, REASONS, Cloze, ClozeSettings, blank_of, make_cloze
from palmette.synth.licences import NO_LICENCES, Licences, say_unknown
from palmette.synth.passages import Passages
from palmette.synth.rationale_file import check_output, report_of, write_questions
from palmette.synth.showing import page_of, question_sample, surroundings, write_page_of


def write_cloze(
    passages: Passages, out: Path, settings: ClozeSettings, say: Say, *, licences: Licences = NO_LICENCES
) -> None:
    """Make cloze questions about passages and write them, with a report beside them.

    Args:
        passages: the passages of documents.
        out: the .jsonl, or SQuAD v2 .json, to write.
        settings: how many questions are made, and of which spans.
        say: called with lines about what was made.
        licences: those that the user knows.

    Raises:
        RunError: the file exists, has an unknown ending, or cannot be written.
        DataError: no passage gives a question. The report is written then. Or a licence is given for a source that was
            not read.
    """
    check_output(out)
    made_of = licences.of_sources(passages.identities)
    done = make_cloze(passages.passages, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "writer": "cloze",
        "settings": asdict(settings),
        **passages.as_record(),
        "licences": made_of,
        "questions": done.num_questions,
        "answerable": done.num_answerable,
        "passages_without_questions": dict(done.passages),
        "spans_left_out": dict(done.spans),
        "reasons": {**{one: PASSAGES[one] for one in done.passages}, **{one: REASONS[one] for one in done.spans}},
        "examples": done.examples,
    }
    run.write_json(report_of(out), {**run.environment(), **record})
    _write_page(done, passages, record, out)
    if not done.documents:
        why = ", ".join(f"{number:,} because {reason}" for reason, number in done.passages.items())
        number = len(passages.passages)
        raise DataError(
            f"{counted(number, 'passage')} {'gives' if number == 1 else 'give'} no question: {why}",
            f"See {report_of(out)}. Give longer texts, or a larger --passage-words.",
        )
    write_questions(done.documents, out)
    _summarize(done, passages, out, say)
    say_unknown(made_of, say)


def _write_page(done: Cloze, passages: Passages, record: Mapping[str, Any], out: Path) -> None:
    def filters(counts: Mapping[str, int], meanings: Mapping[str, str]) -> dict[str, Any]:
        return {
            reason: {
                "number": number,
                "meaning": meanings[reason],
                "examples": [{"for example": one} for one in done.examples[reason]],
            }
            for reason, number in counts.items()
        }

    write_page_of(
        out,
        record,
        conclusion=_conclusion(done, passages),
        dropped={
            **passages.dropped,
            "passages without a question": filters(done.passages, PASSAGES),
            "spans": filters(done.spans, REASONS),
        },
        kept=[_sample(document, one) for document in done.documents for one in document.questions],
    )


def _sample(document: Document, question: Question) -> dict[str, str]:
    """A question for the page, with the words around its blank."""
    blank = blank_of(question)
    start = document.text.index(blank)
    return {**question_sample(document, question), "asked at": surroundings(document.text, start, start + len(blank))}


def _conclusion(done: Cloze, passages: Passages) -> str:
    number = done.num_questions
    where = f"{counted(len(done.documents), 'passage')} of {counted(passages.num_documents, 'document')}"
    return (
        f"{counted(number, 'question')} about {where}, {number / passages.num_documents:,.1f} a document. "
        f"{number - done.num_answerable:,} of them have no answer."
    )


def _summarize(done: Cloze, passages: Passages, out: Path, say: Say) -> None:
    say(_conclusion(done, passages))
    for reason, count in passages.num_dropped.items():
        say(f"  left out: {count:,} {reason}")
    for reason, count in done.passages.items():
        say(f"  left out: {count:,} passage: {reason}")
    for reason, count in done.spans.items():
        say(f"  left out: {count:,} span: {reason} ({REASONS[reason]}). First: {done.examples[reason][0]}")
    say(f"They are in {out}. The report is {report_of(out)}, and {page_of(out)} shows samples.")
