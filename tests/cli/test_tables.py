"""Tables in narrow terminals: every word of every table stays whole. Tables that are too wide are split."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from palmette.cli.console import Figure, figures_table, metrics_table
from palmette.cli.measure.comparison import comparison_table
from palmette.cli.tables import TextTable
from palmette.cli.train.studies import study_table
from palmette.evaluate.bootstrap import Difference
from palmette.evaluate.compare import MEASURES as COMPARED
from palmette.evaluate.compare import Compared
from palmette.evaluate.names import DECISIONS, HEADLINES
from palmette.studies.tables import MEASURES, CellFigures, Spread, tables_of
from palmette.tasks.qa_prompt import describe_prompts
from tests.support.layers import MODULES, imported, layer
from tests.support.paths import SOURCE

FRAME = re.compile(r"[│┃┼╇━─]")


def printed(table: object, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, emoji=False, highlight=False).print(table)
    return stream.getvalue()


def words(text: str) -> set[str]:
    """The words, and the parts of long settings. A list puts a colon after each heading."""
    text = re.sub(r":$", "", FRAME.sub(" ", text).replace(": ", " "), flags=re.MULTILINE)
    return {part for word in text.split() for part in re.split(r"(?<=[_=])", word)}


def sweep_rows() -> list[CellFigures]:
    spreads = {name: Spread(61.2, 1.4, 2) for name in MEASURES}
    return [
        CellFigures(
            "base", {"train.learning_rate": rate, "reasoning.embedding_epochs": epochs}, rate, decoder, (0, 1), spreads
        )
        for rate in (1e-4, 3e-3)
        for epochs in (0, 2)
        for decoder in ("span", "greedy-free-128")
    ]


def study_tables(keys: Sequence[str] | None) -> list[TextTable]:
    return [study_table(*one) for one in tables_of(sweep_rows(), keys, "learning_rate=0.0001", intervals=False)]


def metrics() -> TextTable:
    values = dict.fromkeys({**HEADLINES, **DECISIONS}, 61.234)
    columns = {"untouched, greedy": values, "untouched": values, "fine-tuned": values}
    return metrics_table(columns, dict.fromkeys(values, (55.123, 67.345)))


def comparisons() -> TextTable:
    found = [Compared(one, 0.123, 99.876, Difference(99.7, -12.3, 112.4, 0.01)) for one in COMPARED]
    return comparison_table(found)


def figures() -> TextTable:
    rows = [
        Figure("KL divergence from the reference, nats per completion", 1234.5678, (1000.1234, 1500.2345), 3),
        Figure("abstained exactly where it should (%)", 61.234, (55.123, 67.345)),
    ]
    return figures_table(rows, measure="2,400 sampled completions")


def prompts() -> TextTable:
    table = TextTable("prompt")
    table.add_column("meaning")
    for name, about in describe_prompts():
        table.add_row(name, about)
    return table


TABLES: dict[str, Callable[[], list[TextTable]]] = {
    "grid": lambda: study_tables(["train.learning_rate", "reasoning.embedding_epochs"]),
    "cells": lambda: study_tables(None),
    "metrics": lambda: [metrics()],
    "comparison": lambda: [comparisons()],
    "figures": lambda: [figures()],
    "prompts": lambda: [prompts()],
}


def test_no_other_module_lays_tables_out() -> None:
    """So what holds for the tables below holds for all that commands print."""
    made = [
        str(path.relative_to(SOURCE))
        for path in MODULES
        if list(imported(path, "rich"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Table"
    ]
    assert made == ["cli/tables.py"]
    assert {layer(path) for path in MODULES if list(imported(path, "rich"))} == {"cli"}


@pytest.mark.parametrize("width", [100, 80, 60, 40])
@pytest.mark.parametrize("name", TABLES)
def test_no_word_is_broken(name: str, width: int) -> None:
    for table in TABLES[name]():
        whole, shown = printed(table, 1000), printed(table, width)
        assert max(map(len, shown.splitlines())) <= width
        assert len(words(whole)) > 5
        assert words(whole) <= words(shown)


def small() -> TextTable:
    table = TextTable("run", "exact", "seconds")
    table.add_row("short", "61.2", "9")
    table.add_row("a longer one", "5.0", "1234")
    return table


def test_a_table_that_fits_has_one_line_a_row() -> None:
    assert [FRAME.sub("|", line).strip() for line in printed(small(), 80).splitlines()][2:] == [
        "short        |  61.2 |       9",
        "a longer one |   5.0 |    1234",
    ]


def test_a_table_that_is_too_wide_is_split_and_repeats_its_names() -> None:
    shown = printed(small(), 16)
    assert [line.split() for line in FRAME.sub(" ", shown).splitlines() if line.strip()] == [
        ["run", "exact"], ["short", "61.2"], ["a", "longer", "5.0"], ["one"],
        ["run", "seconds"], ["short", "9"], ["a", "1234"], ["longer"], ["one"],
    ]  # fmt: skip


def test_where_no_two_columns_fit_each_row_is_a_list() -> None:
    assert printed(small(), 12).splitlines() == [
        "run: short", "exact: 61.2", "seconds: 9", "", "run: a", "longer one", "exact: 5.0", "seconds:", "1234",
    ]  # fmt: skip


def test_long_names_go_on_after_their_signs() -> None:
    table = TextTable("cell", "exact")
    table.add_row("learning_rate=0.0001_targets=q_proj+v_proj", "61.2")
    lines = [
        line.split("│")[0].strip() for line in printed(table, 30).splitlines() if "━" not in line and "─" not in line
    ]
    assert lines[1:] == ["learning_rate=0.0001_", "targets=q_proj+v_proj"]
