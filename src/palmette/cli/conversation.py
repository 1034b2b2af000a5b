"""The prompt of `palmette ask DOCUMENT`: one question after another to a document that was read once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palmette.cache import cache_folder
from palmette.cli.answers import Asked, show_answer
from palmette.errors import PalmetteError
from palmette.inference.excerpt import printable

if TYPE_CHECKING:
    from rich.console import Console

    from palmette.documents import Extracted
    from palmette.inference.asking import Session

PROMPT, HISTORY, MAX_HISTORY = "> ", "ask_history", 1000
_ENDS = (":quit", ":q")
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
    """Ask for questions and answer them, until the input ends. Ctrl-C stops an answer, or drops a line that was begun.

    Args:
        session: the opened document.
        document: the document, to show passages from.
        out: where answers go.
        news: where notes go.
        full: show the whole document with every answer.
        why: show all candidates, and how each decision came about.
    """
    talk = _Conversation(session, document, out, news, full, why)
    with _history(cache_folder() / HISTORY):
        while True:
            try:
                line = _read_line().strip()
                if line in _ENDS:
                    return
                if line:
                    talk.take(line)
            except EOFError:
                news.print()
                return
            except KeyboardInterrupt:
                news.print("\ninterrupted" if talk.busy else "")
                talk.busy = False


@dataclass
class _Conversation:
    """What was asked last, and what each line does."""

    session: Session
    document: Extracted
    out: Console
    news: Console
    full: bool
    why: bool
    last: Asked | None = None
    busy: bool = False

    def take(self, line: str) -> None:
        """Answer a question, or do what a command says."""
        if line == ":help":
            self.news.print(_HELP)
        elif line in (":full", ":why") and self.last is None:
            self.news.print("Nothing was asked yet.")
        elif line in (":full", ":why") and self.last is not None:
            show_answer(self.out, self.document, self.last, full=line == ":full", why=line == ":why")
        elif line.startswith(":"):
            self.news.print(printable(f"There is no command {line!r}. :help lists them all."))
        else:
            self.answer(line)

    def answer(self, question: str) -> None:
        """Answer a question. One that cannot be answered costs a line, not the conversation."""
        self.busy = True
        try:
            (prediction,) = self.session.ask([question])
            self.last = Asked(question, prediction)
            show_answer(self.out, self.document, self.last, full=self.full, why=self.why)
            if self.session.unread:
                self.news.print(self.session.unread)
        except PalmetteError as error:
            self.news.print(printable(f"error: {error}"))
        self.busy = False


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
