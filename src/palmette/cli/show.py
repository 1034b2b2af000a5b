"""What commands print: highlighted spans, tables of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def stdout() -> Console:
    """Where results go."""
    return Console(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Where news of the work goes."""
    return Console(stderr=True, highlight=False)


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


def highlighted(text: str, spans: Sequence[tuple[int, int, str]]) -> Text:
    """A text with spans (start, end, style) marked."""
    shown = Text(text)
    for start, end, style in spans:
        shown.stylize(style, start, end)
    return shown


def answer_text(answer: ScoredAnswer) -> Text:
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
    return shown.append_text(highlighted(answer.document.text, answer_spans(answer))).append("\n")


def answer_spans(answer: ScoredAnswer) -> list[tuple[int, int, str]]:
    """Where the right answer and the model's answer stand in the document; the latter on top."""
    spans = [(a.start, a.start + len(a.text), "black on bright_cyan") for a in answer.question.answers[:1]]
    start = answer.document.text.find(answer.prediction) if answer.prediction else -1
    if start >= 0:
        style = "black on bright_green" if answer.exact == 1.0 else "black on bright_red"
        spans.append((start, start + len(answer.prediction), style))
    return spans
