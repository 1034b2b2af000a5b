"""The folder that a measurement of retention leaves: a file for programs, and a plot for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palmette import run
from palmette.evaluate.retention.run import PLOT, RESULT
from palmette.evaluate.retention.scores import Retention
from palmette.pages.plots import plot_retention


def write_retention(result: Retention, record: Mapping[str, Any], out: Path, title: str) -> None:
    """Write retention.json and the plot.

    Args:
        result: the measurements.
        record: the measurements as JSON, with what they depend on.
        out: the folder, which must not exist.
        title: the plot's title.

    Raises:
        RunError: the folder exists or cannot be written.
    """
    with run.whole_folder(out) as staging:
        run.write_json(staging / RESULT, record)
        plot_retention(result, staging / PLOT, title=title)
