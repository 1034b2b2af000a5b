"""A folder or file held by one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from palmette.errors import RunError


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a folder or file, by a lock that the system takes back when the process ends, however it ends.

    The lock binds only those who ask for it too. It is taken on a hidden file beside the path, `.NAME.lock`, and
    nothing is written into the folder or file itself. The hidden file is removed when the lock is released. After a
    kill it stays, and does no harm. The lock is not re-entrant.

    Args:
        path: the folder or file. It need not exist yet.
        wait: whether to wait until it is free.

    Yields:
        Whether it is held. With `wait` it always is.

    Raises:
        RunError: there is no place for the lock, or the file system has no locks.
        RuntimeError: this thread holds it already, and is to wait for itself.
    """
    path = path.absolute()
    file = path.with_name(f".{path.name}.lock")
    # A lock that is no more than a file that exists would outlive a killed process.
    lock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        pass
    except OSError as error:
        raise RunError(f"cannot lock {path}: {error.strerror}", "Choose a folder that can be written.") from error
    held = lock.is_locked
    try:
        yield held
    finally:
        if held:
            # While it is held: whoever waits for it notices that its file is gone, and makes a new one.
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()
