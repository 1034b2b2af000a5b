"""`palmette report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A run folder of `palmette train`, finished or not.")]) -> None:
    """Write a training run's page, training.html, anew: figures, warnings, curves, samples over time.

    Every training command writes it at its end; this shows a run that is still going on, or was stopped.
    """
    from palmette.cli.console import stderr
    from palmette.pages.training.pictures import leave_page

    leave_page(run.expanduser(), stderr().print)
