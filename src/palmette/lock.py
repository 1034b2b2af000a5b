"""A folder held by one process at a time, and work on several folders shared among processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
