"""A folder held by one process at a time, and work on several folders shared among processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]
_PAUSE = 2.0  # seconds between looks at what other processes are at work on


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a folder, by a lock that the system takes back when the process ends, however it ends.

    It binds only those who ask for it too. Where there is no such lock (Windows), nothing guards the folder.

    Args:
        folder: an existing folder or file; nothing is written into it.
        wait: whether to wait until it is free.

    Yields:
        Whether it is held; always so if it was waited for.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(handle)


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
    left, told = list(enumerate(units, 1)), False
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
            if not told:
                prefixed("another process is at work on it; looked at again in the end")
        if busy == left:
            time.sleep(_PAUSE)
        left, told = busy, True


def _with_prefix(say: Say, prefix: str) -> Say:
    return lambda line: say(prefix + line)
