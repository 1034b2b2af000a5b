"""`palmette extract`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.answer.predict import Cluster, read_cluster
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
    from palmette.data.source import OnBad
    from palmette.decode.effort import Effort
    from palmette.extraction.labels import Labels
    from palmette.extraction.reading import FittedRules
    from palmette.extraction.schema import Schema
    from palmette.inference.answerer import Answerer
    from palmette.inference.names import ModelSource
    from palmette.inference.tally import Tally


FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help='Documents, folders, or patterns like "*.pdf".',
        **{**MODEL, "metavar": "FILE"},
    ),
]
TableOption = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Table to write: .csv, .jsonl, .parquet or .xlsx. With --learn, questions as .jsonl or .json.",
        **PATH,
    ),
]
LearnOption = Annotated[
    str | None,
    typer.Option(
        "--learn",
        help="Extract nothing, and turn this file of labelled fields into questions to train on: rows with "
        "document, field and value, or a table that this command wrote, with corrected cells.",
        **DATA,
    ),
]
OnBadOption = Annotated[
    Literal["error", "drop"],
    typer.Option(help="Whether a bad label is an error, or is left out and counted."),
]


@dataclass(frozen=True)
class Tested:
    """The thresholds or the guarantee that are wanted: what the options of `read_tested` say.

    Attributes:
        labelled: the labelled fields that thresholds are fitted to, or that test the guarantee. Neither if None.
        target_error: the largest share of wrong values. No guarantee, and thresholds at a cost, if None.
        confidence: confidence level of the guarantee.
        cost_wrong: what a wrong value costs. As by default if None.
    """

    labelled: str | None = None
    target_error: float | None = None
    confidence: float = 0.95
    cost_wrong: float | None = None


def read_tested(
    *,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Labelled fields of other documents, as for --learn, to which a threshold for each field is fitted.",
            **DATA,
        ),
    ] = None,
    cost_wrong: Annotated[
        float | None,
        typer.Option(
            metavar="C",
            help="What a wrong value costs, if leaving out one that is there costs 1. With --labelled any number from "
            "1 on, by default 2. Without, 1, 1.5, 2, 3, 5 or 10, by default as the run was calibrated.",
        ),
    ] = None,
    target_error: Annotated[
        float | None,
        typer.Option(
            help="Guarantee that at most this share of the values is wrong, such as 0.05, tested on --labelled."
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence level of the guarantee.")] = 0.95,
) -> Tested:
    """What the options of a command say about labelled fields."""
    if labelled is None and target_error is not None:
        raise typer.BadParameter("--target-error needs --labelled")
    if target_error is not None and cost_wrong is not None:
        raise typer.BadParameter("give --target-error or --cost-wrong: a guarantee depends on no cost")
    return Tested(labelled, target_error, confidence, cost_wrong)


@expanded("cluster", read_cluster)
@expanded("tested", read_tested)
@expanded("answering", read_answering, without=("decoder", "cost_wrong"))
def extract(
    *,
    schema: Annotated[
        Path,
        typer.Argument(help="A YAML file with the fields, or a JSON Schema as .json.", **{**PATH, "metavar": "SCHEMA"}),
    ],
    files: FilesArgument = None,
    out: TableOption,
    page: Annotated[
        Path | None, typer.Option("--page", help="HTML page to write, with each value in its document.", **PATH)
    ] = None,
    learn: LearnOption = None,
    on_bad_record: OnBadOption = "error",
    tested: Tested,
    model: ChosenModelOption = None,
    answering: Answering,
    cluster: Cluster,
) -> None:
    """Read the fields of a schema out of documents, into a table.

    Each value is copied from its document, with its place, its probability and the probability that the document does
    not hold it. Its number, amount or date stands beside it where a rule reads one. A field that is not in a document
    stays empty. A file that cannot be read becomes a row with its error. A job that was stopped continues with the same
    command. With --labelled, thresholds are fitted to labelled documents first. With --target-error, the share of wrong
    values is guaranteed. With --learn, labelled fields become training data instead.
    """
    if learn is not None:
        if files or page is not None:
            raise typer.BadParameter("--learn reads the documents that its rows name, and writes questions alone")
        _learn(schema, learn, out, on_bad_record)
        return
    if not files:
        raise typer.BadParameter("name the documents, or give --learn FILE")
    _extract(schema, files, out, page, on_bad_record, tested, model, answering, cluster)


def _extract(
    path: Path,
    files: list[str],
    out: Path,
    page: Path | None,
    on_bad_record: OnBad,
    tested: Tested,
    model: str | None,
    answering: Answering,
    cluster: Cluster,
) -> None:
    """Read the fields and write the table."""
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.data.inputs import find_documents
    from palmette.extraction.labels import read_labels
    from palmette.extraction.schema import read_schema
    from palmette.extraction.table import check_format
    from palmette.inference.names import resolve_answerer

    news = stderr()
    check_format(out)
    _check(tested)
    known = read_schema(path)
    names, left_out = find_documents(files)
    if left_out:
        news.print(f"left out {left_out} file{'s' if left_out > 1 else ''} of other kinds")
    labels = read_labels(tested.labelled, known, on_bad_record=on_bad_record) if tested.labelled else None
    opened = resolve_answerer(named_or_chosen(model, news))
    lines, tally, fitted = _lines(opened, known, names, out, answering, cluster, labels, tested)
    if tally.interrupted:
        safe = f"{tally.rows // len(known.fields)} of {len(names)} documents are safe in {lines}"
        news.print(f"stopped: {safe}. Give the same command again to continue.")
        raise typer.Exit(130)
    news.print(_write(known, lines, out, page))
    if line := _warning(opened, answering, fitted, tally, known):
        news.print(line)


def _check(tested: Tested) -> None:
    """Refuse numbers to which nothing can be fitted, before anything is read."""
    from palmette.evaluate.guarantee import check_promise
    from palmette.inference.calibration import check_cost

    if tested.cost_wrong is not None:
        check_cost(tested.cost_wrong)
    if tested.target_error is not None:
        check_promise(tested.target_error, tested.confidence)


def _warning(
    opened: ModelSource, answering: Answering, fitted: FittedRules | None, tally: Tally, schema: Schema
) -> str | None:
    """A line about documents that are longer than those that the values rest on."""
    from palmette.extraction.job import windows_of
    from palmette.inference.calibration import calibration_of

    num_windows = windows_of(tally, schema)
    if fitted is not None:
        return fitted.warn_of_windows(num_windows)
    calibration = calibration_of(opened.trained) if answering.calibration else None
    return calibration.warn_of_windows(num_windows) if calibration else None


def _lines(
    opened: ModelSource,
    schema: Schema,
    names: tuple[str, ...],
    out: Path,
    answering: Answering,
    cluster: Cluster,
    labels: Labels | None,
    tested: Tested,
) -> tuple[Path, Tally, FittedRules | None]:
    """Read the fields of all documents, here or on a cluster.

    The result is the file of lines, what was done, and the rules that decided which values are given, if any
    were fitted.
    """
    from palmette.startup import quick_imports

    with quick_imports(freeze=True):
        from palmette.extraction.job import check_job, extract_files, extract_on_cluster, lines_of
        from palmette.inference.answerer import open_answerer
        from palmette.inference.cluster import Reading
    lines, fitted = lines_of(out), None
    # With labels, thresholds are fitted to the cost instead.
    loading = answering.loading | {"cost_wrong": tested.cost_wrong if labels is None else None}
    check_job(schema, names, out)
    if cluster.address is None or labels is not None:
        answerer = open_answerer(opened, **loading)
        effort = answerer.effort(answering.max_words, answering.inside_words)
        fitted = _fitted(answerer, effort, schema, labels, tested)
        if cluster.address is None:
            return lines, extract_files(answerer, schema, names, lines, effort=effort, fitted=fitted), fitted
    reading = Reading(opened.name, max_words=answering.max_words, inside_words=answering.inside_words, **loading)
    done = extract_on_cluster(
        reading, schema, names, lines, address=cluster.address, workers=cluster.workers, fitted=fitted
    )
    return lines, done, fitted


def _fitted(
    answerer: Answerer, effort: Effort, schema: Schema, labels: Labels | None, tested: Tested
) -> FittedRules | None:
    """The thresholds or the guarantee that are wanted, fitted and said. None if neither is."""
    if labels is None:
        return None
    from palmette.cli.console import stderr
    from palmette.extraction.promise import Promise, make_promise
    from palmette.extraction.thresholds import Thresholds, fit_thresholds
    from palmette.inference.calibration import COST_WRONG

    stderr().print(f"{labels.summary()}, in {labels.source}")
    fitted: Promise | Thresholds
    if tested.target_error is None:
        cost = COST_WRONG if tested.cost_wrong is None else tested.cost_wrong
        fitted = fit_thresholds(answerer, schema, labels, effort, cost_wrong=cost)
    else:
        target = {"target_error": tested.target_error, "confidence": tested.confidence}
        fitted = make_promise(answerer, schema, labels, effort, **target)
    for line in fitted.explain():
        stderr().print(line)
    return fitted


def _learn(path: Path, labelled: str, out: Path, on_bad_record: OnBad) -> None:
    """Write labelled fields as questions, and say how to train on them."""
    from palmette.cli.console import command_line, stderr
    from palmette.extraction.labels import questions_to_learn, read_labels
    from palmette.extraction.schema import read_schema
    from palmette.files import format_yaml
    from palmette.synth.rationale_file import check_output, write_questions

    check_output(out)
    schema = read_schema(path)
    found = read_labels(labelled, schema, on_bad_record=on_bad_record)
    number = write_questions(questions_to_learn(found.documents, schema), out)
    recipe = {"output": f"runs/{out.stem}", "start": "reader", "data": {"train": [str(out)]}}
    file = f"train-{out.stem}.yaml"  # the schema is often called as its data are
    news = stderr()
    news.print(f"{found.summary()}. They are {number} questions in {out}. To train on them, save this as {file}:\n")
    news.print(format_yaml(recipe))
    news.print(f"and give the command: {command_line('train', 'sft', file)}")


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
