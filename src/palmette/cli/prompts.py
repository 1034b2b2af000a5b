"""`palmette prompts`, and `palmette prompts try`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import DATA, DEFAULT_MODEL, MODEL, DataOption, LimitQuestionsOption, ModelOption, OutOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.pages.prompt_trial import PromptTrial


def prompts(ctx: typer.Context) -> None:
    """List prompts, and compare them on the same questions."""
    if ctx.invoked_subcommand is None:
        prompts_list(None)


def prompts_list(name: Annotated[str | None, typer.Argument(help="Show this prompt in full.")] = None) -> None:
    """List the prompts that a recipe can name."""
    from rich.text import Text

    from palmette.cli.console import plain_table, stdout
    from palmette.tasks.qa_prompt import describe_prompts, load_prompt

    console = stdout()
    if name is not None:
        for key, text in asdict(load_prompt(name)).items():
            console.print(Text(key, "bold"))
            console.print(Text(f"{text}\n"))
        return
    table = plain_table("prompt")
    table.add_column("meaning")
    for prompt, about in describe_prompts():
        table.add_row(prompt, about)
    console.print(table)


def prompts_try(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Two or more prompts: names of `palmette prompts list`, or YAML files. The best one is checked "
            "against the first.",
            **{**MODEL, "metavar": "PROMPT"},
        ),
    ],
    data: DataOption,
    out: OutOption,
    model: ModelOption = DEFAULT_MODEL,
    final: Annotated[
        str | None,
        typer.Option(help="Questions about other documents, for a last check that no choice has seen.", **DATA),
    ] = None,
    decoder: Annotated[
        Literal["greedy", "span"],
        typer.Option(help="Plain generation, which shows whether the format is kept, or the span decoder."),
    ] = "greedy",
    limit_questions: LimitQuestionsOption = None,
) -> None:
    """Put the same questions under several prompts, and say which differences are noise."""
    from palmette.cli.console import stderr, stdout
    from palmette.studies.prompts.trial import PAGE, try_prompts

    trial = try_prompts(
        model,
        names,
        data,
        out=out,
        final=final,
        decoder=decoder,
        limit_questions=limit_questions,
        say=stderr().print,
    )
    console = stdout()
    console.print(_table(trial), "")
    console.print(trial.conclusion())
    if trial.final is not None:
        best, first = (one.metrics["exact"] for one in (trial.final.best, trial.final.first))
        console.print(f"final check: {trial.prompts[0].name} {best:.1f} %, {trial.first} {first:.1f} % exact match")
    console.print(f"written: {out / PAGE}")


def _table(trial: PromptTrial) -> TextTable:
    from palmette.cli.tables import TextTable
    from palmette.pages.prompt_trial import prompt_row

    table = TextTable("prompt", "EM, %", "95 % interval", "valid, %", "tokens", "to the best", "p", "verdict")
    for one in trial.prompts:
        row = prompt_row(one)
        cells = ("name", "exact", "interval", "valid", "tokens", "difference", "p", "verdict")
        table.add_row(*(row[cell] for cell in cells))
    return table
