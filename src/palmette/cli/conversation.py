"""The prompt of `palmette ask DOCUMENT`: one question after another to a document that was read once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from palmette.cache import cache_folder
from palmette.cli.answers import Asked, show_answer
from palmette.cli.history import history, read_line
from palmette.errors import PalmetteError

if TYPE_CHECKING:
    from rich.console import Console

    from palmette.documents import Extracted
    from palmette.inference.asking import Session

HISTORY = "ask_history"
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
    with history(cache_folder() / HISTORY):
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
            line = read_line().strip()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return
        if line:
            yield line
