"""The user's cache: what can be made again, kept because making it takes long."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

# A file that changes twice within the tick of the file system's clock can keep its stamp. So a young file's hash is not
# kept.
_YOUNG = 2.0  # seconds
# Permission to write for the group and for everybody else.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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


def file_hash(file: Path) -> str:
    """The SHA-256 of a file's content, from the cache if the file has not been touched since it was hashed.

    Args:
        file: the file.

    Raises:
        OSError: it cannot be read.
    """

    def compute() -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return kept_hash([file], "content", compute)


def kept_hash(files: Sequence[Path], what: str, compute: Callable[[], str]) -> str:
    """A hash that depends on the content of files, computed again only if one of them was touched.

    A file counts as untouched if its path, size, inode and times of change are the same. A hash that others may have
    written into the cache does not count.

    Args:
        files: the files.
        what: what is computed of them, in a word, so that two hashes of the same files are kept apart.
        compute: computes the hash.

    Raises:
        OSError: a file cannot be read.
    """
    files = [file.resolve() for file in files]
    states = [file.stat() for file in files]
    stamp = [[one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev] for one in states]
    key = "\0".join([what, *map(str, files)])
    folder = private_folder(cache_folder() / "hashes")
    if folder is None:
        return compute()
    kept = folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        value = json.loads(kept.read_text(encoding="utf-8")) if is_trusted(kept) else {}
        if value["stamp"] == stamp:
            return str(value["sha256"])
    sha256 = compute()
    if all(time.time() - max(one.st_mtime, one.st_ctime) >= _YOUNG for one in states):
        with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
            write_whole(kept, json.dumps({"stamp": stamp, "sha256": sha256}).encode())
    return sha256


def write_whole(file: Path, content: bytes) -> None:
    """Write a file of the cache whole or not at all. After a power failure it may be empty or gone.

    Others may not write to it, whatever the umask is, so that it is trusted.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(stat.S_IMODE(temporary.stat().st_mode) & ~_OTHERS_WRITE)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def flush_files(folder: Path) -> None:
    """Wait until the files of a folder are on the disk.

    Otherwise a folder that was renamed could hold zeros after a power failure, which load like weights.

    Raises:
        OSError: they cannot be written.
    """
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())


def is_trusted(path: Path) -> bool:
    """Whether a file or folder belongs to this user or to root, and nobody else may write to it.

    A symbolic link is judged by itself, so on systems where links carry no modes of their own it is not trusted.
    """
    if not hasattr(os, "getuid"):
        return True
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & _OTHERS_WRITE


def is_trusted_folder(folder: Path) -> bool:
    """Whether a folder is there, and it and each file in it are trusted. See `is_trusted`."""
    try:
        return folder.is_dir() and all(is_trusted(one) for one in (folder, *folder.iterdir()))
    except OSError:
        return False


def private_folder(folder: Path, mode: int = 0o755) -> Path | None:
    """The folder, created if it is missing. None if others may write to it, or if it cannot be created.

    A folder of this user's that others may write to is closed to them first. What they have put there belongs to them,
    so it is not trusted.

    Args:
        folder: a folder of the cache.
        mode: permissions of a folder that is created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
        status = folder.lstat()
        own = hasattr(os, "getuid") and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if own and status.st_mode & _OTHERS_WRITE:
            folder.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS_WRITE)
    except OSError:
        return None
    return folder if folder.is_dir() and is_trusted(folder) else None


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
