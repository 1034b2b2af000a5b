"""`palmette eval alpaca`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.judge.judges import ForceOption, ValidationOption, judged_remarks
from palmette.cli.options import DATA, MODEL, PATH, SeedOption, expanded

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.judge.win_rates import WinRates


@dataclass(frozen=True)
class WinRateOptions:
    """A model that is to be compared with a reference, as the options of `read_comparison` say."""

    model: str | None
    reference: str | None
    judge: str | None
    instructions: str | None
    limit: int | None
    max_new_tokens: int
    validation: Path | None
    force: bool


def read_comparison(
    *,
    model: Annotated[
        str | None, typer.Option(help="Instead of PREFERENCES: a model, or a .json or .jsonl of its outputs.", **MODEL)
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What it is compared with: a model, or a file of its outputs.", **MODEL)
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Who judges. See `palmette judge pairs`.", **{**MODEL, "metavar": "JUDGE"})
    ] = None,
    instructions: Annotated[
        str | None,
        typer.Option(help="A file with a column `instruction`. By default a hundred that come with palmette.", **DATA),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N instructions.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest output, in tokens.")] = 256,
    validation: ValidationOption = None,
    force: ForceOption = False,
) -> WinRateOptions:
    """What the options of a command say about a comparison. They are listed only in this signature."""
    return WinRateOptions(model, reference, judge, instructions, limit, max_new_tokens, validation, force)


@expanded("comparison", read_comparison)
def eval_alpaca(
    *,
    preferences: Annotated[
        list[str] | None,
        typer.Argument(
            help="Preferences of a judge: annotations.json of AlpacaEval, a .jsonl file, or a table.",
            **{**DATA, "metavar": "PREFERENCES"},
        ),
    ] = None,
    comparison: WinRateOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the figures, as JSON. With --model a folder, in which a job that was stopped goes on.",
            **PATH,
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, metavar="N", help="How often items are drawn for intervals.")] = 200,
    seed: SeedOption = 0,
) -> None:
    """Win rates of models against a reference, by a judge.

    It prints AlpacaEval's win rates, and those that they would be if all outputs were equally long. Give files of
    preferences, or a model, a reference and a judge.
    """
    from palmette import run
    from palmette.cli.console import stderr
    from palmette.errors import PalmetteError
    from palmette.judge.preferences import read_preferences
    from palmette.judge.win_rates import win_rates

    if comparison.model is not None:
        if preferences or out is None:
            raise PalmetteError("a model is compared in a folder", "Give --out, and no files of preferences.")
        _compare(comparison, out, resamples, seed)
        return
    if not preferences:
        raise PalmetteError("there are no preferences", "Give files of them, or --model, --reference and --judge.")
    if out is not None:
        run.check_absent(out)
    found = win_rates(read_preferences(preferences), num_samples=resamples, seed=seed)
    _print(found)
    if out is not None:
        run.write_json(out, {**run.environment(), "sources": preferences, **found.record()})
        stderr().print(f"written: {out}")


def _compare(comparison: WinRateOptions, out: Path, resamples: int, seed: int) -> None:
    from palmette.cli.console import stderr
    from palmette.errors import PalmetteError
    from palmette.judge.alpaca import RATES, compare
    from palmette.judge.spec import read_judge

    if comparison.model is None or comparison.reference is None or comparison.judge is None:
        raise PalmetteError("a model is compared with a reference, by a judge", "Give --reference and --judge.")
    found = compare(
        comparison.model,
        comparison.reference,
        read_judge(comparison.judge),
        out,
        instructions=comparison.instructions,
        limit=comparison.limit,
        max_new_tokens=comparison.max_new_tokens,
        validation=comparison.validation,
        force=comparison.force,
        num_samples=resamples,
        seed=seed,
    )
    _print(found.rates, [*judged_remarks(found.judged), *found.notes, found.trust])
    stderr().print(f"written: {out / RATES}")


def _print(found: WinRates, more: Sequence[str] = ()) -> None:
    from palmette.cli.console import stdout

    console = stdout()
    console.print(win_rate_table(found), "")
    for line in (*win_rate_remarks(found), *more):
        console.print(line)


def win_rate_table(found: WinRates) -> TextTable:
    """The models, best first."""
    from palmette.cli.tables import TextTable
    from palmette.numbers import NONE, fixed, interval

    table = TextTable("model", "at equal length", "95 % interval", "win rate", "error", "discrete")
    for row in found.rows:
        held = row.controlled
        table.add_row(
            row.model,
            fixed(held.win_rate if held else None, 2),
            (interval(held.interval, 1) if held else "") or NONE,
            fixed(row.win_rate, 2),
            fixed(row.standard_error, 2),
            fixed(row.discrete, 2),
        )
    return table


def win_rate_remarks(found: WinRates) -> Iterator[str]:
    """What the table does not say."""
    from palmette.numbers import count, fixed

    yield f"In percent of {count(max(row.items + row.unread for row in found.rows), 'item')}, against " + (
        f"{found.reference}." if found.reference else "one reference."
    )
    for row in found.rows:
        if row.unread:
            yield f"Unread and left out of the win rate of {row.model}: {count(row.unread, 'verdict')}."
    if found.control is None:
        yield "Without the outputs there are no win rates at equal length."
        return
    gained = found.control.mean_slope * math.tanh(1.0)  # as `length_control` models it
    yield (
        "The odds that an output is preferred change by a factor of "
        f"{fixed(math.exp(gained), 2)} if it is longer by one standard deviation."
    )
    far = [row.model for row in found.rows if row.controlled is not None and row.controlled.win_rate is None]
    if far:
        yield f"Too few outputs are about as long as the reference's for a win rate at equal length: {', '.join(far)}."
    if len(found.rows) == 1:
        yield "One model alone says little about what length is worth. Give those of several."
