"""Progress of long jobs on standard error: how much is done, the rate, and an estimate of the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Say = Callable[[str], None]  # called with a line of news


class _Lines:
    """Standard error, with every redrawing of a bar on a line of its own."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text.replace("\r", "\n"))

    def flush(self) -> None:
        sys.stderr.flush()


def progress(total: int, what: str, unit: str) -> Any:
    """A progress bar. Where standard error is no terminal, it prints a line about every ten seconds.

    Args:
        total: how many units there are.
        what: a word for the job.
        unit: the name of a unit, for the rate.
    """
    interactive = sys.stderr.isatty()
    stream: Any = sys.stderr if interactive else _Lines()
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        file=stream,
        dynamic_ncols=interactive,
        ncols=None if interactive else 100,
        mininterval=0.2 if interactive else 10.0,
        miniters=0 if interactive else 1,
        ascii=None if interactive else True,
    )
