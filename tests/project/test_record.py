"""The recorder of terminal sessions, with small programs in the place of `palmette ask`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.support.scripts import script

pytest.importorskip("fcntl", reason="there are no pseudo-terminals on this system")

SVG = "{http://www.w3.org/2000/svg}"
# It asks for a line until one is empty, and overwrites what it shows meanwhile, as progress bars do.
TALKS = """
import shutil
while line := input("> "):
    print("reading 1/2\\r\\x1b[2K\\x1b[1;32m7:40\\x1b[0m \\x1b[2;38;5;2mfaint\\x1b[0m", end=" ")
    print("\\x1b[30;102mmarked & <so>\\x1b[0m")
print(shutil.get_terminal_size().columns)
raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def record() -> ModuleType:
    return script("docs/record.py")


def test_a_conversation_is_recorded_as_its_screen_shows_it(record: ModuleType, tmp_path: Path) -> None:
    recorder = record.Recorder([sys.executable, "-c", TALKS], "talk", tmp_path)
    for line in ("When?", "Where?", ""):
        recorder.type(line)
    assert recorder.finish() == 3
    answer = "7:40 faint marked & <so>"
    assert recorder.text().splitlines() == ["$ talk", "> When?", answer, "> Where?", answer, ">", str(record.COLUMNS)]
    picture = ElementTree.fromstring(record.draw(recorder.screen, 3))
    shown = {text.text: text.attrib for text in picture.iter(f"{SVG}text")}
    assert list(shown) == ["$ talk", "> When?", "7:40", "faint", "marked & <so>"]
    assert (shown["7:40"]["fill"], shown["7:40"]["font-weight"]) == (record.COLOURS["green"], "bold")
    assert shown["marked & <so>"]["fill"] == record.COLOURS["black"]
    assert [rect.get("fill") for rect in picture.iter(f"{SVG}rect")] == [record.BACKGROUND, record.COLOURS["green"]]


def test_letters_keep_their_columns(record: ModuleType) -> None:
    """By hand: "7:40" begins at column 2, 2 cells of 9 units right of the margin of 12, and is 4 cells wide."""
    screen = record.Terminal(20, 2)
    record.pyte.Stream(screen).feed("  7:40")
    (text,) = ElementTree.fromstring(record.draw(screen, 1)).iter(f"{SVG}text")
    assert (text.get("x"), text.get("textLength")) == ("30", "36")


def test_faint_letters_are_known(record: ModuleType) -> None:
    """A 2 that belongs to a colour is none, and 22 ends it."""
    screen = record.Terminal(20, 2)
    record.pyte.Stream(screen).feed("\x1b[38;5;2ma\x1b[0m\x1b[2mb\x1b[22mc")
    assert [screen.buffer[0][column].blink for column in range(3)] == [False, True, False]
    record.pyte.Stream(screen).feed("\r\x1b[2mfaint")
    (text,) = list(ElementTree.fromstring(record.draw(screen, 1)).iter(f"{SVG}text"))[:1]
    assert text.get("fill") == record.FAINT


def test_a_program_that_ends_early_is_an_error(record: ModuleType, tmp_path: Path) -> None:
    recorder = record.Recorder([sys.executable, "-c", "print('no model')"], "talk", tmp_path)
    with pytest.raises(SystemExit, match=r"ended without the prompt '>'. It shows:\n\$ talk\nno model"):
        recorder.type("When?")
    assert recorder.finish() == 0
