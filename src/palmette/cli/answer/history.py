"""Lines that somebody types, and those typed before, for the prompts of `palmette ask` and `palmette chat`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

PROMPT, _MOST_LINES = "> ", 1000


def read_line() -> str:
    """A line that somebody types after a prompt.

    Raises:
        EOFError: the input has ended.
    """
    if sys.stdout.isatty():
        print(end="")  # the prompt takes the place of a note that the command is loading
        return input(PROMPT)
    # `input` would write the prompt to standard output, among the answers.
    print(PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


@contextlib.contextmanager
def history(path: Path) -> Iterator[None]:
    """Edit lines with the arrow keys, and keep them for the next time in a file that only its owner can read.

    Without readline, as on Windows, nothing is kept.

    Args:
        path: the file. Its folder is made if it does not exist.
    """
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        readline.read_history_file(path)
    readline.set_history_length(_MOST_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
