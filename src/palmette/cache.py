"""The user's cache: what can be made again, kept because making it takes long."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path


def cache_folder() -> Path:
    """The folder of the cache: $PALMETTE_CACHE, or palmette/ in the user's cache folder."""
    if "PALMETTE_CACHE" in os.environ:
        return Path(os.environ["PALMETTE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palmette"


def mark_used(entry: Path) -> None:
    """Note that an entry was used now, so that `make_room` removes others first."""
    with contextlib.suppress(OSError):  # a shared cache that only its owner may write to
        os.utime(entry)


def make_room(folder: Path, limit: int, *, keep: Path | None = None) -> list[Path]:
    """Remove entries of a folder, the longest unused first, until all of them together take at most `limit` bytes.

    Args:
        folder: a folder of the cache. Each file and each folder in it is an entry. Hidden ones, which are being
            written, do not count.
        limit: bytes.
        keep: an entry that stays in any case.

    Returns:
        The entries that were removed. One that cannot be removed is left where it is.
    """
    entries = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):  # another process may have removed it
                if not entry.name.startswith("."):
                    entries.append((entry.stat().st_mtime, _size(entry), entry))
    total, removed = sum(size for _, size, _ in entries), []
    for _, size, entry in sorted(entries):
        if total <= limit:
            break
        if entry != keep and _remove(entry):
            total -= size
            removed.append(entry)
    return removed


def remove_abandoned(folder: Path, *, older_than: float = 24 * 3600.0) -> None:
    """Remove hidden entries that no process can still be writing.

    Args:
        folder: a folder of the cache.
        older_than: the age in seconds from which an entry counts as abandoned.
    """
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.startswith(".") and entry.stat().st_mtime < time.time() - older_than:
                    _remove(entry)


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in ([entry] if entry.is_file() else entry.rglob("*")) if file.is_file())


def _remove(entry: Path) -> bool:
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    except OSError:
        return False
    return True
