"""`palmette data show` and `palmette data export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.options import DATA, DEFAULT_MODEL, MODEL, PATH

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.check import Report
    from palmette.tasks.qa_prompt import QaPrompt

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="A data file, the folder of an arena, builtin:train, or a data set of the Hugging Face hub.", **DATA
    ),
]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OURS=THEIRS",
        help="A column that the data call otherwise, such as prompt=question. May be repeated. In a recipe: "
        "data.columns.",
    ),
]


_KEPT = "\n\t"  # of control characters


def _columns(given: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in given or []]
    if any(not ours or not theirs for ours, _, theirs in pairs):
        raise typer.BadParameter("write --rename OURS=THEIRS, such as --rename prompt=question")
    return {ours: theirs for ours, _, theirs in pairs}


def show(
    source: SourceArgument,
    number: Annotated[int, typer.Option("--records", min=1, help="How many records to show.")] = 2,
    width: Annotated[int, typer.Option(min=20, help="Most characters of a text.")] = 300,
    rename: RenameOption = None,
) -> None:
    """Print what a data file is understood as: its form, and its first records.

    Texts whose name stands in brackets are given and not learned. To check all records: palmette data check.
    """
    from palmette.arena.source import open_votes
    from palmette.cli.console import stdout
    from palmette.data.showing import show_data
    from palmette.inference.excerpt import printable

    shown = show_data(source, number, _columns(rename), open_votes(source))
    out = stdout()
    out.print(f"{source}: {shown.kind}", markup=False)
    out.print(f"form: {shown.form}", markup=False)
    if shown.counted:
        out.print(shown.counted, markup=False)
    if shown.unused:
        out.print(f"columns that are not used: {printable(', '.join(shown.unused))}", markup=False)
    for index, record in enumerate(shown.records, 1):
        out.print(f"\nrecord {index}", style="bold")
        for name, text in record:
            cut = text if len(text) <= width else f"{text[:width]} ... ({len(text):,} characters)"
            out.print(f"  {printable(name)}: {printable(cut, keep=_KEPT)}", markup=False)
    out.print(f"\n{shown.uses}", style="dim", markup=False)


def export(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", help="The .jsonl to write. It must not exist.", **PATH)],
    form: Annotated[
        Literal["trl", "openai", "tokens"],
        typer.Option("--format", help="TRL's rows, OpenAI's fine-tuning rows, or tokens with labels and weights."),
    ] = "trl",
    rename: RenameOption = None,
    prompt: Annotated[
        str, typer.Option(help="The prompt of questions about documents. `palmette prompts` lists them.")
    ] = "plain",
    model: Annotated[
        str | None, typer.Option(help="With --format tokens, the model whose tokenizer and template count.", **MODEL)
    ] = None,
) -> None:
    """Write data as the rows of other trainers, with what is learned of them.

    Questions about documents become rows of prompt and completion, of which the completion is learned, and texts rows
    of text. With --format tokens every token has its weight, as palmette learns it.
    """

    from palmette.arena.source import open_votes
    from palmette.cli.console import command_line, stderr
    from palmette.data.check import check_data
    from palmette.errors import DataError
    from palmette.run import check_absent, write_json_lines
    from palmette.tasks.qa_prompt import load_prompt

    check_absent(out)
    report = check_data(source, opened=open_votes(source), names=_columns(rename))
    if report.problems:
        raise DataError(report.problems[0].shown[0], f"Correct it: {command_line('data', 'check', source)}")
    if not report.records and not report.texts:
        raise DataError(f"{source} holds {report.holds}, which no other trainer takes", report.uses)
    asked = load_prompt(prompt)
    rows, rounded = _token_rows(report, asked, model) if form == "tokens" else _text_rows(report, form, asked)
    write_json_lines(out, rows)
    lost = f". In {rounded:,} of them weights were rounded up to 1: --format tokens keeps them" if rounded else ""
    stderr().print(f"{len(rows):,} rows in {out}{lost}", markup=False)


def _text_rows(report: Report, form: Literal["trl", "openai"], prompt: QaPrompt) -> tuple[list[dict[str, Any]], int]:
    from palmette.tasks.export import plain_rows, text_rows

    made = [*text_rows(report.records, form, prompt), *plain_rows(report.texts, form)]
    return [one.row for one in made], sum(one.rounded for one in made)


def _token_rows(report: Report, prompt: QaPrompt, model: str | None) -> tuple[list[dict[str, Any]], int]:
    from palmette.startup import quick_imports

    with quick_imports():
        from palmette.inference.data_export import token_rows_of
    return token_rows_of(report, prompt, model or DEFAULT_MODEL), 0
