"""`palmette eval choice`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.choice.settings import ChoiceSettings
from palmette.cli.options import DATA, DEFAULT_MODEL, PATH, AttentionOption, ModelOption, TokensPerBatchOption, expanded

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.choice.results import Result
    from palmette.cli.tables import TextTable

# Label and factor of each measure in the terminal.
_MEASURES = {
    "acc": ("accuracy (acc, %)", 100.0),
    "acc_norm": ("accuracy per character (acc_norm, %)", 100.0),
    "acc_bytes": ("accuracy per byte (acc_bytes, %)", 100.0),
    "acc_mutual_info": ("accuracy by mutual information (%)", 100.0),
    "brier": ("Brier score (0 is best)", 1.0),
}


def read_settings(
    *,
    data: Annotated[
        str | None,
        typer.Option(help="File with the items. By default the benchmark's data set on the hub.", **DATA),
    ] = None,
    rule: Annotated[
        Literal["lm-eval", "lighteval-cloze"],
        typer.Option(help="Whose contexts, choices and measures to use. Scores of different rules cannot be compared."),
    ] = "lm-eval",
    shots: Annotated[int, typer.Option(min=0, metavar="N", help="Examples with their answers before each item.")] = 0,
    shots_data: Annotated[
        str | None,
        typer.Option(help="File with the examples. By default another split of the data set on the hub.", **DATA),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw the examples at random with this seed. By default the first ones are taken."),
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template/--plain", help="Put each item into the model's chat template.")
    ] = False,
    mutual_info: Annotated[
        bool, typer.Option("--mutual-info", help="Also score each choice without its context. It takes longer.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N items.")] = None,
    keep_equal: Annotated[
        bool, typer.Option("--keep-equal", help="Allow items with two equal choices, of which the first one counts.")
    ] = False,
    tokens_per_batch: TokensPerBatchOption = 4096,
) -> ChoiceSettings:
    """How a benchmark is run. The options are listed only in this signature."""
    return ChoiceSettings(
        rule=rule,
        data=data,
        shots=shots,
        shots_data=shots_data,
        seed=seed,
        chat_template=chat_template,
        limit=limit,
        mutual_info=mutual_info,
        keep_equal=keep_equal,
        tokens_per_batch=tokens_per_batch,
    )


@expanded("settings", read_settings)
def eval_choice(
    *,
    task: Annotated[
        str,
        typer.Argument(
            help="The benchmark: hellaswag, openbookqa, winogrande, arc_easy, arc_challenge, piqa, mmlu, "
            "mmlu_continuation, commonsense_qa, sciq, boolq, choices (your own items), or a YAML file."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the results. A job that was stopped goes on in its folder.", **PATH),
    ],
    model: ModelOption = DEFAULT_MODEL,
    settings: ChoiceSettings,
    attention: AttentionOption = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"] | None,
        typer.Option(help="Data type of the model. By default that of the run, or auto."),
    ] = None,
) -> None:
    """Run a multiple-choice benchmark such as HellaSwag.

    The folder gets results.json, items.jsonl and report.html.
    """
    from palmette.choice.task import load_task
    from palmette.cli.console import stderr, stdout
    from palmette.inference.names import resolve_answerer
    from palmette.startup import quick_imports

    load_task(task).reader(settings.rule)
    resolve_answerer(model)
    with quick_imports(freeze=True):
        from palmette.choice.job import evaluate_choice
        from palmette.choice.results import REPORT
        from palmette.pages.choice import write_report

    news = stderr()
    try:
        result = evaluate_choice(task, model, out, settings, attention=attention, dtype=dtype, say=news.print)
    except KeyboardInterrupt:
        news.print(f"stopped. What was scored stays in {out}. The same command goes on.")
        raise typer.Exit(130) from None
    stdout().print(result_table(result))
    for line in remarks(result):
        news.print(line)
    write_report(out)
    news.print(f"Files in {out}. Open {out / REPORT}.")


def result_table(result: Result) -> TextTable:
    """The measures over all items, the one that the task is reported by first."""
    from palmette.cli.console import plain_table
    from palmette.numbers import count, fixed, interval

    settings = result.settings
    template = ", chat template" if settings["chat_template"] else ""
    items = count(len(result.outcomes), "item")
    heading = f"{settings['title']}, {items}, {settings['rule']}, {settings['shots']}-shot{template}"
    table = plain_table(heading, "value", "standard error", "95 % interval")
    for name in sorted(result.figures, key=lambda name: name != result.headline):
        label, factor = _MEASURES[name]
        one, places = result.figures[name], 1 if factor > 1 else 3
        ends = None if one.low is None or one.high is None else (factor * one.low, factor * one.high)
        stderr = None if one.stderr is None else factor * one.stderr
        table.add_row(label, fixed(factor * one.value, places), fixed(stderr, places + 1), interval(ends, places))
    return table


def remarks(result: Result) -> list[str]:
    """What the figures do not show."""
    from palmette.numbers import count, duration, rate

    lines = []
    if tied := result.ties.get(result.headline):
        lines.append(f"In {count(tied, 'item')} the best score is shared. The first choice counts there.")
    if merged := result.odd.get("merged"):
        lines.append(
            f"In {count(len(merged), 'item')} a token holds the end of the context and the beginning of a choice, "
            f"and is scored as the rule has it: {', '.join(merged[:5])}{' ...' if len(merged) > 5 else ''}"
        )
    if cut := result.odd.get("cut"):
        lines.append(f"{count(len(cut), 'item')} lost the beginning of the context: {', '.join(cut[:5])}")
    if result.seconds:
        pace = len(result.outcomes) / result.seconds
        lines.append(f"{count(len(result.outcomes), 'item')} in {duration(result.seconds)}, {rate(pace)}")
    return lines


def compare_benchmarks(first: Path, second: Path, show: int, page: Path | None) -> None:
    """Print two results of a benchmark side by side, and the items that only one of them has right.

    Args:
        first: the folder of A.
        second: the folder of B.
        show: how many items to print, each way.
        page: where to write a page of both, if anywhere.
    """
    from palmette.choice.compare import compare_results
    from palmette.choice.results import Result, read_texts
    from palmette.cli.console import plain_table, stderr, stdout
    from palmette.numbers import count
    from palmette.pages.choice import comparison_rows, write_comparison

    found = compare_results(Result.read(first), Result.read(second))
    settings, console = found.a.settings, stdout()
    items = count(len(found.a.outcomes), "item")
    console.print(f"A: {first}\nB: {second}\n{settings['title']}, {items}, {settings['rule']}\n")
    table = plain_table("measure", "A", "B", "B - A", "95 % interval")
    table.add_column("better")
    for row in comparison_rows(found):
        table.add_row(*(row[key] for key in ("name", "a", "b", "difference", "interval", "better")))
    console.print(table, "")
    for note in found.notes:
        console.print(note)
    console.print(f"right in B only: {len(found.only_b)}\nright in A only: {len(found.only_a)}")
    texts = read_texts(first)
    for name, pairs in (("B", found.only_b), ("A", found.only_a)):
        for a, b in pairs[:show]:
            context = texts[a.id].contexts[a.gold][-300:]
            taken = [one.choices[one.taken(found.a.headline)] for one in (a, b)]
            console.print(f"\nright in {name} only: {a.id}\n  {context}\n  A: {taken[0]}\n  B: {taken[1]}")
    if page is not None:
        write_comparison(page, found, texts, (str(first), str(second)))
        stderr().print(f"written: {page}")
