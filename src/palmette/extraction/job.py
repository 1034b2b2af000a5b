"""Extraction from many files: the job of `palmette predict`, with the fields of a schema in place of questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.inputs import Documents, SharedQuestion
from palmette.data.records import Document, Question
from palmette.data.stream import Row
from palmette.decode.effort import Effort
from palmette.documents import read_document
from palmette.errors import DataError, RunError, reason_of
from palmette.extraction.reading import WHOLE_SEARCH, FieldDecoder, FittedRules, field_record
from palmette.extraction.schema import Schema, read_schema
from palmette.extraction.values import DocumentResult, FieldResult, document_results, field_result
from palmette.inference import job, job_files
from palmette.inference.answerer import Answerer, asked_document
from palmette.inference.cluster import Reading, cluster_work
from palmette.inference.tally import Tally

_NEVER = 10**12  # characters. A chunk is one document, so it ends by its number of rows alone.


def inputs_of(schema: Schema, files: tuple[str, ...]) -> Documents:
    """The documents, each asked all fields."""
    return Documents(files, tuple(SharedQuestion(field.name, field.question) for field in schema.fields), "files")


def lines_of(out: Path) -> Path:
    """The file in which the job of a table keeps its lines, beside the table."""
    return out.with_name(out.name + ".lines.jsonl")


def check_job(schema: Schema, files: tuple[str, ...], out: Path) -> None:
    """Check a job before its model is loaded.

    Raises:
        RunError: the table exists, or its lines do, and such a job did not write them.
    """
    if not lines_of(out).exists():
        run.check_absent(out)
    job_files.check_job(inputs_of(schema, files), lines_of(out))


def extract_files(
    answerer: Answerer,
    schema: Schema,
    files: tuple[str, ...],
    lines: Path,
    *,
    effort: Effort | None = None,
    fitted: FittedRules | None = None,
) -> Tally:
    """Read a schema's fields out of files into a JSON Lines file, one line for each field of each file.

    A job that was stopped is continued. If it is killed, one document at most is read again.

    Args:
        answerer: what reads.
        schema: the fields.
        files: the documents. One that cannot be read gets lines with its error.
        lines: the file to write, or to continue.
        effort: how far the decoder looks. As calibrated if None.
        fitted: decides which values are given. By the answerer's decision if None.

    Raises:
        RunError: the file belongs to another job, is being written by another process, or cannot be written.
    """
    chosen = effort or answerer.effort()
    settings = {**job.model_settings(answerer), **asdict(chosen), **asdict(answerer.decision)}
    work = job.by_decoder(*_opened(answerer, chosen, schema=schema, fitted=fitted))
    return _extract_rows(work, settings, schema, files, lines, fitted)


def extract_on_cluster(
    reading: Reading,
    schema: Schema,
    files: tuple[str, ...],
    lines: Path,
    *,
    address: str,
    workers: int | None = None,
    fitted: FittedRules | None = None,
) -> Tally:
    """As `extract_files`, on a Ray cluster. The file is the same.

    Args:
        reading: how workers answer.
        schema: the fields.
        files: the documents. This process alone reads them.
        lines: the file to write, or to continue.
        address: as for `predict_on_cluster`.
        workers: as for `predict_on_cluster`.
        fitted: as for `extract_files`.

    Raises:
        RunError: as for `extract_files` and `predict_on_cluster`.
        ModelError: as for `predict_on_cluster`.
    """
    reading = replace(reading, opened=partial(_opened, schema=schema, fitted=fitted))
    with cluster_work(reading, address=address, workers=workers) as (work, settings):
        return _extract_rows(work, settings, schema, files, lines, fitted)


def _opened(
    answerer: Answerer, effort: Effort, *, schema: Schema, fitted: FittedRules | None
) -> tuple[FieldDecoder, job.Describe]:
    """What reads the fields, and what a line says about one."""
    decoder = answerer.span_decoder(effort)
    if fitted is None:
        return FieldDecoder(decoder, schema), field_record
    rules = fitted.rules(schema, answerer.decision)
    return FieldDecoder(answerer.span_decoder(effort, WHOLE_SEARCH), schema, rules), field_record


def _extract_rows(
    work: job.Work,
    settings: Mapping[str, Any],
    schema: Schema,
    files: tuple[str, ...],
    lines: Path,
    fitted: FittedRules | None,
) -> Tally:
    documents = inputs_of(schema, files)
    ruled = fitted.settings() if fitted else {}
    with documents.open() as rows:
        return job.predict_rows(
            work,
            rows,
            lines,
            {**settings, "schema": schema.settings(), **ruled},
            about={"input": documents.name, **run.environment()},
            lines=documents.lines,
            max_rows=len(schema.fields),
            max_characters=_NEVER,
            word="extract",
            unit="fields",
        )


def windows_of(tally: Tally, schema: Schema) -> list[int]:
    """The number of windows of each document that could be read. A document has a line for each field."""
    return [count for count, rows in tally.windows.items() for _ in range(rows // len(schema.fields))]


def read_results(lines: Path, schema: Schema) -> Iterator[DocumentResult]:
    """What the lines of a finished job say, one document after the other.

    Raises:
        RunError: they cannot be read.
    """
    return document_results(_records(lines), schema)


def text_of(result: DocumentResult) -> str | None:
    """The text of a document that was extracted from. None if it cannot be read any more, or has changed since."""
    try:
        document = read_document(result.document)
    except DataError:
        return None
    return document.text if document.sha256 == result.sha256 else None


def _records(lines: Path) -> Iterator[dict[str, Any]]:
    try:
        with lines.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {lines}: {reason_of(error)}", "Give the same command again.") from error


def extract(answerer: Answerer, schema: Any, text: str, *, effort: Effort | None = None) -> dict[str, FieldResult]:
    """Read the fields of a schema out of a text.

    The text is read once for all fields. Each value is copied from it, and what it means stands beside it. A field that
    the text does not hold has no value, and nothing is invented for it.

    Args:
        answerer: what reads, as `palmette.load` gives it.
        schema: a YAML or JSON file, a map of settings, a JSON Schema as a map, a pydantic model, or what `read_schema`
            returns.
        text: the text of the document.
        effort: how far the decoder looks. As calibrated if None.

    Returns:
        {name of the field: what the text says about it}, in the order of the schema.

    Raises:
        DataError: the schema is bad, or the text is empty or is not valid Unicode.
        RunError: the model was calibrated for another effort.
    """
    if not isinstance(text, str):
        raise DataError(f"the text is {type(text).__name__}", "Give text. `read_document(FILE).text` reads a file.")
    known = read_schema(schema)
    asked = asked_document(text, [field.question for field in known.fields], "text")
    decoder = FieldDecoder(answerer.span_decoder(effort), known)
    found = dict(decoder.predict([asked]))
    results = {}
    for question, field in zip(asked.questions, known.fields, strict=True):
        record = field_record(found[question.id], _row(asked, question))
        results[field.name] = field_result(record, field, known)
    return results


def _row(document: Document, question: Question) -> Row:
    return Row(1, question.id, document.text, question.text)
