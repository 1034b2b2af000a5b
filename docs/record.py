"""Writes docs/answer.svg: what `palmette ask` prints in a terminal, recorded from a real call.

    python docs/record.py runs/quickstart

The picture holds the command and its real output, whatever that is. It loads no fonts from anywhere.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 92
DOCUMENT = (
    "The ferry to Sandholm leaves from pier 3 at 7:40 every day from May to October. A ticket costs 12 euros. "
    "Bicycles are free of charge, but have to be booked a day ahead."
)
QUESTIONS = ("When does the ferry leave?", "How much is a ticket?", "Who is the captain?")
ASK = "import sys; sys.argv[0] = 'palmette'; from palmette.cli.main import main; sys.exit(main())"
# As rich's own picture of a terminal, without its fonts from another host and its window buttons.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, DejaVu Sans Mono, monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def answer(model: Path) -> str:
    """What the command prints, with its colours as a terminal gets them."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ferry.txt").write_text(DOCUMENT + "\n", encoding="utf-8")
        command = [sys.executable, "-c", ASK, "ask", "--model", str(model.resolve()), "--document", "ferry.txt"]
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
        done = subprocess.run(
            [*command, *QUESTIONS], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
    return done.stdout.rstrip()


def picture(output: str) -> str:
    """The command and its output as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    words = " \\\n    ".join(f'"{question}"' for question in QUESTIONS)
    console.print(Text(f"$ palmette ask --model runs/quickstart --document ferry.txt \\\n    {words}\n", style="bold"))
    console.print(Text.from_ansi(output))
    return console.export_svg(
        title="palmette ask", theme=DEFAULT_TERMINAL_THEME, code_format=FORMAT, unique_id="palmette"
    )


def main() -> None:
    """Record with the run that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("Name the run to ask: python docs/record.py runs/quickstart")
    (HERE / "answer.svg").write_text(picture(answer(Path(sys.argv[1]))), encoding="utf-8")


if __name__ == "__main__":
    main()
