"""`palmette compare-runs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.text import Text

    from palmette.cli.tables import TextTable
    from palmette.evaluate.compare import Compared
    from palmette.evaluate.squad_metrics import ScoredAnswer

BENCHMARK = "items.jsonl"  # of the folders that `palmette eval choice` writes
_ARROWS = {"higher": "↑", "lower": "↓", "": " "}


def compare_runs(
    first: Annotated[
        Path,
        typer.Argument(help="A: a folder that `palmette eval` or the quickstart wrote.", **{**PATH, "metavar": "A"}),
    ],
    second: Annotated[Path, typer.Argument(help="B: another one, on the same data.", **{**PATH, "metavar": "B"})],
    show: Annotated[int, typer.Option(min=0, help="How many changed answers to print, each way.")] = 5,
    page: Annotated[
        Path | None, typer.Option(help="File for a page, of two results of `palmette eval choice`.", **PATH)
    ] = None,
) -> None:
    """Compare two evaluations of the same data.

    It prints each measure under both, which one is better, and the answers that changed.
    """
    if all((folder / BENCHMARK).is_file() for folder in (first, second)):
        from palmette.cli.measure.benchmarks import compare_benchmarks

        compare_benchmarks(first, second, show, page)
        return
    from palmette.cli.console import stdout
    from palmette.evaluate.squad import ANSWERS
    from palmette.inference.nearby import check_there

    for folder in (first, second):
        check_there(folder, "Give a folder that `palmette eval` or the quickstart wrote.", file=ANSWERS)
    from palmette.evaluate.changes import changed_answers
    from palmette.evaluate.compare import compare_evaluations
    from palmette.evaluate.squad import Evaluation
    from palmette.numbers import count

    a, b = Evaluation.read(first).scored, Evaluation.read(second).scored
    compared, changes, console = compare_evaluations(a, b), changed_answers(a, b), stdout()
    documents = count(len({answer.document.id for answer in a}), "document")
    console.print(f"A: {first}\nB: {second}\n{count(len(a), 'question')} about {documents}\n")
    if any(not one.equal for one in compared):
        console.print(comparison_table(compared), "")
    for line in remarks(compared):
        console.print(line)
    console.print(
        f"\nright in B only: {len(changes.won)}\nright in A only: {len(changes.lost)}\n"
        f"answered differently, but equally right or wrong: {changes.num_other}"
    )
    for name, changed in (("Right in B only", changes.won), ("Right in A only", changes.lost)):
        if changed and show:
            console.print(f"\n{name} ({min(show, len(changed))} of {len(changed)})", style="bold")
        for x, y in changed[:show]:
            console.print(_changed(x, y))


def comparison_table(compared: Iterable[Compared]) -> TextTable:
    """The measures that differ, with the difference, its 95 % interval, and which side is better.

    Measures that repeat an earlier one are left out. An arrow says which values are better.
    """
    from palmette.cli.tables import TextTable
    from palmette.numbers import fixed, interval, places_of

    shown = [one for one in distinct(compared) if not one.equal]
    known = any(one.difference for one in shown)
    table = TextTable("measure", "A", "B", "B - A", *(["95 % interval"] if known else []))
    if known:
        table.add_column("better")
    for one in shown:
        ends = (one.difference.low, one.difference.high) if one.difference else None
        places = places_of(ends, one.measure.places)
        table.add_row(
            f"{_ARROWS[one.measure.better]} {one.measure.heading}",
            fixed(one.a, places),
            fixed(one.b, places),
            fixed(one.b - one.a, places, sign=True),
            *([interval(ends, places, sign=True), one.verdict] if known else []),
        )
    return table


def distinct(compared: Iterable[Compared]) -> list[Compared]:
    """The measures without those that repeat the figures of an earlier one."""
    found: list[Compared] = []
    for one in compared:
        if one.equal or not any(one.repeats(other) for other in found):
            found.append(one)
    return found


def remarks(compared: Iterable[Compared]) -> Iterator[str]:
    """What the table leaves out, and how to read it."""
    from palmette.evaluate.compare import PERCENT
    from palmette.numbers import readable

    compared = list(compared)
    kept = distinct(compared)
    if any(not one.equal for one in compared):
        yield f"{_ARROWS['higher']} higher is better, {_ARROWS['lower']} lower is better."
        if any(one.difference for one in compared):
            yield "Unclear: other documents of this kind could reverse the order, since the interval holds 0."
        else:
            yield "There are no intervals, since they need at least two documents."
    if equal := [one for one in compared if one.equal]:  # a line each, since names have commas in them
        yield "Equal in A and B:"
    for one in equal:
        yield f"  {one.measure.label}: {readable(one.a)}{' %' if one.measure.unit == PERCENT else ''}"
    for one in compared:
        if one not in kept:
            first = next(other for other in kept if one.repeats(other))
            yield f"The same figures as {first.measure.label}: {one.measure.label}."


def _changed(a: ScoredAnswer, b: ScoredAnswer) -> Text:
    """A question that was answered differently, with both answers and the reference."""
    from rich.text import Text

    gold = [answer.text for answer in a.question.answers[:1]] or ["(not in the document)"]
    shown = Text(a.question.text, "bold").append(f"  {a.question.id}\n", "not bold dim")
    for name, answer in (("A", a), ("B", b)):
        text = answer.prediction.text or "(no answer)"
        shown.append(f"  {name}: {text}\n", "green" if answer.exact == 1.0 else "red")
    return shown.append(f"  right: {gold[0]}", "cyan")
