"""`palmette predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    PATH,
    AttentionOption,
    CalibrationOption,
    InsideWordsOption,
    MaxWordsOption,
    ModelOption,
)


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="JSON Lines with context and question, or - for standard input.", **{**MODEL, "metavar": "SOURCE"}
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="JSON Lines file to write, or to continue.", **{**PATH, "metavar": "OUT"})
    ],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    inside_words: InsideWordsOption = None,
) -> None:
    """Answer a file of questions line by line.

    A bad line of the input becomes an error line of the output. A job that was stopped continues with the same command.
    """
    from palmette.cli.console import stderr
    from palmette.inference.answerer import load_answerer
    from palmette.inference.job import check_job, predict_file

    check_job(source, out)
    answerer = load_answerer(model, attention=attention, calibrated=calibration)
    tally = predict_file(answerer, source, out, max_words=max_words, inside_words=inside_words)
    stderr().print(tally.summary(out))
    if tally.interrupted:
        raise typer.Exit(130)
