"""Questions about documents as a file, in a job that continues where it was stopped.

Beside the questions two files are written: the report, with counts and examples for each reason, and the story of every
span, with its question, what the reader answered, and why it was dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import Document
from palmette.data.text import short
from palmette.decode.prediction import Decoder
from palmette.errors import DataError
from palmette.files import expand
from palmette.inference.answerer import load_answerer
from palmette.inference.names import ModelName
from palmette.model.loading import dtype_name, weights_hash
from palmette.numbers import count as counted
from palmette.pages.made_data import Table
from palmette.progress import Say
from palmette.synth import question_text
from palmette.synth.effort import Turns, estimate, say_estimate, spent
from palmette.synth.licences import NO_LICENCES, Licences, say_unknown
from palmette.synth.passages import Passages
from palmette.synth.question_settings import QuestionSettings
from palmette.synth.questions import (
    NUM_BINS,
    ROUND_TRIP,
    bin_of,
    choose_spans,
    kept_questions,
    refused_lines,
    with_refused,
    write_lines,
)
from palmette.synth.rationale_file import check_output, dropped, report_of, write_questions
from palmette.synth.showing import count_table, page_of, question_sample, write_page_of
from palmette.synth.spans import KINDS
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import Writer

REASONS = {**question_text.REASONS, **ROUND_TRIP}
_MAY_BE = {"may be answered": "the reader finds it too probable that the passage answers the question"}
_SHOWN = ("answer", "question", "read", "probability", "answered")
_LIKE = ("weights_sha256", "adapter_sha256")


def spans_of(out: Path) -> Path:
    """The file beside a file of questions that holds what became of every span."""
    return out.with_name(out.name + ".spans.jsonl")


def write_document_questions(
    passages: Passages,
    out: Path,
    settings: QuestionSettings,
    open_writer: Callable[[], Writer],
    reader: ModelName,
    say: Say,
    *,
    licences: Licences = NO_LICENCES,
) -> None:
    """Make questions about passages and write them. A job that was stopped continues.

    Args:
        passages: the passages of documents.
        out: the .jsonl, or SQuAD v2 .json, to write. Until it exists, a work file beside it holds what is finished.
        settings: how many questions are made, and which are kept.
        open_writer: opens what writes the questions. It is called once the output is checked.
        reader: the model that answers the questions as a check.
        say: called with lines about what was made.
        licences: those that the user knows.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: no question is kept. The report is written then.
        PalmetteError: the writer or the reader cannot be used.
    """
    out = expand(out)
    check_output(out)
    with held_work(out) as work:
        writer, (decoder, read_by) = open_writer(), _reader(reader)
        made_of = licences.record(passages.identities, writer.licence)
        before = estimate(_requests(passages.passages, settings), writer)
        say_estimate(before, say)
        _warn_of_one_model(writer.identity, read_by, say)
        about = {
            "settings": asdict(settings),
            "writer": writer.identity,
            "prompt_sha256": question_text.PROMPT_SHA256,
            "reader": read_by,
            "sources": passages.identities,
            "reading": passages.settings,
        }
        done = begin_work(work, about)
        lines = write_lines(passages.passages, writer, decoder, settings, work, done)
        documents = kept_questions(passages.passages, lines, settings)
        refused = refused_lines(documents, decoder, settings, work, done)
        documents = with_refused(documents, refused)
        after = spent((span for line in lines for span in line["spans"]), writer)
        told = {"licences": made_of, "before": before, "after": after}
        record = {**about, **told, **passages.as_record(), **_counts(lines, refused)}
        total = _write(out, passages, record, documents, (lines, refused), say)
        work.unlink()
    say_unknown(made_of, say)
    say(
        f"{counted(total, 'question')} in {out}. The report is {report_of(out)}, every span is in {spans_of(out)}, and "
        f"{page_of(out)} shows samples."
    )


def _write(
    out: Path,
    passages: Passages,
    record: Mapping[str, Any],
    documents: Sequence[Document],
    lines: tuple[Sequence[Line], Sequence[Line]],
    say: Say,
) -> int:
    """Write the report, the page, every span and, if there are any, the questions. Gives the number of these."""
    asked, refused = lines
    run.write_json(report_of(out), {**run.environment(), **record})
    stories = [{"passage": line["id"], **span} for line in asked for span in line["spans"]]
    stories += [{"passage": line["passage"], **one} for line in refused for one in line["questions"]]
    run.write_json_lines(spans_of(out), stories)
    _summarize(passages, record, say)
    _write_page(out, passages, record, documents, asked)
    if not record["kept"]:
        raise DataError(
            "no question was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help."
        )
    return write_questions([document for document in documents if document.questions], out)


def _write_page(
    out: Path, passages: Passages, record: Mapping[str, Any], documents: Sequence[Document], lines: Sequence[Line]
) -> None:
    probable = {span["id"]: span.get("probability") for line in lines for span in line["spans"]}
    kept = [
        {**question_sample(document, one), "reader's probability": probable.get(one.id)}
        for document in documents
        for one in document.questions
    ]
    kinds = [(kind, *(f"{n[key]:,}" for key in ("found", "asked", "kept"))) for kind, n in record["by_kind"].items()]
    write_page_of(
        out,
        record,
        conclusion=_conclusion(record),
        dropped={
            **passages.dropped,
            "questions": record["dropped"],
            "questions without an answer": record["without_answer"]["dropped"],
        },
        kept=kept,
        tables=(
            count_table("Kept by probability", record["kept_by_probability"], ("reader's probability", "questions")),
            Table("Spans by kind", ("kind", "found", "asked for", "kept"), kinds),
        ),
    )


def _reader(name: ModelName) -> tuple[Decoder, dict[str, Any]]:
    """The span decoder of a model, and its record for the report."""
    answerer = load_answerer(name)
    about = {
        "model": str(name),
        "weights_sha256": weights_hash(answerer.loaded.folder),
        "adapter_sha256": answerer.weights,
        "dtype": dtype_name(answerer.loaded.model.dtype),
        "calibrated": answerer.calibration is not None,
        "prompt_sha256": answerer.task.prompt.sha256,
    }
    return answerer.span_decoder(), about


def _requests(passages: Sequence[Document], settings: QuestionSettings) -> Iterator[Turns]:
    for passage in passages:
        for span in choose_spans(passage, settings.spans, settings.seed)[0]:
            yield question_text.question_request(passage.text, span)


def _warn_of_one_model(writer: Mapping[str, Any], reader: Mapping[str, Any], say: Say) -> None:
    if all(writer.get(key) == reader[key] for key in _LIKE):
        say("Writer and reader are the same model, which agrees with itself too often. Give another --reader.")


def _counts(lines: Sequence[Line], refused: Sequence[Line]) -> dict[str, Any]:
    """What was found, asked, kept and dropped, as JSON holds it."""
    spans = [span for line in lines for span in line["spans"]]
    kept = [span for span in spans if not span["reason"]]
    found: Counter[str] = Counter()
    for line in lines:
        found.update(line["found"])
    kinds = {
        kind: {
            "found": found[kind],
            "asked": sum(span["kind"] == kind for span in spans),
            "kept": sum(span["kind"] == kind for span in kept),
        }
        for kind in KINDS
        if found[kind]
    }
    bins = [0] * NUM_BINS
    for span in kept:
        bins[bin_of(span["probability"])] += 1
    asked = [one for line in refused for one in line["questions"]]
    return {
        "asked": len(spans),
        "kept": len(kept),
        "kept_with_equal_answer": sum(span["read"] == span["answer"] for span in kept),
        "by_kind": kinds,
        "kept_by_probability": {f"{k / NUM_BINS:.1f} to {(k + 1) / NUM_BINS:.1f}": n for k, n in enumerate(bins)},
        "dropped": dropped(spans, REASONS, _SHOWN),
        "without_answer": {
            "asked": len(asked),
            "kept": sum(not one["reason"] for one in asked),
            "dropped": dropped(asked, _MAY_BE, _SHOWN),
        },
    }


def _summarize(passages: Passages, record: Mapping[str, Any], say: Say) -> None:
    for reason, number in passages.num_dropped.items():
        say(f"  left out: {number:,} {reason}")
    for kind, numbers in record["by_kind"].items():
        say(f"  {kind}: {numbers['found']:,} found, {numbers['asked']:,} asked for, {numbers['kept']:,} kept")
    for reason, about in {**record["dropped"], **record["without_answer"]["dropped"]}.items():
        first = short(about["examples"][0]["question"])
        say(f"  dropped: {about['number']:,} {reason} ({about['meaning']}). First: {first}")
    say(_conclusion(record))


def _conclusion(record: Mapping[str, Any]) -> str:
    without = record["without_answer"]
    return (
        f"{record['kept']:,} of {record['asked']:,} questions are kept, and {without['kept']:,} of "
        f"{without['asked']:,} questions without an answer."
    )
