"""The prompt of `palmette ask DOCUMENT`: one question after another to a document that was read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palmette.cache import cache_folder
from palmette.cli.answer.answers import AnsweredQuestion, show_answer
from palmette.cli.answer.history import history, read_line
from palmette.errors import PalmetteError
from palmette.inference.excerpt import printable

if TYPE_CHECKING:
    from rich.console import Console

    from palmette.documents import Extracted
    from palmette.inference.asking import OpenDocument

HISTORY = "ask_history"
_ENDS = (":quit", ":q")
_HELP = """\
Type a question, and press Enter.
  :full   show the whole document, with the last answer marked
  :why    show the candidates of the last question, and how the decision came about
  :help   show this help
  :quit   leave, as Ctrl-D does
Ctrl-C stops an answer. The arrow keys bring back earlier questions."""


def converse(
    session: OpenDocument, document: Extracted, out: Console, news: Console, *, full: bool = False, why: bool = False
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
    with history(cache_folder() / HISTORY):
        while True:
            try:
                line = read_line().strip()
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

    session: OpenDocument
    document: Extracted
    out: Console
    news: Console
    full: bool
    why: bool
    last: AnsweredQuestion | None = None
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
            self.last = AnsweredQuestion(question, prediction)
            show_answer(self.out, self.document, self.last, full=self.full, why=self.why)
            if self.session.unread:
                self.news.print(self.session.unread)
        except PalmetteError as error:
            self.news.print(printable(f"error: {error}"))
        self.busy = False
