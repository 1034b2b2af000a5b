"""Runs the commands of a page in the order in which they stand, in an empty folder, without the hub.

It saves what the page says to save, and runs every line of a code block that calls palmette, as in a terminal of 80
columns. Beside each it prints the exit code, the seconds that a user waits, the seconds until something is printed, the
longest silence after that, and the processor's seconds, which depend less on what else the machine does.

    python benchmarks/page_commands.py                                        # README.md, "Every command, in order"
    python benchmarks/page_commands.py --quickstart runs/quickstart           # copy this finished run, do not make one
    python benchmarks/page_commands.py docs/tutorial/the-whole-path.md --folder walk --show
    python benchmarks/page_commands.py docs/how-to/serve-over-http.md --limit-seconds 30 --only serve
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(\w*)\n([\s\S]*?)^```$|((?:^ {4}.*\n)+)", flags=re.MULTILINE)
SAVE = re.compile(r"Save (?:this|it|your verdicts)\s+as\s+([\w./-]+\.\w+)[^.\n]*[.:]?\n\n\Z")
GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Step:
    """A file to save, or a command to run.

    Attributes:
        command: what is typed, on one line and without the comment behind it. Empty for a file.
        file: the name of the file to save. Empty for a command.
        text: the file's text.
    """

    command: str = ""
    file: str = ""
    text: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a command went. All times are in seconds.

    Attributes:
        code: its exit code.
        seconds: how long it took by the clock.
        busy: how long the processor worked.
        first: when it first printed something, or None if it never did.
        silence: the longest time without output after that, up to its end.
        output: all that it printed.
    """

    code: int
    seconds: float
    busy: float
    first: float | None
    silence: float
    output: str


def steps(page: str) -> list[Step]:
    """The files that the text of a page says to save, and its commands, in order."""
    found = []
    for block in BLOCK.finditer(page):
        language, fenced, indented = block.groups()
        text = fenced or re.sub(r"^ {4}", "", indented or "", flags=re.MULTILINE)
        if named := SAVE.search(page[: block.start()]):
            found.append(Step(file=named[1], text=text))
        elif not language or language in ("bash", "sh", "console"):
            found += [Step(command=line) for line in commands(text)]
    return found


def commands(block: str) -> list[str]:
    """The lines of a code block that call palmette or write a file with echo, without the comments behind them."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    typed = [line for line in lines if re.search(r"^(\w+=\S+ )*palmette |\| palmette |^echo .* > ", line)]
    return [re.sub(r"\s+# .*$", "", line) for line in typed]


def run(command: str, folder: Path, limit_seconds: float) -> Outcome:
    """Run a command in a folder, with a terminal of 80 columns to print to. After the limit it gets a Ctrl-C."""
    called = re.sub(r"(^|\| |=\S+ )palmette ", rf"\1{sys.executable} -m palmette ", command)
    environment = {"HF_HUB_OFFLINE": "1", **os.environ}
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before, started = os.times(), time.monotonic()
    process = subprocess.Popen(
        called,
        shell=True,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        first, silence, output = _watch(process, reader, started, limit_seconds)
    except BaseException:  # stopped from outside: the command has its own process group, and would go on
        os.killpg(process.pid, signal.SIGINT)
        raise
    os.close(reader)
    code, after = process.wait(), os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return Outcome(code, time.monotonic() - started, busy, first, silence, output.decode(errors="replace"))


def _watch(
    process: subprocess.Popen[bytes], reader: int, started: float, limit_seconds: float
) -> tuple[float | None, float, bytes]:
    """Read what a command prints until it ends: seconds to the first output, the longest silence, and the output."""
    deadline, stops = started + limit_seconds, [signal.SIGINT, signal.SIGKILL]
    first, silence, last, output = None, 0.0, started, b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready and stops:
            os.killpg(process.pid, stops.pop(0))
            deadline = time.monotonic() + GRACE_SECONDS
            continue
        try:
            piece = os.read(reader, 65536)
        except OSError:  # nobody holds the terminal any more
            piece = b""
        now = time.monotonic()
        silence = max(silence, now - last if first is not None else 0.0)
        first, last = (now - started if first is None and piece else first), now
        if not piece:
            break
        output += piece
    return first, silence, output


def seen(output: str) -> str:
    """What is left on a terminal: of a line that was written over, the last that was written."""
    lines = output.replace("\r\n", "\n").split("\n")
    return "\n".join(next((part for part in reversed(line.split("\r")) if part.strip()), "").rstrip() for line in lines)


def table_line(command: str, outcome: Outcome) -> str:
    """A command and how it went, on one line."""
    first = "   none" if outcome.first is None else f"{outcome.first:5.1f} s"
    return (
        f"{outcome.code:4d}  {outcome.seconds:6.1f} s, processor {outcome.busy:6.1f} s, first output {first}, "
        f"silent for {outcome.silence:5.1f} s  {command}"
    )


def walk(found: list[Step], folder: Path, options: argparse.Namespace) -> list[str]:
    """Save and run the steps of a page in a folder. The result is the commands that failed."""
    failed = []
    if options.quickstart:
        shutil.copytree(options.quickstart, folder / "runs" / "quickstart", dirs_exist_ok=True)
    for step in found:
        if step.file:
            (folder / step.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / step.file).write_text(step.text, encoding="utf-8")
            continue
        if not re.search(options.only, step.command):
            continue
        if step.command == "palmette quickstart" and options.quickstart:
            continue
        outcome = run(step.command, folder, options.limit_seconds)
        print(table_line(step.command, outcome), flush=True)
        if options.show or outcome.code:
            print(seen(outcome.output), flush=True)
        if outcome.code:
            failed.append(step.command)
    return failed


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", default=README, help="a page in Markdown")
    parser.add_argument("--quickstart", type=Path, help="a finished run for runs/quickstart, which is not made then")
    parser.add_argument("--folder", type=Path, help="run in this folder, and leave what was made")
    parser.add_argument(
        "--limit-seconds", type=float, default=3600.0, help="stop a command with Ctrl-C after this long"
    )
    parser.add_argument("--only", default="", help="run only the commands that match this regular expression")
    parser.add_argument("--show", action="store_true", help="print what every command printed, not only failed ones")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background hands on that it is ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = steps(options.page.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if failed := walk(found, folder, options):
            raise SystemExit(f"{len(failed)} of the commands failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
