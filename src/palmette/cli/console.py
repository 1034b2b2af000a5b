"""What commands print: highlighted spans, tables of metrics."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from palmette.evaluate.names import DECISIONS, HEADLINES
from palmette.evaluate.squad_metrics import ScoredAnswer

Metrics = Mapping[str, float | int | None]
Intervals = Mapping[str, tuple[float, float]]
Mark = tuple[int, int, str]  # start, end, style


def stdout() -> Console:
    """Where results go."""
    return Console(markup=False, emoji=False, highlight=False)


def invoked_as() -> str:
    """How this command was called, for commands to try next: its path, unless it is on the PATH."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m palmette"
    if shutil.which(called.name) == str(called):
        return called.name
    with contextlib.suppress(ValueError):
        return str(called.relative_to(Path.cwd()))
    return str(called)


def stderr() -> Console:
    """Where news of the work goes."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def metrics_table(columns: Mapping[str, Metrics], intervals: Intervals | None = None) -> Table:
    """Metrics side by side, one column a model, in percent; the last one with its 95 % intervals."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("percent")
    for name in columns:
        table.add_column(name, justify="right")
    if intervals:
        table.add_column("95 % interval", justify="right")
    for key, label in {**HEADLINES, **DECISIONS}.items():
        ends = [_interval(intervals.get(key))] if intervals else []
        table.add_row(label, *(_number(metrics.get(key)) for metrics in columns.values()), *ends)
    return table


def _interval(ends: tuple[float, float] | None) -> str:
    return f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def highlighted(text: str, spans: Sequence[Mark], *, brackets: bool = False) -> Text:
    """A text with spans marked: in colour, and also between brackets where there may be none.

    Args:
        text: the text. Control characters are shown as blanks, since a terminal would act on them.
        spans: what to mark; a later span is drawn over earlier ones.
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
    """A scored answer: question, answer, what was right, and the document with both spans marked."""
    right, prediction = answer.exact == 1.0, answer.prediction
    shown = Text()
    shown.append("right " if right else "wrong ", "bold green" if right else "bold red")
    shown.append(answer.question.text, "bold")
    shown.append(f"\n  answer: {prediction.text or '(not in the document)'}", "green" if right else "red")
    if prediction.probability is not None:
        shown.append(f"  (probability {prediction.probability:.2f})", "dim")
    if not right:
        gold = answer.question.answers[0].text if answer.question.answers else "(not in the document)"
        shown.append(f"\n  right answer: {gold}", "cyan")
    shown.append("\n")
    return shown.append_text(highlighted(answer.document.text, answer_spans(answer), brackets=brackets)).append("\n")


def answer_spans(answer: ScoredAnswer) -> list[Mark]:
    """Where the right answer and the model's answer stand in the document; the latter on top."""
    spans = [(a.start, a.start + len(a.text), "black on bright_cyan") for a in answer.question.answers[:1]]
    start, end = answer.prediction.start, answer.prediction.end
    if start is not None and end is not None:
        if answer.exact == 1.0:
            spans.clear()
        spans.append((start, end, "black on bright_green" if answer.exact == 1.0 else "black on bright_red"))
    return spans
