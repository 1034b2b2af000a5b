"""`palmette report`, and the pictures and the page that each training command leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A run folder of `palmette train`, finished or not.")]) -> None:
    """Write a training run's page, training.html, anew: figures, warnings, curves, samples over time.

    Every training command writes it at its end; this shows a run that is still going on, or was stopped.
    """
    leave_page(run.expanduser())


def leave_page(folder: Path) -> None:
    """Write a run's page, and say where it is and what it warns of."""
    from palmette.cli.console import stderr
    from palmette.pages.training.report import TRAINING, write_training_report

    news = stderr()
    for finding in write_training_report(folder):
        if finding.raised:
            news.print(f"warning: {finding.rule} Here: {finding.found}. {finding.advice}")
    news.print(f"look at {folder / TRAINING}")
