"""`palmette data check` and `palmette examples`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import DATA, PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.padding import Padding

    from palmette.data.check import Report
    from palmette.inference.token_counts import TokenCounts

StageName = Literal["sft", "reward", "dpo", "kto", "grpo", "ppo", "pretrain", "mlm"]


def check(
    source: Annotated[
        str,
        typer.Argument(
            help="A data file, the folder of an arena, builtin:train, or a data set of the Hugging Face hub.", **DATA
        ),
    ],
    stage: Annotated[
        StageName | None, typer.Option("--stage", help="Also check that this training stage can learn from the data.")
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens/--no-tokens",
            help="Count tokens with the default model's tokenizer, if it is on this machine. No weights are loaded.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Say what a data file holds, and what is wrong with it.

    Every record is read and checked. The exit code is 0 if nothing is wrong, and 1 if something is.
    """
    from palmette.arena.source import open_votes
    from palmette.cli.console import print_json
    from palmette.data.check import check_data
    from palmette.train.stages import STAGES

    report = check_data(source, STAGES[stage].data_kinds if stage is not None else (), opened=open_votes(source))
    if not as_json:
        _print_report(report)
    counts = _counted(report) if tokens else None
    if as_json:
        print_json(_as_record(report, counts))
    elif counts is not None:
        _print_tokens(counts)
    if report.problems:
        raise typer.Exit(1)


def _counted(report: Report) -> TokenCounts | None:
    """The tokens of the good records. None if there are none, or no tokenizer is at hand."""
    from palmette.startup import quick_imports

    if not report.records:
        return None
    with quick_imports():
        from palmette.inference.token_counts import count_tokens
        from palmette.model.tokenizer import tokenizer_at_hand
    tokenizer = tokenizer_at_hand()
    return count_tokens(report.records, tokenizer) if tokenizer is not None else None


def _as_record(report: Report, counts: TokenCounts | None) -> dict[str, Any]:
    """A report as a JSON object, without the records themselves."""
    from dataclasses import asdict, replace

    record = asdict(replace(report, records=()))
    del record["records"]
    return {**record, "tokens": counts.as_record() if counts is not None else None}


def _print_report(report: Report) -> None:
    from rich.text import Text

    from palmette.cli.console import stdout

    console = stdout()
    console.print(Text.assemble((report.source, "bold"), f": {report.holds}"))
    console.print(_indented(report.uses, 2, below=1))
    console.print(_facts(report.facts))
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


def _print_tokens(counts: TokenCounts) -> None:
    from palmette.cli.console import stdout
    from palmette.model.embedded import DEFAULT_MODEL

    stdout().print(f"\nTokens, with the tokenizer of {DEFAULT_MODEL}:")
    stdout().print(_facts(counts.facts(), below=0))


def _facts(facts: Sequence[tuple[str, str]], below: int = 1) -> Padding:
    width = max((len(name) for name, _ in facts), default=0)
    return _indented("\n".join(f"{name:{width}}  {value}" for name, value in facts), 2, below)


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
