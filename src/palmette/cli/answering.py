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

ERROR_LINES = 3  # exit status of `predict --strict` for an output with error lines


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
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit status 3 if the output has an error line.")
    ] = False,
) -> None:
    """Answer a file of questions line by line.

    A bad line of the input becomes an error line of the output. The exit status is 0 all the same, unless --strict is
    given. A job that was stopped continues with the same command.
    """
    from palmette.cli.console import stderr
    from palmette.inference.names import open_source
    from palmette.startup import quick_imports

    opened = open_source(model)
    with quick_imports(freeze=True):
        from palmette.inference.answerer import open_answerer
        from palmette.inference.job import check_job, predict_file
    check_job(source, out)
    answerer = open_answerer(opened, attention=attention, calibrated=calibration)
    tally = predict_file(answerer, source, out, max_words=max_words, inside_words=inside_words)
    stderr().print(tally.summary(out))
    if tally.interrupted:
        raise typer.Exit(130)
    if strict and tally.errors:
        raise typer.Exit(ERROR_LINES)
