"""Work on several folders, shared among processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palmette.lock import locked
from palmette.progress import Say

_PAUSE = 2.0  # seconds between looks at what other processes are at work on


@dataclass(frozen=True)
class Unit:
    """Work on a folder.

    Attributes:
        folder: exists, and is held while the work goes on.
        work: does what is left to do, and says so; whether there was anything.
    """

    folder: Path
    work: Callable[[Say], bool]


def share_work(units: Sequence[Unit], say: Say, changed: Callable[[], object]) -> None:
    """Do every unit in turn; one that another process is at work on is left out, and looked at again in the end until it is free.

    Args:
        units: what is to be done.
        say: called with lines that name their unit.
        changed: called after each unit that had anything to do.
    """
    left, reported = list(enumerate(units, 1)), False
    while left:
        busy = []
        for number, unit in left:
            prefixed = _with_prefix(say, f"[{number}/{len(units)}] {unit.folder.name}: ")
            with locked(unit.folder, wait=False) as mine:
                if mine:
                    if unit.work(prefixed):
                        changed()
                    continue
            busy.append((number, unit))
            if not reported:
                prefixed("another process is at work on it; looked at again in the end")
        if busy == left:
            time.sleep(_PAUSE)
        left, reported = busy, True


def _with_prefix(say: Say, prefix: str) -> Say:
    return lambda line: say(prefix + line)
