"""Writes docs/answer.svg: a session of `palmette ask` in a terminal, recorded from a real one.

    python docs/record.py

The program runs in a pseudo-terminal, as it would for a person. The picture is what its screen shows at the end. It is
narrow, so that a phone shows it in readable letters, and it loads no fonts from anywhere.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pyte
from pyte.screens import Char

HERE = Path(__file__).parent
CONTRACT = HERE.parent / "src" / "palmette" / "data" / "examples" / "contract.txt"
COLUMNS, ROWS = 64, 200
PROMPT = ">"
# Three of the ten questions of the example contract, chosen to show each outcome once: an answer, a refusal that is
# unsure, and a refusal of what the contract does not say. Of the ten, 5, 3 and 2 have these outcomes.
QUESTIONS = (
    "What is the notice period?",
    "What is the Supplier's liability limited to?",
    "Which insurance must the Supplier have?",
)
ASK = "import sys; sys.argv[0] = 'palmette'; from palmette.cli.main import main; sys.exit(main())"
PATIENCE = 300.0  # seconds without any output

# The size of a cell and of the margin, in units of the picture. A letter of 15 units is 9 wide in all usual fonts.
FONT_SIZE, CELL, LINE, MARGIN = 15, 9, 21, 12
BACKGROUND, FOREGROUND, FAINT = "#10161f", "#e6edf3", "#9aa7b5"
COLOURS = {
    "black": "#10161f",
    "red": "#ff8a80",
    "green": "#7ee787",
    "brown": "#f2cc60",  # pyte's name of yellow
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": "#e6edf3",
}
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Terminal(pyte.Screen):
    """A screen that also knows faint letters, which pyte leaves out. They are kept as its blinking ones."""

    def select_graphic_rendition(self, *attrs: int, **kwargs: bool) -> None:
        """As in pyte, with the codes for faint (2) and for neither bold nor faint (22)."""
        translated: list[int] = []
        rest = list(attrs)
        while rest:
            code = rest.pop(0)
            if code in (38, 48):  # a colour by number, or by red, green and blue
                length = {5: 2, 2: 4}.get(rest[0] if rest else 0, 0)
                translated += [code, *rest[:length]]
                rest = rest[length:]
            else:
                translated += {2: [5], 22: [22, 25]}.get(code, [code])
        super().select_graphic_rendition(*translated, **kwargs)


class Recorder:
    """A program in a pseudo-terminal.

    Args:
        command: the program and its arguments.
        shown: the command line that the picture shows for it.
        folder: where it runs.
    """

    def __init__(self, command: Sequence[str], shown: str, folder: str | Path) -> None:
        self.screen = Terminal(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stream.feed(f"\x1b[1m$ {shown}\x1b[0m\r\n")
        self._last_prompt = -1
        self._terminal, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._program = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)},
            start_new_session=True,
        )
        os.close(inside)

    def read(self) -> bool:
        """Read what the program prints next. False when it has ended.

        Raises:
            SystemExit: it has been silent for too long.
        """
        if not select.select([self._terminal], [], [], PATIENCE)[0]:
            sys.exit(f"the program has printed nothing for {PATIENCE:.0f} s. It shows:\n{self.text()}")
        try:
            output = os.read(self._terminal, 1 << 16)
        except OSError:  # Linux says so when the other end is closed
            output = b""
        self._stream.feed(self._decoder.decode(output))
        return bool(output)

    def type(self, line: str) -> None:
        """Type a line at the prompt, as soon as it is there.

        Raises:
            SystemExit: the program ended without a prompt.
        """
        while not self.prompted():
            if not self.read():
                sys.exit(f"the program ended without the prompt {PROMPT!r}. It shows:\n{self.text()}")
        self._last_prompt = self.screen.cursor.y
        os.write(self._terminal, line.encode() + b"\n")

    def finish(self) -> int:
        """Wait for the end of the program. Its exit status."""
        while self.read():
            pass
        os.close(self._terminal)
        return self._program.wait()

    def prompted(self) -> bool:
        """Whether the cursor stands behind an empty prompt in which nothing was typed yet."""
        cursor = self.screen.cursor
        fresh = cursor.y > self._last_prompt
        return fresh and self.screen.display[cursor.y][: cursor.x].strip() == PROMPT

    def text(self) -> str:
        """The text of the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()


def runs(screen: pyte.Screen, row: int) -> Iterator[tuple[int, str, Char]]:
    """The pieces of a row that look alike: their column, their text and the look of their first letter."""
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    for _, group in groupby(enumerate(cells), key=lambda cell: cell[1]._replace(data="")):
        piece = list(group)
        yield piece[0][0], "".join(cell.data for _, cell in piece), piece[0][1]


def colour(name: str, default: str) -> str:
    """The colour of a letter or of its ground."""
    if name == "default":
        return default
    name = name.removeprefix("bright")
    return COLOURS.get(name, f"#{name}")


def draw(screen: pyte.Screen, num_rows: int) -> str:
    """The first rows of a screen as SVG."""
    shapes: list[str] = []
    for row in range(num_rows):
        top = MARGIN + row * LINE
        for column, text, look in runs(screen, row):
            ink, ground = colour(look.fg, FAINT if look.blink else FOREGROUND), colour(look.bg, BACKGROUND)
            if look.reverse:
                ink, ground = ground, ink
            left, width = MARGIN + column * CELL, len(text) * CELL
            if ground != BACKGROUND:
                shapes.append(f'<rect x="{left}" y="{top}" width="{width}" height="{LINE}" fill="{ground}"/>')
            words = text.rstrip()
            if words:
                indent = len(words) - len(words.lstrip())
                bold = ' font-weight="bold"' if look.bold else ""
                line = ' text-decoration="underline"' if look.underscore else ""
                shapes.append(
                    f'<text x="{left + indent * CELL}" y="{top + FONT_SIZE}" fill="{ink}"{bold}{line} '
                    f'textLength="{len(words.strip()) * CELL}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">'
                    f"{escape(words.strip())}</text>"
                )
    width, height = COLUMNS * CELL + 2 * MARGIN, num_rows * LINE + 2 * MARGIN
    spoken = escape("\n".join(line.rstrip() for line in screen.display[:num_rows]))
    return "\n".join(
        [
            f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">',
            f"<title>palmette ask in a terminal</title>\n<desc>{spoken}</desc>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
            f'<g font-family="{FONTS}" font-size="{FONT_SIZE}">',
            *shapes,
            "</g>\n</svg>\n",
        ]
    )


def record() -> str:
    """A session of the reader with the example contract, as a picture.

    Raises:
        SystemExit: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CONTRACT, folder)
        recorder = Recorder([sys.executable, "-c", ASK, "ask", CONTRACT.name], f"palmette ask {CONTRACT.name}", folder)
        for question in QUESTIONS:
            recorder.type(question)
        recorder.type(":quit")
        status = recorder.finish()
    if status != 0:
        sys.exit(f"palmette ask ended with status {status}:\n{recorder.text()}")
    return draw(recorder.screen, len(recorder.text().splitlines()))


def main() -> None:
    """Record the session, and write the picture."""
    (HERE / "answer.svg").write_text(record(), encoding="utf-8")


if __name__ == "__main__":
    main()
