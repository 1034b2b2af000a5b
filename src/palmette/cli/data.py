"""`palmette data check` and `palmette examples`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import DATA, PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.padding import Padding

    from palmette.data.check import Report

StageName = Literal["sft", "reward", "dpo", "kto", "grpo", "ppo"]


def check(
    source: Annotated[
        str,
        typer.Argument(help="A data file, builtin:train, or a data set of the Hugging Face hub.", **DATA),
    ],
    stage: Annotated[
        StageName | None, typer.Option("--stage", help="Also check that this training stage can learn from the data.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Say what a data file holds, and what is wrong with it.

    Every record is read and checked, and no model is loaded. The exit code is 0 if nothing is wrong, and 1 if something
    is.
    """
    from dataclasses import asdict

    from palmette.cli.console import print_json
    from palmette.data.check import check_data
    from palmette.train.stages import STAGES

    report = check_data(source, STAGES[stage].data_kinds if stage is not None else ())
    if as_json:
        print_json(asdict(report))
    else:
        _print_report(report)
    if report.problems:
        raise typer.Exit(1)


def _print_report(report: Report) -> None:
    from rich.text import Text

    from palmette.cli.console import stdout

    console = stdout()
    console.print(Text.assemble((report.source, "bold"), f": {report.holds}"))
    console.print(_indented(report.uses, 2, below=1))
    width = max((len(name) for name, _ in report.facts), default=0)
    console.print(_indented("\n".join(f"{name:{width}}  {value}" for name, value in report.facts), 2, below=1))
    if not report.problems:
        console.print("Nothing is wrong.", style="green")
        return
    total = report.num_problems
    console.print(f"{total} {'problem' if total == 1 else 'problems'}:", style="bold red")
    for one in report.problems:
        console.print()
        for line in one.shown:
            console.print(_indented(f"- {line}", 2))
        if one.count > len(one.shown):
            console.print(_indented(f"and {one.count - len(one.shown)} more like these", 4), style="dim")
        console.print(_indented(one.way_out, 4), style="cyan")


def _indented(what: Any, left: int, below: int = 0) -> Padding:
    from rich.padding import Padding

    return Padding(what, (0, 0, below, left), expand=False)


def examples(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write the files into. Files in it are not replaced.", **PATH)
    ] = Path("examples"),
) -> None:
    """Write small example files for every command.

    The files are a contract with questions and answers, questions in a table, conversations, preferences, verdicts, and
    a recipe for each training stage. README.txt among them says which command takes which.
    """
    from palmette.data.example_files import write_examples

    for path in write_examples(folder):
        typer.echo(path)
