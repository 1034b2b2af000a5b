"""The one thread that loads the model, reads files and documents, and answers."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from palmette.documents import read_document
from palmette.serving.documents import Kept

if TYPE_CHECKING:  # they load torch, for which no client should wait
    from palmette.decode.long_document import Watch
    from palmette.serving.reader import DocumentReader

MOST_KEPT = 8  # files whose text stays in memory
T = TypeVar("T")


class _GivenUpError(Exception):
    """Nobody waits for the work any more."""


class Worker:
    """Does one piece of work after another, in a thread of its own. It begins to load the model at once.

    Args:
        load: makes what reads documents.
    """

    def __init__(self, load: Callable[[], DocumentReader]) -> None:
        self._pool = ThreadPoolExecutor(1, "model")
        self._reader = self._pool.submit(load)
        self._closed = threading.Event()
        self._kept: OrderedDict[tuple[Path, int, int], Kept] = OrderedDict()

    async def read(self, path: Path, work: Callable[[DocumentReader, Kept, Watch], T]) -> T:
        """Do work on a file.

        If the caller is cancelled, the work ends once the part of the document is read that is being read.

        Args:
            path: the file.
            work: gets what reads documents, the file, and what it has to call while it reads.

        Raises:
            Exception: what loading the model, reading the file, or the work ended in.
        """
        gone = threading.Event()

        def watch(*_: int) -> None:
            if gone.is_set() or self._closed.is_set():
                raise _GivenUpError

        def do() -> T:
            reader = self._reader.result()  # this thread has loaded it before
            return work(reader, self._document(path), watch)

        try:
            return await asyncio.wrap_future(self._pool.submit(do))
        finally:
            gone.set()

    def close(self) -> None:
        """End the work, and begin nothing that waits."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _document(self, path: Path) -> Kept:
        """The text of a file. The last ones are kept as long as they do not change."""
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in self._kept:
            self._kept[key] = Kept.file(read_document(path))
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
