"""What the experiments share: data thinned, templates filled in, a command in several processes, and tables put into
a page.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from palmette import run
from palmette.data.records import DataSet, Document

PLACE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def thinned(source: DataSet, every: int, first: int = 0) -> DataSet:
    """Every n-th document, from the first one wanted (0: the very first), so that all articles have their share."""
    return replace(
        source, documents=tuple(document for document in source.documents if document.questions)[first::every]
    )


def ordinal(number: int) -> str:
    """A number as English counts with it.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '112th']
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def about(source: DataSet, every: int, first: int = 0) -> dict[str, Any]:
    """What was taken of a source."""
    return {
        "source": Path(source.source).name,
        "sha256": source.sha256,
        "every": every,
        **({"first": first} if first else {}),
        "documents": len(source.documents),
        "articles": len({document.title for document in source.documents}),
        "questions": source.num_questions,
        "answerable": sum(answerable(document) for document in source.documents),
    }


def answerable(document: Document) -> int:
    """How many of its questions a document answers."""
    return sum(question.answerable for question in document.questions)


def filled(value: Any, names: dict[str, str]) -> Any:
    """A template's settings with the names in place of what begins with $."""
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    if isinstance(value, str) and value.startswith("$"):
        name, slash, rest = value[1:].partition("/")
        return names[name] + slash + rest
    return value


def run_side_by_side(words: list[str], logs: Path, jobs: int) -> int:
    """A `palmette` command in several processes that share its work; the first one speaks here, the others into log
    files.

    Args:
        words: the command, without `palmette`.
        logs: begins the names of the log files.
        jobs: processes; each gets its share of the cores.

    Returns:
        The worst exit code: 0, or 1 if a run failed.
    """
    command = [str(Path(sys.executable).with_name("palmette")), *words]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    env = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", **os.environ}
    workers = []
    with contextlib.ExitStack() as files:
        for number in range(1, jobs + 1):
            place = logs.with_name(f"{logs.name}-{number}.log")
            log = None if number == 1 else files.enter_context(place.open("w", encoding="utf-8"))
            workers.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    try:
        codes = [worker.wait() for worker in workers]
    except KeyboardInterrupt:  # which the workers have got too
        for worker in workers:
            worker.wait()
        stop()
    if any(code not in (0, 1) for code in codes):
        stop(max(map(abs, codes)))
    return max(codes)


def stop(code: int = 130) -> NoReturn:
    """End, and say how to go on."""
    print("stopped; the same command goes on", file=sys.stderr)
    sys.exit(code)


def written(text: str, found: Mapping[str, Sequence[str]]) -> str:
    """A page with its tables filled in; one of which nothing is known yet stays as it is."""
    return PLACE.sub(
        lambda match: (
            match[1] + "\n" + "\n".join(found[match[2]]) + "\n\n" + match[3] if match[2] in found else match[0]
        ),
        text,
    )


def table_command(tables: Callable[[Path], Mapping[str, Sequence[str]]]) -> None:
    """Print the tables of the folder that the command line names, or put them into the page that it names."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: table.py FOLDER [PAGE]")
    found = tables(Path(sys.argv[1]))
    if len(sys.argv) == 2:
        print("\n\n".join("\n".join([f"## {name}", "", *lines]) for name, lines in found.items()))
        return
    page = Path(sys.argv[2])
    run.write_text(page, written(page.read_text(encoding="utf-8"), found))
