"""`palmette sweep` and `palmette chain`: many runs made and measured together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable

Table = tuple[list[str], list[list[str]]]  # headings, lines


def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            help="The sweep, a YAML file: output, base, vary or cells, seeds, evaluate.", **{**PATH, "metavar": "FILE"}
        ),
    ],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try runs that failed again. By default they stay failed.")
    ] = False,
) -> None:
    """Train and measure a recipe under varied settings.

    The results are printed as one table. A sweep that was stopped continues with the same command. Several processes
    with the same sweep share its runs.
    """
    from palmette.cli.console import stderr
    from palmette.config.recipes import read_file
    from palmette.startup import quick_imports
    from palmette.train.stages import refuse_other_recipe

    # A file that cannot be read, or is for another command, is found before anything heavy is imported.
    refuse_other_recipe(read_file(file), str(file), "sweep")
    with quick_imports(freeze=True):
        from palmette.studies.sweep.runner import run_sweep
        from palmette.train.steps.callbacks import TrainingInterrupted

    news = stderr()
    try:
        result = run_sweep(file, news.print, retry_failed=retry_failed)
    except (TrainingInterrupted, KeyboardInterrupt) as stop:
        raise _stopped(stop, "sweep", file) from stop
    _print_tables(result.tables)
    for text in result.failures:
        news.print(text)
    total = len(result.outcomes)
    news.print(f"{total - result.num_failed} of {total} runs finished. The table is in {result.folder / 'sweep.md'}")
    if result.num_failed:
        raise typer.Exit(1)


def chain(
    recipe: Annotated[
        Path,
        typer.Argument(help="The chain, a YAML file: output, stages, seeds, evaluate.", **{**PATH, "metavar": "FILE"}),
    ],
) -> None:
    """Run training stages that build on one another.

    The stages may be fine-tuning, preferences, a reward model, DPO, KTO, PPO or GRPO. The results are printed as one
    table. A chain that was stopped continues with the same command. Several processes with the same chain share its
    seeds.
    """
    from palmette.cli.console import stderr
    from palmette.config.recipes import read_file
    from palmette.startup import quick_imports
    from palmette.train.stages import refuse_other_recipe

    # A file that cannot be read, or is for another command, is found before anything heavy is imported.
    refuse_other_recipe(read_file(recipe), str(recipe), "chain")
    with quick_imports(freeze=True):
        from palmette.studies.chain.runner import run_chain
        from palmette.train.steps.callbacks import TrainingInterrupted

    news = stderr()
    try:
        result = run_chain(recipe, news.print)
    except (TrainingInterrupted, KeyboardInterrupt) as stop:
        raise _stopped(stop, "chain", recipe) from stop
    _print_tables(result.tables)
    for text in [*result.failures, *result.refusals]:
        news.print(text)
    news.print(f"The table is in {result.page}")
    if result.failures:
        raise typer.Exit(1)


def _stopped(stop: BaseException, *words: str | Path) -> typer.Exit:
    """Say how to continue. The result is the exit after Ctrl-C or SIGTERM."""
    from palmette.cli.console import command_line, stderr

    stderr().print(f"Stopped. Continue with: {command_line(*words)}")
    return typer.Exit(getattr(stop, "exit_code", 130))


def _print_tables(tables: Sequence[Table]) -> None:
    from palmette.cli.console import stdout

    for headings, lines in tables:
        stdout().print(study_table(headings, lines), "")


def study_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> TextTable:
    """A table of a study for a terminal. The columns before its figures name the run, and are repeated if it is split.

    Args:
        headings: of a table from `studies.tables.tables_of`, or of one whose first column names the run.
        lines: the cells of each row.
    """
    from palmette.cli.tables import TextTable
    from palmette.studies.tables import SEEDS

    keys = headings.index(SEEDS) + 1 if SEEDS in headings else 1
    table = TextTable(headings[0], keys=keys)
    for index, heading in enumerate(headings[1:], 1):
        table.add_column(heading, justify="left" if index < keys else "right")
    for line in lines:
        table.add_row(*line)
    return table
