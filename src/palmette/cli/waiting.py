"""A note on a terminal while a command loads, until its output begins.

Importing torch and reading weights takes some seconds, in which a person would not know whether anything happens.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from palmette import processes

NOTE = "loading ..."
_AFTER = 1.0  # seconds of silence


@contextlib.contextmanager
def note_of_loading(after: float = _AFTER) -> Iterator[None]:
    """Show a note on standard error while nothing is printed.

    Lines on standard error, such as which model is taken, stand above the note. Output on standard output ends it, and
    so does a progress bar. Where standard error is no terminal, nothing is shown. Of several processes only the main
    one shows it.

    Args:
        after: the seconds of silence after which the note appears.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if stderr is None or not stderr.isatty() or not processes.is_main():
        yield
        return
    note = _Note(stderr, after)
    sys.stdout, sys.stderr = _Output(stdout, note), _News(stderr, note)
    try:
        yield
    finally:
        note.end()
        sys.stdout, sys.stderr = stdout, stderr


class _Note:
    """The note, which comes after some silence, goes with every line, and comes back until it is ended."""

    def __init__(self, stream: TextIO, after: float) -> None:
        self._stream, self._after = stream, after
        self._lock, self._shown, self._over = threading.Lock(), False, False
        self._wait()

    def lift(self, *, back: bool) -> None:
        """Take the note away, and let it come `back` after some silence."""
        with self._lock:
            if not self._over:
                self._clear()
                if back:
                    self._wait()

    def end(self) -> None:
        """Take the note away for good."""
        with self._lock:
            if not self._over:
                self._clear()
                self._over = True

    def _wait(self) -> None:
        self._timer = threading.Timer(self._after, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if not self._over and not self._shown and threading.current_thread() is self._timer:
                self._write(NOTE)
                self._shown = True

    def _clear(self) -> None:
        self._timer.cancel()
        if self._shown:
            self._write(f"\r{' ' * len(NOTE)}\r")
            self._shown = False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            self._stream.write(text)
            self._stream.flush()


class _Output:
    """Standard output, which ends the note."""

    def __init__(self, stream: TextIO, note: _Note) -> None:
        self._stream, self._note = stream, note

    @property
    def buffer(self) -> Any:
        """The bytes below, which somebody is about to write."""
        self._note.end()
        return self._stream.buffer

    def write(self, text: str) -> int:
        self._note.end()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _News(_Output):
    """Standard error, whose whole lines stand above the note."""

    def write(self, text: str) -> int:
        if "\r" in text:  # a progress bar, which is written over
            self._note.end()
        else:
            self._note.lift(back=text.endswith("\n"))
        return self._stream.write(text)
