"""What commands print: highlighted spans, tables of metrics."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from palmette.evaluate.squad_metrics import ScoredAnswer

_ROWS = {
    "exact": "exact match (EM)",
    "f1": "F1",
    "HasAns_exact": "EM, answerable",
    "NoAns_exact": "EM, unanswerable",
    "valid_json": "valid JSON",
    "verbatim": "verbatim in the document",
}
Metrics = Mapping[str, float | int | None]
Mark = tuple[int, int, str]  # start, end, style


def stdout() -> Console:
    """Where results go."""
    return Console(markup=False, emoji=False, highlight=False)


def invoked_as() -> str:
    """How this command was called, for commands to try next: its path, unless it is on the PATH."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called):
        return called.name
    with contextlib.suppress(ValueError):
        return str(called.relative_to(Path.cwd()))
    return str(called)


def stderr() -> Console:
    """Where news of the work goes."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def metrics_table(columns: Mapping[str, Metrics]) -> Table:
    """Metrics side by side, one column a model, in percent."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("percent")
    for name in columns:
        table.add_column(name, justify="right")
    for key, label in _ROWS.items():
        table.add_row(label, *(_number(metrics.get(key)) for metrics in columns.values()))
    return table


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


def find_span(text: str, answer: str) -> int:
    """Where an answer stands in a text: the first place where it stands as whole words, else the first at all, else -1."""
    edges = [(r"(?<!\w)" if answer[:1].isalnum() else ""), (r"(?!\w)" if answer[-1:].isalnum() else "")]
    whole = re.search(edges[0] + re.escape(answer) + edges[1], text) if answer else None
    return whole.start() if whole else text.find(answer) if answer else -1


def answer_text(answer: ScoredAnswer, *, brackets: bool = False) -> Text:
    """A scored answer: question, answer, what was right, and the document with both spans marked."""
    right = answer.exact == 1.0
    shown = Text()
    shown.append("right " if right else "wrong ", "bold green" if right else "bold red")
    shown.append(answer.question.text, "bold")
    shown.append(f"\n  answer: {answer.prediction or '(not in the document)'}", "green" if right else "red")
    if not right:
        gold = answer.question.answers[0].text if answer.question.answers else "(not in the document)"
        shown.append(f"\n  right answer: {gold}", "cyan")
    shown.append("\n")
    return shown.append_text(highlighted(answer.document.text, answer_spans(answer), brackets=brackets)).append("\n")


def answer_spans(answer: ScoredAnswer) -> list[Mark]:
    """Where the right answer and the model's answer stand in the document; the latter on top."""
    spans = [(a.start, a.start + len(a.text), "black on bright_cyan") for a in answer.question.answers[:1]]
    start = find_span(answer.document.text, answer.prediction)
    if start >= 0:
        if answer.exact == 1.0:
            spans.clear()
        style = "black on bright_green" if answer.exact == 1.0 else "black on bright_red"
        spans.append((start, start + len(answer.prediction), style))
    return spans
