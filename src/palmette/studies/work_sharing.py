"""Work on several folders, shared between processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palmette.lock import locked
from palmette.progress import Say

_PAUSE = 2.0  # seconds between attempts at units that other processes hold


@dataclass(frozen=True)
class Unit:
    """Work on a folder.

    Attributes:
        folder: the folder, which exists. It is locked during the work.
        work: does the remaining work, and returns whether there was any.
    """

    folder: Path
    work: Callable[[Say], bool]


def share_work(units: Sequence[Unit], say: Say, changed: Callable[[], object]) -> None:
    """Do every unit in turn. One that another process is working on is tried again at the end, until it is free.

    Args:
        units: the units of work.
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
                prefixed("another process is working on it. It is tried again at the end")
        if busy == left:
            time.sleep(_PAUSE)
        left, reported = busy, True


def _with_prefix(say: Say, prefix: str) -> Say:
    return lambda line: say(prefix + line)
