"""`palmette prompts`, with `try` and `search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.endpoint import CacheOption, open_client, read_endpoint, reporting_usage
from palmette.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    PATH,
    QUESTIONS,
    DataOption,
    LimitQuestionsOption,
    ModelOption,
    OutOption,
    SeedOption,
    expanded,
)
from palmette.endpoint.settings import Endpoint

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.pages.prompt_search import PromptSearch
    from palmette.pages.prompt_trial import FinalCheck, TriedPrompt

TrialDecoderOption = Annotated[
    Literal["greedy", "span"],
    typer.Option("--decoder", help="Plain generation, which shows whether the format is kept, or the span decoder."),
]
FinalOption = Annotated[
    str | None,
    typer.Option(
        "--final", help="Questions about other documents, for a last check that no choice has seen.", **QUESTIONS
    ),
]
CallsOption = Annotated[int, typer.Option("--calls", min=1, metavar="N", help="Most calls of the teacher.")]
AnswersOption = Annotated[
    int | None,
    typer.Option(
        "--answers", min=1, metavar="N", help="Most answers of the model in the search. By default only calls count."
    ),
]
PopulationOption = Annotated[
    int, typer.Option("--population", min=1, metavar="N", help="How many of the best prompts are varied in each round.")
]
FailuresOption = Annotated[
    int,
    typer.Option("--failures", min=0, metavar="N", help="How many wrongly answered questions the teacher is shown."),
]
InstructionWordsOption = Annotated[
    int, typer.Option("--max-words", min=1, metavar="N", help="Longest instruction, in words.")
]


def prompts(ctx: typer.Context) -> None:
    """List prompts, and compare them on the same questions."""
    if ctx.invoked_subcommand is None:
        prompts_list(None)


def prompts_list(
    name: Annotated[str | None, typer.Argument(help="Print this prompt's YAML file, to copy and change.")] = None,
) -> None:
    """List the prompts that a recipe can name."""
    from palmette.cli.console import plain_table, stdout
    from palmette.tasks.qa_prompt import describe_prompts, prompt_file

    console = stdout()
    if name is not None:
        console.print(prompt_file(name).rstrip("\n"), soft_wrap=True)
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
    final: FinalOption = None,
    decoder: TrialDecoderOption = "greedy",
    limit_questions: LimitQuestionsOption = None,
) -> None:
    """Put the same questions under several prompts, and say which differences are noise."""
    from palmette.cli.console import stderr, stdout
    from palmette.run import check_absent

    check_absent(out)
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
    console.print(_table(trial.prompts), "")
    console.print(trial.conclusion())
    if trial.final is not None:
        console.print(_final_line(trial.final, trial.prompts[0].name, trial.first))
    console.print(f"written: {out / PAGE}")


@expanded("teacher", read_endpoint, max_new_tokens=512, temperature=1.0)
def prompts_search(
    *,
    base: Annotated[
        str,
        typer.Argument(
            help="The prompt to begin with: a name of `palmette prompts list`, or a YAML file.",
            **{**MODEL, "metavar": "PROMPT"},
        ),
    ],
    data: DataOption,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the results. A search that was stopped goes on in its folder.", **PATH),
    ],
    model: ModelOption = DEFAULT_MODEL,
    final: FinalOption = None,
    teacher: Endpoint,
    calls: CallsOption = 20,
    answers: AnswersOption = None,
    population: PopulationOption = 4,
    failures: FailuresOption = 5,
    max_words: InstructionWordsOption = 200,
    decoder: TrialDecoderOption = "greedy",
    limit_questions: LimitQuestionsOption = None,
    seed: SeedOption = 0,
    cache: CacheOption = None,
) -> None:
    """Search for a better prompt with a teacher that writes variations.

    One half of the questions chooses, the other half confirms. The teacher is shown wrongly answered questions of the
    first half, without their documents.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.studies.prompts.search import KEPT, PAGE, SearchSettings, search_prompts
    from palmette.synth.prompt_variations import PromptTeacher

    client = open_client(teacher, cache, out)
    settings = SearchSettings(calls, answers, population, failures, decoder, limit_questions, seed)
    with reporting_usage(client):
        found = search_prompts(
            model,
            base,
            data,
            PromptTeacher(client, max_words),
            out=out,
            final=final,
            settings=settings,
            say=stderr().print,
        )
    console = stdout()
    console.print(_course_table(found), "")
    for reason, (number, meaning) in found.refused.items():
        console.print(f"refused, {reason}: {number} ({meaning})")
    console.print("the dev half:")
    console.print(_table(found.dev), "")
    console.print(found.conclusion())
    if found.final is not None:
        console.print(_final_line(found.final, found.chosen, found.base))
    console.print(f"{found.kept} is in {out / KEPT}\nwritten: {out / PAGE}")


def _final_line(check: FinalCheck, best: str, first: str) -> str:
    exact = {best: check.best.metrics["exact"], first: check.first.metrics["exact"]}
    return "final check: " + ", ".join(f"{name} {value:.1f} %" for name, value in exact.items()) + " exact match"


def _course_table(search: PromptSearch) -> TextTable:
    from palmette.cli.tables import TextTable
    from palmette.pages.prompt_search import course_row

    table = TextTable("prompt", "varies", "EM on the search half, %", "words", "")
    for one in search.prompts:
        table.add_row(*course_row(one, search).values())
    return table


def _table(prompts: Sequence[TriedPrompt]) -> TextTable:
    from palmette.cli.tables import TextTable
    from palmette.pages.prompt_trial import prompt_row

    table = TextTable("prompt", "EM, %", "95 % interval", "valid, %", "tokens", "to the best", "p", "verdict")
    for one in prompts:
        row = prompt_row(one)
        cells = ("name", "exact", "interval", "valid", "tokens", "difference", "p", "verdict")
        table.add_row(*(row[cell] for cell in cells))
    return table
