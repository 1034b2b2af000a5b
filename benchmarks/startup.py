"""How long a command takes from its start to its end, as a person waits for it: whole processes, by the wall clock.

Versions of the source, given as NAME=FOLDER, are run in turn, so that whatever else the machine does meets all of them.
Each command is run once before it is timed. So the caches are warm that every second start finds warm, and the first
start is a line of its own, in a cache that was empty.

    python benchmarks/startup.py --model runs/quickstart before=../old after=.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

DOCUMENT = (
    "The ferry to Hamra leaves the north quay at 7:40 every morning and reaches the island at 8:25. A ticket costs "
    "12 crowns, and children under six travel free. In winter the first boat leaves at 9:10. Dogs are welcome on deck."
)
QUESTION = "When does the ferry to Hamra leave in winter?"
PARTS = """
import time
began, used = time.perf_counter(), time.process_time()
def lap(name):
    global began, used
    now = time.perf_counter()
    spent = time.process_time()
    print(name, round(now - began, 3), round(spent - used, 3), flush=True)
    began, used = now, spent
import palmette
palmette.load, palmette.Document
lap("imports")
reader = palmette.load({model!r})
lap("load")
reader.answer({document!r}, [{question!r}])
lap("answer")
"""


@dataclass(frozen=True)
class Timing:
    """The times of one command under one version of the source.

    Attributes:
        command: what is run.
        version: the name of the version.
        seconds: each repeat's time by the wall clock.
        processor: each repeat's time on the processor, all threads together, which a busy machine changes less.
        exit_code: of the last repeat.
    """

    command: str
    version: str
    seconds: tuple[float, ...]
    processor: tuple[float, ...]
    exit_code: int


def commands(model: str, document: Path, ask_form: str) -> dict[str, list[str]]:
    """The commands, by what they are called in the table.

    Args:
        model: a finished run, a model folder or a hub id.
        document: a text file.
        ask_form: "option" for the versions of `ask` with `--document FILE`, "argument" for those with FILE first.
    """

    def ask(file: str, question: str, *more: str) -> list[str]:
        named = ["--document", file, question] if ask_form == "option" else [file, question]
        return ["ask", *named, *more]

    return {
        "--help": ["--help"],
        "prompts": ["prompts"],
        "an option that does not exist": ["ask", "--modle", model],
        "a document that does not exist": ask("missing.txt", QUESTION, "--model", model),
        "a run that does not exist": ask(str(document), QUESTION, "--model", "runs/quikstart"),
        "one question": ask(str(document), QUESTION, "--model", model),
    }


def ask_form(source: Path) -> str:
    """How a version's `ask` takes its document."""
    for name in ("answer/ask", "ask", "answering"):
        file = source / "src" / "palmette" / "cli" / f"{name}.py"
        if file.is_file() and "def ask(" in file.read_text(encoding="utf-8"):
            head = file.read_text(encoding="utf-8").partition("def ask(")[2]
            return "argument" if head.find("document:") < head.find("questions:") else "option"
    raise SystemExit(f"{source} has no palmette ask")


def run(source: Path, arguments: Sequence[str], cache: Path | None = None) -> tuple[float, float, int, str]:
    """Run a program in a process of its own.

    Returns:
        Its seconds by the wall clock and on the processor, its exit code, and what it printed.
    """
    environment = {**os.environ, "PYTHONPATH": str((source / "src").resolve())}
    if cache is not None:
        environment["PALMETTE_CACHE"] = str(cache)
    began, before = time.perf_counter(), _children()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - began, _children() - before, done.returncode, done.stdout + done.stderr


def _children() -> float:
    """Seconds on the processor of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(sources: dict[str, Path], model: str, document: Path, repeats: int, cache: Path) -> Iterator[Timing]:
    """Time each command under each version, in turn."""
    tables = {name: commands(model, document, ask_form(source)) for name, source in sources.items()}
    for command in next(iter(tables.values())):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
        codes = dict.fromkeys(sources, 0)
        for repeat in range(repeats + 1):
            for name, source in sources.items():
                wall, processor, codes[name], _ = run(source, ["-m", "palmette", *tables[name][command]], cache / name)
                if repeat:
                    times[name].append((wall, processor))
        for name in sources:
            wall_times, processor_times = zip(*times[name], strict=True)
            yield Timing(command, name, wall_times, processor_times, codes[name])


def first_start(sources: dict[str, Path], model: str, document: Path, cache: Path) -> Iterator[Timing]:
    """Time one question with an empty cache, in which the model of the installed package has been converted already."""
    for name, source in sources.items():
        folder = cache / name
        folder.mkdir(parents=True)
        converted = palmette_cache() / "models"
        if converted.is_dir():
            shutil.copytree(converted, folder / "models")  # a link would not be trusted
        arguments = commands(model, document, ask_form(source))["one question"]
        wall, processor, code, _ = run(source, ["-m", "palmette", *arguments], folder)
        yield Timing("one question, the first time", name, (wall,), (processor,), code)


def palmette_cache() -> Path:
    """The user's cache."""
    from palmette.cache import cache_folder

    return cache_folder()


def parts(sources: dict[str, Path], model: str, repeats: int, cache: Path) -> Iterator[Timing]:
    """Time the parts of a question in the Python API: imports, loading, and the answer."""
    program = PARTS.format(model=model, document=DOCUMENT, question=QUESTION)
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for name, source in sources.items():
            _, _, code, printed = run(source, ["-c", program], cache / name)
            if code:
                raise SystemExit(printed)
            for line in printed.splitlines():
                part, *numbers = line.split()
                if part in ("imports", "load", "answer"):
                    times.setdefault((part, name), []).append((float(numbers[0]), float(numbers[1])))
    for (part, name), pairs in times.items():
        wall, processor = zip(*pairs, strict=True)
        yield Timing(f"in Python: {part}", name, wall, processor, 0)


def table(timings: Sequence[Timing], versions: Sequence[str]) -> str:
    """A Markdown table of medians: by the wall clock, from the quickest to the slowest, and on the processor."""
    lines = [f"| from a cold process | {' | '.join(versions)} |", "|---|" + "---:|" * len(versions)]
    for command in dict.fromkeys(timing.command for timing in timings):
        cells = []
        for version in versions:
            (one,) = (timing for timing in timings if (timing.command, timing.version) == (command, version))
            spread = f" ({min(one.seconds):.2f} to {max(one.seconds):.2f})" if len(one.seconds) > 1 else ""
            cells.append(
                f"{statistics.median(one.seconds):.2f} s{spread}, processor {statistics.median(one.processor):.2f} s"
            )
        lines.append(f"| {command} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "versions", nargs="+", metavar="NAME=FOLDER", help="A working copy of the source, and its name."
    )
    parser.add_argument("--model", required=True, help="A finished run, a model folder or a hub id.")
    parser.add_argument("--repeats", type=int, default=7, help="Timed repeats of each command.")
    parser.add_argument("--json", action="store_true", help="Print every repeat as JSON.")
    options = parser.parse_args()
    sources = {name: Path(folder) for name, _, folder in (one.partition("=") for one in options.versions)}
    model = str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model
    cache = Path(tempfile.mkdtemp(prefix="palmette-startup-"))
    try:
        document = cache / "ferry.txt"
        document.write_text(DOCUMENT, encoding="utf-8")
        timings = list(first_start(sources, model, document, cache))
        timings += measure(sources, model, document, options.repeats, cache)
        timings += parts(sources, model, options.repeats, cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    if options.json:
        print(json.dumps([asdict(timing) for timing in timings]))
    else:
        print(table(timings, list(sources)))


if __name__ == "__main__":
    main()
