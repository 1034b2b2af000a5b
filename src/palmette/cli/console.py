"""What commands print: tables of figures, and answers marked in their documents."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from palmette.cli.tables import TextTable
from palmette.evaluate.names import DECISIONS, HEADLINES
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.numbers import fixed, interval, places_of

Metrics = Mapping[str, float | int | None]
Intervals = Mapping[str, tuple[float, float]]
Mark = tuple[int, int, str]  # start, end, style


def stdout() -> Console:
    """The console for results."""
    return Console(markup=False, emoji=False, highlight=False)


def invoked_as() -> str:
    """How this command was called, for commands to try next, quoted for the shell.

    That is its path, unless it is on the PATH.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m palmette"
    if shutil.which(called.name) == str(called):
        return shlex.quote(called.name)
    with contextlib.suppress(ValueError):
        called = called.relative_to(Path.cwd())
    return shlex.quote(str(called))


def command_line(*words: str | Path) -> str:
    """A command to try next, as it is typed into a shell.

    Args:
        words: what stands after `palmette`. Each is one word to the shell, whatever characters it has.
    """
    return f"{invoked_as()} {shlex.join(map(str, words))}"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON. It is UTF-8 whatever the encoding of standard output."""
    # A lone surrogate, as a command line of other bytes gives, becomes the escape that JSON has for it.
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def stderr() -> Console:
    """The console for messages about the work. At a terminal lines are wrapped between words, elsewhere not at all."""
    console = _News(stderr=True, markup=False, emoji=False, highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


class _News(Console):
    """A console whose lines stand above a progress bar. They would begin behind it otherwise."""

    def print(self, *objects: Any, **options: Any) -> None:
        drawing = sys.modules.get("palmette.progress")  # there is no bar before it is imported
        with drawing.Bar.external_write_mode(sys.stderr) if drawing else contextlib.nullcontext():
            super().print(*objects, **options)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of a table of figures.

    Attributes:
        label: its name, with the unit.
        value: the value, if there is one.
        interval: the 95 % interval, if there is one.
        digits: the most decimals of both.
    """

    label: str
    value: float | None
    interval: tuple[float, float] | None = None
    digits: int = 1


def plain_table(first: str, *others: str) -> TextTable:
    """An empty table without a frame. Its first column is for words, the others are for numbers."""
    return TextTable(first, *others)


def figures_table(rows: Iterable[Figure], *, measure: str = "measure") -> TextTable:
    """Figures with their 95 % intervals, one per row. An interval decides how many digits of its figure are shown.

    Args:
        rows: the figures.
        measure: heading of the first column.
    """
    table = plain_table(measure, "value", "95 % interval")
    for row in rows:
        places = places_of(row.interval, row.digits)
        table.add_row(row.label, fixed(row.value, places), interval(row.interval, places))
    return table


def metrics_table(columns: Mapping[str, Metrics], intervals: Intervals | None = None) -> TextTable:
    """Metrics in percent, one column for each model. The last column holds the 95 % intervals of the last model."""
    table = plain_table("percent", *columns, *(["95 % interval"] if intervals else []))
    for key, label in {**HEADLINES, **DECISIONS}.items():
        ends = intervals.get(key) if intervals else None
        places = places_of(ends) if ends or min(map(_num_questions, columns.values())) >= 100 else 0
        values = [fixed(metrics.get(key), places) for metrics in columns.values()]
        table.add_row(label, *values, *([interval(ends, places)] if intervals else []))
    return table


def _num_questions(metrics: Metrics) -> float:
    """The number of questions behind metrics. It is large where nothing says it."""
    return metrics.get("total") or math.inf


def highlighted(text: str, spans: Sequence[Mark], *, brackets: bool = False) -> Text:
    """A text with spans marked in colour, and also between brackets where there may be no colours.

    Args:
        text: the text. Control characters are shown as blanks, since a terminal would act on them.
        spans: the spans to mark. A later span is drawn over earlier ones.
        brackets: whether to put the spans between » and «.
    """
    shown = Text("".join(c if c.isprintable() or c == "\n" else " " for c in text))
    for start, end, style in spans:
        shown.stylize(style, start, end)
    if brackets:
        edges = [(end, "«") for _, end, _ in spans] + [(start, "»") for start, _, _ in spans]
        for at, mark in sorted(edges, reverse=True):
            shown = shown[:at].append(mark).append_text(shown[at:])
    return shown


def answer_text(answer: ScoredAnswer, *, brackets: bool = False) -> Text:
    """A scored answer with its question and the right answer, and about two lines of the document around both spans."""
    right, prediction = answer.exact == 1.0, answer.prediction
    shown = Text()
    shown.append("right  " if right else "wrong  ", "bold green" if right else "bold red")
    shown.append(answer.question.text, "bold")
    shown.append(f"\n  answer: {prediction.text or '(not in the document)'}", "green" if right else "red")
    if prediction.probability is not None:
        shown.append(f"  (probability {prediction.probability:.2f})", "dim")
    if not right:
        gold = answer.question.answers[0].text if answer.question.answers else "(not in the document)"
        shown.append(f"\n  right answer: {gold}", "cyan")
    shown.append("\n")
    for passage, marks in passages(answer.document.text, answer_spans(answer)):
        shown.append("  … ", "dim").append_text(highlighted(passage, marks, brackets=brackets)).append(" …\n", "dim")
    return shown


def passages(text: str, spans: Sequence[Mark], around: int = 60) -> list[tuple[str, list[Mark]]]:
    """The parts of a text around spans, cut at blanks, each with the spans in it. Parts that meet are one.

    Args:
        text: the text. Line breaks in it become blanks.
        spans: the spans.
        around: characters before and after a span.
    """
    flat = "".join(" " if letter.isspace() else letter for letter in text)
    edges: list[list[int]] = []
    for start, end, _ in sorted(spans):
        low = (flat.find(" ", start - around, start) + 1 or start) if start > around else 0
        high = flat.rfind(" ", end, end + around) if end + around < len(flat) else len(flat)
        high = max(high, end)
        if edges and low <= edges[-1][1]:
            edges[-1][1] = max(edges[-1][1], high)
        else:
            edges.append([low, high])
    return [
        (flat[low:high], [(start - low, end - low, style) for start, end, style in spans if low <= start < end <= high])
        for low, high in edges
    ]


def answer_spans(answer: ScoredAnswer) -> list[Mark]:
    """The spans of the right answer and of the model's answer in the document. The model's is drawn over the other."""
    spans = [(a.start, a.start + len(a.text), "black on bright_cyan") for a in answer.question.answers[:1]]
    start, end = answer.prediction.start, answer.prediction.end
    if start is not None and end is not None:
        if answer.exact == 1.0:
            spans.clear()
        spans.append((start, end, "black on bright_green" if answer.exact == 1.0 else "black on bright_red"))
    return spans
