"""`palmette predict`: a file of questions answered line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palmette.cli.console import stderr

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.model.attention import AttentionChoice


def run_predict(
    model: str,
    source: str,
    out: Path,
    attention: AttentionChoice | None = None,
    *,
    max_words: int | None = None,
    calibrated: bool = True,
) -> None:
    """`palmette predict`; the arguments are those of `load_answerer` and `predict_file`."""
    from palmette.inference.answerer import load_answerer
    from palmette.inference.job import check_job, predict_file

    out = out.expanduser()
    check_job(source, out)
    answerer = load_answerer(model, attention=attention, calibrated=calibrated)
    tally = predict_file(answerer, source, out, max_words=max_words)
    stderr().print(tally.summary(out))
    if tally.interrupted:
        raise typer.Exit(130)
