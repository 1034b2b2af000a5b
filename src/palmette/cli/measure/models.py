"""`palmette models`: models beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import (
    MODEL,
    PATH,
    QUESTIONS,
    SOURCES,
    DataOption,
    LimitOption,
    LimitQuestionsOption,
    OutOption,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from collections.abc import Mapping

    from palmette.cli.tables import TextTable

ModelsArgument = Annotated[
    list[str],
    typer.Argument(help="Run folders, model folders, GGUF files, or hub ids. Two or more.", **MODEL),
]
DTypeOption = Annotated[
    Literal["auto", "bfloat16", "float32"] | None,
    typer.Option(
        "--dtype", help="Data type of all models. By default that of a run, or auto: what this machine is fast at."
    ),
]
ChoiceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--choice",
        metavar="TASK",
        help="A multiple-choice benchmark, such as hellaswag, or TASK=FILE for items in a file. It may be given "
        "several times.",
    ),
]
TextOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--text",
        help="A text of your own that the models read too: a text, Markdown, HTML, PDF or Word file. Its first 2,000 "
        "characters count. It may be given several times.",
        **PATH,
    ),
]
LimitItemsOption = Annotated[
    int | None,
    typer.Option("--limit-items", min=1, metavar="N", help="Use only the first N items of each benchmark."),
]


def compare(
    models: ModelsArgument,
    out: OutOption,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="A part to leave out, to save time: weights, replies, reading or task. It may be given several times.",
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help=f"Questions with known answers, for the part `task`: {SOURCES}.", **QUESTIONS)
    ] = "builtin:test",
    limit: LimitOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON Lines of prompts, with `raw`, `chat` or both. By default six built-in ones.", **PATH),
    ] = None,
    text: TextOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply to a prompt, in tokens.")] = 40,
    choice: ChoiceOption = None,
    limit_items: LimitItemsOption = None,
    dtype: DTypeOption = None,
) -> None:
    """Show what models are made of, how they read, what they say and what they cost.

    Each model is compared with the first one. The folder gets comparison.html and comparison.json. Models are loaded
    one after the other.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.run import check_absent
    from palmette.startup import quick_imports

    check_absent(out)
    with quick_imports(freeze=True):
        from palmette.studies.models.benchmarks import read_benchmarks
        from palmette.studies.models.compare import PAGE, CompareSettings, write_compared
        from palmette.studies.models.texts import default_prompts, own_texts, read_prompts, shared_texts

    settings = CompareSettings(
        skip=tuple(skip or ()),
        data=data,
        limit_documents=limit,
        max_new_tokens=max_new_tokens,
        prompts=default_prompts() if prompts is None else read_prompts(prompts),
        texts=(*own_texts(text or ()), *shared_texts()),
        dtype=dtype,
        benchmarks=read_benchmarks(choice or (), limit_items),
    )
    news = stderr()
    record = write_compared(out, models, settings, news.print)
    stdout().print(overview(record))
    for note in record["notes"]:
        news.print(note)
    news.print(f"The page is {out / PAGE}")


def rank(
    models: ModelsArgument,
    data: DataOption,
    out: OutOption,
    limit: LimitOption = None,
    limit_questions: LimitQuestionsOption = None,
    dtype: DTypeOption = None,
) -> None:
    """Rank models on your own data by quality, speed, memory and size.

    Differences are tested on the same questions, by document, with a correction for their number. The folder gets
    ranking.html and ranking.json.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.run import check_absent
    from palmette.startup import quick_imports

    check_absent(out)
    with quick_imports(freeze=True):
        from palmette.pages.model_ranking import conclusion
        from palmette.studies.models.rank import PAGE, RankSettings, write_ranked

    news = stderr()
    record = write_ranked(out, models, data, RankSettings(limit, limit_questions, dtype), news.print)
    ranking, pairs = ranking_tables(record)
    stdout().print(ranking, "", pairs, "")
    stdout().print(conclusion(record))
    news.print(f"The page is {out / PAGE}")


def ranking_tables(record: Mapping[str, Any]) -> tuple[TextTable, TextTable]:
    """The models of a ranking, the best first, and the differences between every two of them."""
    from palmette.cli.console import plain_table
    from palmette.pages.model_ranking import pair_rows, ranking_rows

    ranking = plain_table("model", "EM, %", "F1, %", "questions a second", "memory", "measured", "disk")
    ranking.add_column("licence")
    ranking.add_column("on the front")
    for row in ranking_rows(record["models"]):
        ranking.add_row(*row.values())
    pairs = plain_table("difference in EM", "points", "95 % interval", "p, corrected")
    pairs.add_column("what it says")
    for row in pair_rows(record["pairs"]):
        pairs.add_row(*row.values())
    return ranking, pairs


def overview(record: Mapping[str, Any]) -> TextTable:
    """The models of a comparison in a few figures."""
    from palmette.cli.console import plain_table
    from palmette.numbers import NONE, fixed, readable, with_interval
    from palmette.pages.model_comparison import benchmark_rows

    table = plain_table(
        "model", "million parameters", "vocabulary", "EM, %", "questions a second", "tokens written a second"
    )
    benchmarks = list(benchmark_rows(record["models"]))
    for row in benchmarks:
        table.add_column(row["name"], justify="right")
    for index, model in enumerate(record["models"]):
        task = model.get("task")
        exact = NONE if task is None else with_interval(task["exact"], task["intervals"].get("exact"))
        table.add_row(
            model["name"],
            readable(model["configuration"]["num_parameters"] / 1e6),
            f"{model['tokenizer']['size']:,}",
            exact,
            fixed(model["speed"].get("questions")),
            fixed(model["speed"].get("written")),
            *(row["cells"][index] for row in benchmarks),
        )
    return table
