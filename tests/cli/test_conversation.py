"""The prompt of `palmette ask`, over a pseudo-terminal."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from palmette.cli.answer.conversation import HISTORY, converse
from palmette.cli.console import stderr, stdout
from palmette.cli.main import main
from palmette.decode.prediction import Candidate, Prediction
from palmette.documents.record import extracted
from palmette.errors import DataError
from tests.support.terminal import typed

TEXT = "The ferry leaves at 7:40.\nIt has a bell.\x1b[2J\n"
ENTER, INTERRUPT, END, UP = "\n", "\x03", "\x04", "\x1b[A"


class Ferry:
    """Knows when the ferry leaves, and thinks for ever about some questions."""

    unread: str | None = None

    def ask(self, questions: Any) -> tuple[Prediction, ...]:
        (question,) = questions
        if question == "Why?":
            raise DataError("there is no reason", "Ask something else.")
        if question == "For ever?":
            while True:
                print("thinking", flush=True)
                os.read(0, 1)  # until Ctrl-C
        if "bell" in question:
            self.unread = "Read 1 of 9 parts of the document."
        start = TEXT.index("7:40")
        candidates = (Candidate("7:40", start, start + 4, 0.81), Candidate("bell", TEXT.index("bell"), 40, 0.05))
        return (Prediction("7:40", "", start, start + 4, 0.81, 0.14, candidates, certified=True, num_passes=2),)


def talk(cache: str) -> None:
    os.environ["PALMETTE_CACHE"] = cache
    converse(Ferry(), extracted("ferry.txt", "text", TEXT), stdout(), stderr())


def test_questions_and_commands(tmp_path: Path) -> None:
    _, screen = typed(
        talk,
        [str(tmp_path / "cache")],
        [
            ("> ", f":why{ENTER}"),
            ("Nothing was asked yet.", f":help{ENTER}"),
            (":quit   leave", f"  {ENTER}When does it leave?{ENTER}"),
            ("likely, 0.81, line 1", f":why{ENTER}"),
            ("0.05  bell  line 2", f":full{ENTER}"),
            ("2  It has a bell. [2J", f"Why?{ENTER}"),
            ("error: there is no reason. Ask something else.", f":nonsense{ENTER}"),
            ("There is no command ':nonsense'.", f"Is there a bell?{ENTER}"),
            ("Read 1 of 9 parts of the document.", ""),
            ("> ", END),  # earlier, Ctrl-D would be lost between two modes of the terminal
        ],
    )
    assert "\x1b" not in screen, "what the document holds never acts on the terminal"
    assert "When does it leave?\n7:40\nlikely, 0.81, line 1\n" in screen
    history = tmp_path / "cache" / HISTORY
    assert "When does it leave?" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_ctrl_c_stops_an_answer_and_the_history_is_kept(tmp_path: Path) -> None:
    cache = [str(tmp_path / "cache")]
    _, screen = typed(
        talk,
        cache,
        [
            ("> ", f"For ever?{ENTER}"),
            ("thinking", INTERRUPT),
            ("interrupted", ""),
            ("> ", f"When?{ENTER}"),
            ("7:40.", f":quit{ENTER}"),
        ],
    )
    assert screen.count("7:40\n") == 1
    _, screen = typed(talk, cache, [("> ", f"{UP}{UP}{ENTER}"), ("likely, 0.81", ""), ("> ", END)])
    assert "When?\n7:40\n" in screen, "the last line but one of the first time"


def command(*words: str) -> int:
    sys.argv = ["palmette", *words]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_whole_command(run_folder: Path, tmp_path: Path) -> None:
    """The tiny model knows nothing, but whatever it answers, the document is asked twice and left."""
    (tmp_path / "ferry.txt").write_text("The ferry leaves at 7:40.")
    code, screen = typed(
        command,
        ["ask", str(tmp_path / "ferry.txt"), "--model", str(run_folder), "--why"],
        [
            ("> ", f"When?{ENTER}"),
            ("the document was read", f"Where?{ENTER}"),
            ("the document was read", ""),
            ("> ", END),
        ],
    )
    assert code == 0
    assert "Ask about" in screen
