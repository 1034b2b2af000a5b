"""Locks a folder or file, so that one process at a time holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from palmette.errors import RunError, reason_of


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Lock a folder or file. The system releases the lock when the process ends, even if it is killed.

    The lock only affects processes that ask for it too. It is taken on a hidden file beside the path, `.NAME.lock`.
    Nothing is written into the folder or file itself. The hidden file is removed when the lock is released. If the
    process is killed, the file stays and does no harm. The lock is not re-entrant.

    Args:
        path: the folder or file. It need not exist yet.
        wait: whether to wait until the lock is free.

    Yields:
        Whether the lock is held. With `wait` it always is.

    Raises:
        RunError: there is no place for the lock, or the file system has no locks.
        RuntimeError: this thread already holds the lock, so it would wait for itself forever.
    """
    path = path.absolute()
    file = path.with_name(f".{path.name}.lock")
    # A soft lock is a file whose mere existence is the lock. It would outlive a killed process.
    lock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        pass
    except OSError as error:
        raise RunError(f"cannot lock {path}: {reason_of(error)}", "Choose a folder that can be written.") from error
    held = lock.is_locked
    try:
        yield held
    finally:
        if held:
            # The file is removed while the lock is held. A waiting process notices that it is gone and makes a new one.
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()
