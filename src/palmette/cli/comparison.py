"""`palmette compare-runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import (
    PATH,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.table import Table
    from rich.text import Text

    from palmette.evaluate.bootstrap import Difference
    from palmette.evaluate.squad_metrics import ScoredAnswer


def compare_runs(
    first: Annotated[
        Path,
        typer.Argument(help="A: a folder that `palmette eval` or the quickstart wrote.", **{**PATH, "metavar": "A"}),
    ],
    second: Annotated[Path, typer.Argument(help="B: another one, on the same data.", **{**PATH, "metavar": "B"})],
    show: Annotated[int, typer.Option(min=0, help="How many changed answers to print, each way.")] = 5,
) -> None:
    """Compare two evaluations of the same data.

    It prints the differences with intervals, and the answers that changed.
    """
    from palmette.cli.console import stdout
    from palmette.evaluate.bootstrap import paired_difference
    from palmette.evaluate.changes import changed_answers
    from palmette.evaluate.squad import Evaluation

    a, b = Evaluation.read(first).scored, Evaluation.read(second).scored
    differences, changes, console = paired_difference(b, a), changed_answers(a, b), stdout()
    console.print(f"A: {first}\nB: {second}\n")
    console.print(_difference_table(Evaluation(a).metrics, Evaluation(b).metrics, differences))
    console.print(
        f"\nright in B only: {len(changes.won)}, right in A only: {len(changes.lost)}, "
        f"another answer that is equally right or wrong: {changes.num_other}"
    )
    for name, changed in (("right in B only", changes.won), ("right in A only", changes.lost)):
        if changed and show:
            console.print(f"\n{name} ({min(show, len(changed))} of {len(changed)})", style="bold")
        for x, y in changed[:show]:
            console.print(_changed(x, y))


def _difference_table(
    a: Mapping[str, float | int | None], b: Mapping[str, float | int | None], found: Mapping[str, Difference]
) -> Table:
    from palmette.cli.console import interval, number, plain_table

    table = plain_table("measure", "A", "B", "B - A", "95 % interval", "p")
    for name, difference in found.items():
        digits = 3 if name in ("auroc_answerable", "ece", "brier", "aurc") else 1
        table.add_row(
            name,
            number(a.get(name) or 0.0, digits),
            number(b.get(name) or 0.0, digits),
            f"{difference.value:+.{digits}f}",
            interval((difference.low, difference.high), digits, sign="+"),
            number(difference.p, 3),
        )
    return table


def _changed(a: ScoredAnswer, b: ScoredAnswer) -> Text:
    """A question that was answered differently, with both answers and the reference."""
    from rich.text import Text

    gold = [answer.text for answer in a.question.answers[:1]] or ["(not in the document)"]
    shown = Text(f"{a.question.id}  ", "dim").append(a.question.text, "bold").append("\n")
    for name, answer in (("A", a), ("B", b)):
        text = answer.prediction.text or "(no answer)"
        shown.append(f"  {name}: {text}\n", "green" if answer.exact == 1.0 else "red")
    return shown.append(f"  reference: {gold[0]}", "cyan")
