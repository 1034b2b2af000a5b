"""What tables of figures look like, and messages beside a progress bar."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from palmette.cli.console import Figure, figures_table, metrics_table, stderr
from palmette.progress import progress


def lines(table: Any) -> list[list[str]]:
    """The cells of a printed table."""
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.replace("┃", "│").split("│") for line in shown.splitlines() if not set(line) & {"─", "━"}]
    return [[cell.strip() for cell in row] for row in rows]


def test_a_table_of_figures() -> None:
    rows = [Figure("accuracy, percent", 62.5, (50.0, 75.04)), Figure("log loss, nats", 0.6931, digits=3)]
    assert lines(figures_table(rows, measure="8 comparisons")) == [
        ["8 comparisons", "value", "95 % interval"],
        ["accuracy, percent", "62", "50 to 75"],
        ["log loss, nats", "0.693", ""],
    ]


def test_a_table_of_metrics_has_a_column_for_each_model() -> None:
    table = metrics_table({"before": {"exact": 10.0}, "after": {"exact": 61.04, "f1": None}}, {"exact": (55.0, 67.0)})
    headings, exact, f1 = lines(table)[:3]
    assert headings == ["percent", "before", "after", "95 % interval"]
    assert exact == ["exact match (EM)", "10.0", "61.0", "55.0 to 67.0"]
    assert f1 == ["F1", "-", "-", ""]


def test_a_message_stands_above_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the line of the bar, which is drawn again below it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    bar = progress(5, "training", "steps")
    stderr().print("after 0 steps, held-out perplexity: 46.93")
    bar.close()
    before, after = terminal.getvalue().split("after 0 steps, held-out perplexity: 46.93\n")
    assert before.endswith("\r")
    assert before.rstrip("\r").endswith(" ")
    assert after.startswith("\rtraining |")
