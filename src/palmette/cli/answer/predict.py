"""`palmette predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import (
    MODEL,
    PATH,
    Answering,
    ChosenModelOption,
    expanded,
    read_answering,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.inputs import Input
    from palmette.inference.tally import Tally

ERROR_LINES = 3  # exit status of `predict --strict` for an output with error lines


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster that answers: what the options of `read_cluster` say.

    Attributes:
        address: its address. None for this process.
        workers: how many processes hold the model.
    """

    address: str | None = None
    workers: int | None = None


def read_cluster(
    *,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Answer on a Ray cluster: its address, auto for the one of this machine, or local for a new one here.",
            metavar="ADDRESS",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="With --ray: how many processes hold the model. One for each GPU, or for each machine, if not given.",
            min=1,
        ),
    ] = None,
) -> Cluster:
    """What the options of a command say about the cluster that answers."""
    if workers is not None and ray is None:
        raise typer.BadParameter("--workers are those of a cluster: give --ray too")
    return Cluster(ray, workers)


@expanded("cluster", read_cluster)
@expanded("answering", read_answering, without=("decoder",))
def predict(
    *,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Rows with question and context (JSON Lines, CSV, TSV, Excel, Parquet, Arrow), or - for JSON "
            'Lines on standard input. With --question or --questions: documents, folders, or patterns like "*.pdf".',
            **{**MODEL, "metavar": "SOURCE"},
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="JSON Lines file to write, or to continue.", **{**PATH, "metavar": "OUT"})
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", help="Put this question to every document. May be given several times."),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            "--questions",
            help="Put the questions of this file to every document: one a line, or rows with question and id.",
            **{**MODEL, "metavar": "FILE"},
        ),
    ] = None,
    model: ChosenModelOption = None,
    answering: Answering,
    cluster: Cluster,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit status 3 if the output has an error line.")
    ] = False,
) -> None:
    """Answer files of questions, or put questions to many documents.

    Each row, or each question about each document, becomes a line of the output. One that cannot be answered becomes an
    error line. The exit status is 0 all the same, unless --strict is given. A job that was stopped continues with the
    same command. Name the model with --model, since a run that is finished in the meantime would be taken otherwise.
    """
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.inference.job_files import check_job
    from palmette.inference.names import resolve_answerer
    from palmette.startup import quick_imports

    source = _input(sources, question or [], questions)
    check_job(source, out)
    opened = resolve_answerer(named_or_chosen(model, stderr()))
    with quick_imports(freeze=True):
        from palmette.inference.answerer import open_answerer
        from palmette.inference.job import predict_file
    if cluster.address is not None:
        tally = _on_cluster(cluster, cluster.address, opened.name, answering, source, out)
    else:
        answerer = open_answerer(opened, **answering.loading)
        tally = predict_file(answerer, source, out, max_words=answering.max_words, inside_words=answering.inside_words)
    _say(tally, out, opened.trained if answering.calibration else None)
    if tally.interrupted:
        raise typer.Exit(130)
    if strict and tally.errors:
        raise typer.Exit(ERROR_LINES)


def _say(tally: Tally, out: Path, calibrated: Path | None) -> None:
    """Say what was done, and whether documents were longer than those of the calibration, if one was used."""
    from palmette.cli.console import stderr
    from palmette.inference.calibration import calibration_of

    stderr().print(tally.summary(out))
    calibration = calibration_of(calibrated)
    if calibration and (line := calibration.warn_of_windows(tally.windows.elements(), rows=True)):
        stderr().print(line)


def _on_cluster(cluster: Cluster, address: str, model: str, answering: Answering, source: Input, out: Path) -> Tally:
    from palmette.inference.cluster import Reading, predict_on_cluster

    max_words, inside_words = answering.max_words, answering.inside_words
    reading = Reading(model, max_words=max_words, inside_words=inside_words, **answering.loading)
    return predict_on_cluster(reading, source, out, address=address, workers=cluster.workers)


def _input(sources: list[str], asked: list[str], questions: str | None) -> Input:
    """What the arguments of the command name."""
    from palmette.cli.console import stderr
    from palmette.data.inputs import (
        Documents,
        SharedQuestion,
        check_questions,
        find_documents,
        question_file,
        read_questions,
    )

    if not asked and questions is None:
        return question_file(sources)
    listed = [SharedQuestion(None, text) for text in asked]
    if questions is not None:
        listed += read_questions(questions)
    names, left_out = find_documents(sources)
    if left_out:
        stderr().print(f"left out {left_out} file{'s' if left_out > 1 else ''} of other kinds")
    return Documents(names, check_questions(listed, "the list of questions"), ", ".join(sources))
