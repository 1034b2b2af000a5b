"""The prompt of `palmette ask DOCUMENT`: one question after another to a document that was read once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from palmette.cache import cache_folder
from palmette.cli.answers import Asked, show_answer
from palmette.errors import PalmetteError

if TYPE_CHECKING:
    from rich.console import Console

    from palmette.documents import Extracted
    from palmette.inference.asking import Session

PROMPT, HISTORY, MAX_HISTORY = "> ", "ask_history", 1000
_HELP = """\
Type a question, and press Enter.
  :full   show the whole document, with the last answer marked
  :why    show the candidates of the last question, and how the decision came about
  :help   show this help
  :quit   leave, as Ctrl-D does
Ctrl-C stops an answer. The arrow keys bring back earlier questions."""


def converse(
    session: Session, document: Extracted, out: Console, news: Console, *, full: bool = False, why: bool = False
) -> None:
    """Ask for questions and answer them, until the input ends.

    Args:
        session: the opened document.
        document: the document, to show passages from.
        out: where answers go.
        news: where notes go.
        full: show the whole document with every answer.
        why: show all candidates, and how each decision came about.
    """
    last: Asked | None = None
    commands: dict[str, Callable[[Asked], None]] = {
        ":full": lambda asked: show_answer(out, document, asked, full=True),
        ":why": lambda asked: show_answer(out, document, asked, why=True),
    }
    with _history(cache_folder() / HISTORY):
        for line in _lines():
            if line in (":quit", ":q"):
                return
            if line == ":help":
                news.print(_HELP)
            elif line in commands:
                if last is None:
                    news.print("Nothing was asked yet.")
                else:
                    commands[line](last)
            elif line.startswith(":"):
                news.print(f"There is no command {line!r}. :help lists them all.")
            else:
                last = _answered(session, line, news) or last
                if last is not None and last.question == line:
                    show_answer(out, document, last, full=full, why=why)
                    if session.unread:
                        news.print(session.unread)


def _answered(session: Session, question: str, news: Console) -> Asked | None:
    """The answer to a question, or None if the question could not be answered, or was interrupted."""
    try:
        (prediction,) = session.ask([question])
    except KeyboardInterrupt:
        news.print("interrupted")
        return None
    except PalmetteError as error:
        news.print(f"error: {error}")
        return None
    return Asked(question, prediction)


def _lines() -> Iterator[str]:
    """The lines that a person types, without blank ones. Ctrl-C drops a line that was begun."""
    while True:
        try:
            line = _read_line().strip()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return
        if line:
            yield line


def _read_line() -> str:
    if sys.stdout.isatty():
        return input(PROMPT)
    # `input` would write the prompt to standard output, among the answers.
    print(PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


@contextlib.contextmanager
def _history(path: Path) -> Iterator[None]:
    """Keep the questions for the next time, in a file that only its owner can read.

    Without readline, as on Windows, nothing is kept.
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
    readline.set_history_length(MAX_HISTORY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
