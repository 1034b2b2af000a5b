"""Questions about documents as a file, in a job that continues where it was stopped.

Beside the questions two files are written: the report, with counts and examples for each reason, and the story of every
span, with its question, what the reader answered, and why it was dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from palmette.progress import Say
from palmette.synth import question_text
from palmette.synth.passages import Passages
from palmette.synth.question_settings import QuestionSettings
from palmette.synth.questions import (
    ROUND_TRIP,
    choose_spans,
    kept_questions,
    refused_lines,
    with_refused,
    write_lines,
)
from palmette.synth.rationale_file import check_output, dropped, dump, report_of, write_questions
from palmette.synth.spans import KINDS
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import Writer

REASONS = {**question_text.REASONS, **ROUND_TRIP}
_MAY_BE = {"may be answered": "the reader finds it too probable that the passage answers the question"}
_SHOWN = ("answer", "question", "read", "probability", "answered")
_BINS = 5
_CHARACTERS_PER_TOKEN = 4  # of English, where the tokenizer is the server's
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
    licence: str | None = None,
) -> None:
    """Make questions about passages and write them. A job that was stopped continues.

    Args:
        passages: the passages of documents.
        out: the .jsonl, or SQuAD v2 .json, to write. Until it exists, a work file beside it holds what is finished.
        settings: how many questions are made, and which are kept.
        open_writer: opens what writes the questions. It is called once the output is checked.
        reader: the model that answers the questions as a check.
        say: called with lines about what was made.
        licence: the licence of what the writer writes, for the report.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: no question is kept. The report is written then.
        PalmetteError: the writer or the reader cannot be used.
    """
    out = expand(out)
    check_output(out)
    with held_work(out) as work:
        _announce(passages.passages, settings, say)
        writer, (decoder, read_by) = open_writer(), _reader(reader)
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
        documents = kept_questions(passages.passages, lines)
        refused = refused_lines(documents, decoder, settings, work, done)
        documents = with_refused(documents, refused)
        record = {**about, "licence": licence, **passages.as_record(), **_counts(lines, refused)}
        run.write_json(report_of(out), {**run.environment(), **record})
        stories = [{"passage": line["id"], **span} for line in lines for span in line["spans"]]
        stories += [{"passage": line["passage"], **asked} for line in refused for asked in line["questions"]]
        run.write_text(spans_of(out), dump(stories))
        _summarize(passages, record, say)
        if not record["kept"]:
            raise DataError(
                "no question was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help."
            )
        total = write_questions([document for document in documents if document.questions], out)
        work.unlink()
    say(f"{counted(total, 'question')} in {out}. The report is {report_of(out)}, and every span is in {spans_of(out)}.")


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


def _announce(passages: Sequence[Document], settings: QuestionSettings, say: Say) -> None:
    """Say how much there is to write, before anything is asked."""
    requests = read = 0
    for passage in passages:
        spans, _ = choose_spans(passage, settings.spans, settings.seed)
        requests += len(spans)
        read += sum(len(text) for span in spans for _, text in question_text.question_request(passage.text, span))
    say(
        f"{counted(len(passages), 'passage')}, for which {counted(requests, 'question')} are to be written. The writer "
        f"is asked about {read // _CHARACTERS_PER_TOKEN:,} tokens, without those that a local one shares."
    )


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
    bins = [0] * _BINS
    for span in kept:
        bins[min(int(span["probability"] * _BINS), _BINS - 1)] += 1
    asked = [one for line in refused for one in line["questions"]]
    tokens = [span["tokens"] for span in spans if span["tokens"] is not None]
    return {
        "asked": len(spans),
        "kept": len(kept),
        "kept_with_equal_answer": sum(span["read"] == span["answer"] for span in kept),
        "by_kind": kinds,
        "kept_by_probability": {f"{k / _BINS:.1f} to {(k + 1) / _BINS:.1f}": n for k, n in enumerate(bins)},
        "tokens_written": sum(tokens),
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
    without = record["without_answer"]
    say(
        f"{record['kept']:,} of {record['asked']:,} questions are kept, and {without['kept']:,} of "
        f"{without['asked']:,} questions without an answer."
    )
