"""`palmette extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import (
    DATA,
    MODEL,
    PATH,
    Answering,
    ChosenModelOption,
    expanded,
    read_answering,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.extraction.schema import Schema


@expanded("answering", read_answering, without=("decoder",))
def extract(
    *,
    schema: Annotated[
        Path,
        typer.Argument(help="A YAML file with the fields, or a JSON Schema as .json.", **{**PATH, "metavar": "SCHEMA"}),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help='Documents, folders, or patterns like "*.pdf".',
            **{**MODEL, "metavar": "FILE"},
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Table to write: .csv, .jsonl, .parquet or .xlsx. With --learn, questions as .jsonl or .json.",
            **PATH,
        ),
    ],
    page: Annotated[
        Path | None, typer.Option("--page", help="HTML page to write, with each value in its document.", **PATH)
    ] = None,
    learn: Annotated[
        str | None,
        typer.Option(
            "--learn",
            help="Extract nothing, and turn this file of labelled fields into questions to train on: rows with "
            "document, field and value, or a table that this command wrote, with corrected cells.",
            **DATA,
        ),
    ] = None,
    on_bad_record: Annotated[
        Literal["error", "drop"],
        typer.Option(help="Whether a bad label is an error, or is left out and counted."),
    ] = "error",
    target_error: Annotated[
        float | None,
        typer.Option(
            help="Guarantee that at most this share of the values is wrong, such as 0.05, tested on --labelled."
        ),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Labelled fields of other documents, as for --learn, which test the guarantee.", **DATA),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence level of the guarantee.")] = 0.95,
    model: ChosenModelOption = None,
    answering: Answering,
) -> None:
    """Read the fields of a schema out of documents, into a table.

    Each value is copied from its document, with its place, its probability and the probability that the document does
    not hold it. Its number, amount or date stands beside it where a rule reads one. A field that is not in a document
    stays empty. A file that cannot be read becomes a row with its error. A job that was stopped continues with the same
    command.
    """
    if learn is not None:
        if files or page is not None:
            raise typer.BadParameter("--learn reads the documents that its rows name, and writes questions alone")
        _learn(schema, learn, out, on_bad_record)
        return
    if not files:
        raise typer.BadParameter("name the documents, or give --learn FILE")
    if (target_error is None) != (labelled is None):
        raise typer.BadParameter("--target-error and --labelled need each other")
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.data.inputs import find_documents
    from palmette.extraction.labels import read_labels
    from palmette.extraction.schema import read_schema
    from palmette.extraction.table import check_format
    from palmette.inference.names import open_source
    from palmette.startup import quick_imports

    news = stderr()
    check_format(out)
    known = read_schema(schema)
    names, left_out = find_documents(files)
    if left_out:
        news.print(f"left out {left_out} file{'s' if left_out > 1 else ''} of other kinds")
    labels = read_labels(labelled, known, on_bad_record=on_bad_record) if labelled is not None else None
    opened = open_source(named_or_chosen(model, news))
    with quick_imports(freeze=True):
        from palmette.extraction.job import check_job, extract_files, lines_of
        from palmette.inference.answerer import open_answerer
    lines = lines_of(out)
    check_job(known, names, out)
    answerer = open_answerer(opened, attention=answering.attention, calibrated=answering.calibration)
    effort = answerer.effort(answering.max_words, answering.inside_words)
    promise = None
    if labels is not None and target_error is not None:
        from palmette.extraction.promise import make_promise

        news.print(f"{labels.summary()}, in {labels.source}")
        promise = make_promise(answerer, known, labels, effort, target_error=target_error, confidence=confidence)
        for line in promise.explain():
            news.print(line)
    tally = extract_files(answerer, known, names, lines, effort=effort, promise=promise)
    if tally.interrupted:
        safe = f"{tally.rows // len(known.fields)} of {len(names)} documents are safe in {lines}"
        news.print(f"stopped: {safe}. Give the same command again to continue.")
        raise typer.Exit(130)
    news.print(_write(known, lines, out, page))


def _learn(path: Path, labelled: str, out: Path, on_bad_record: Literal["error", "drop"]) -> None:
    """Write labelled fields as questions, and say how to train on them."""
    from palmette.cli.console import invoked_as, stderr
    from palmette.extraction.labels import questions_to_learn, read_labels
    from palmette.extraction.schema import read_schema
    from palmette.files import format_yaml
    from palmette.synth.rationale_file import check_output, write_questions

    check_output(out)
    schema = read_schema(path)
    found = read_labels(labelled, schema, on_bad_record=on_bad_record)
    number = write_questions(questions_to_learn(found.documents, schema), out)
    recipe = {"output": f"runs/{out.stem}", "start": "reader", "data": {"train": [str(out)]}}
    stderr().print(
        f"{found.summary()}. They are {number} questions in {out}. To train on them, save this as {out.stem}.yaml:"
    )
    stderr().print(format_yaml(recipe).rstrip())
    stderr().print(f"and give the command: {invoked_as()} train sft {out.stem}.yaml")


def _write(schema: Schema, lines: Path, out: Path, page: Path | None) -> str:
    """Write the table and the page. The result is the message to the user."""
    from palmette.extraction.job import read_results, text_of
    from palmette.extraction.passages import shown_documents
    from palmette.extraction.table import Counts, write_table
    from palmette.pages.extraction import write_extraction

    counts = Counts()
    write_table(out, counts.counted(read_results(lines, schema)), schema)
    if page is not None:
        shown = shown_documents(read_results(lines, schema), text_of)
        write_extraction(page, shown, schema=schema.name, number=counts.documents)
    return counts.summary(out) + (f". The page is {page}" if page else "")
