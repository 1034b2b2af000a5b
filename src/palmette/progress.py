"""Progress of long jobs: what is done, the rate, and an estimate of what is left, on standard error."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, what: str, unit: str) -> Any:
    """A progress bar; where standard error is no terminal, a line every ten seconds or so.

    Args:
        total: how many units there are.
        what: what is being done.
        unit: what is counted, for the rate.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        file=sys.stderr,
        dynamic_ncols=interactive,
        ncols=None if interactive else 100,
        mininterval=0.2 if interactive else 10.0,
        miniters=0 if interactive else 1,
        ascii=None if interactive else True,
    )
