"""The note that a command is loading: when it comes, and that nothing of it is left."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import pytest

from palmette.cli.waiting import NOTE, note_of_loading

GONE = f"\r{' ' * len(NOTE)}\r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def opened(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal that shows standard output and standard error. It is opened in the test, since pytest sets both anew
    when the test begins.
    """
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_the_note_stands_until_the_output_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with note_of_loading(after=0.01):
        until(lambda: terminal.getvalue() == NOTE)
        print("7:40")
        time.sleep(0.1)
    assert terminal.getvalue() == f"{NOTE}{GONE}7:40\n"
    assert sys.stdout is terminal
    assert sys.stderr is terminal


def test_the_note_stands_below_the_lines_of_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with note_of_loading(after=0.01):
        until(lambda: terminal.getvalue().count(NOTE) == 1)
        print("Using the reader.", file=sys.stderr)
        until(lambda: terminal.getvalue().count(NOTE) == 2)
    assert terminal.getvalue() == f"{NOTE}{GONE}Using the reader.\n{NOTE}{GONE}"


def test_a_progress_bar_takes_the_place_of_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with note_of_loading(after=0.01):
        until(lambda: terminal.getvalue() == NOTE)
        sys.stderr.write("\r|##  | 1 of 2")
        time.sleep(0.1)
    assert terminal.getvalue() == f"{NOTE}{GONE}\r|##  | 1 of 2"


def test_a_quick_command_shows_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with note_of_loading(after=60.0):
        print("done")
    assert terminal.getvalue() == "done\n"


def test_without_a_terminal_there_is_no_note(capsys: pytest.CaptureFixture[str]) -> None:
    with note_of_loading(after=0.0):
        time.sleep(0.1)
        print("7:40")
    assert capsys.readouterr() == ("7:40\n", "")
