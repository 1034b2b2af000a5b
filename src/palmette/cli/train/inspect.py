"""`palmette inspect`: a packed example in the terminal, as the loss sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from palmette.cli.options import DATA, DEFAULT_MODEL, SOURCES, ModelOption

if TYPE_CHECKING:  # commands import what they need when they run
    from rich.text import Text

    from palmette.cli.tables import TextTable
    from palmette.tree.batch import PackedBatch

LEARNED, WEIGHTED, SEEN, HIDDEN = "black on green", "black on yellow", "", "strike dim"


def inspect(
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Source of the example: {SOURCES}. By default the data of the run, or builtin:train.", **DATA
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    document: Annotated[int, typer.Option(min=1, help="Number of the document or conversation, counted from 1.")] = 1,
    limit_questions: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Show only the first N of its questions, or of the conversations that open like it.",
        ),
    ] = 3,
    table: Annotated[
        bool, typer.Option("--table", help="Print a line for each token: position, branch, predictor and masks.")
    ] = False,
) -> None:
    """Show a packed training example as the loss sees it.

    Each token is coloured by its learn and attend masks.
    """
    from palmette.cli.console import stdout
    from palmette.inference.example import training_example

    example = training_example(model, data, document, limit_questions)
    batch, tokenizer, console = example.batch, example.tokenizer, stdout()
    console.print(_legend(batch))
    brackets = console.color_system is None
    console.print(token_table(batch, tokenizer) if table else colored_text(batch, tokenizer, brackets=brackets))
    console.print(
        f"\n{len(batch.rows[0])} tokens packed, {example.num_unpacked} with one {example.kind} a row. "
        f"{example.num_learned} learned, deepest position {batch.max_position}",
        style="dim",
    )


def token_style(learn: float, attend: bool) -> str:
    """The style of a token: green if it is learned, yellow if its weight is not 1, struck out if it is hidden."""
    learned = (LEARNED if learn == 1.0 else WEIGHTED) if learn else SEEN
    return " ".join(style for style in (learned, "" if attend else HIDDEN) if style)


def colored_text(batch: PackedBatch, tokenizer: Any, *, brackets: bool = False) -> Text:
    """Every node as a paragraph, with every token in the style of its masks.

    With `brackets`, where there are no colours, learned tokens are between » and «, and hidden ones between ( and ). A
    weight that is neither 0 nor 1 follows the last of its tokens.
    """
    from rich.text import Text

    row, shown, current = batch.rows[0], Text(), -1
    for index, token in enumerate(row.token):
        if row.node[index] != current:
            current = row.node[index]
            tree, name = row.nodes[current]
            shown.append(f"\n\nbranch {name}" if name else f"\n\ntrunk {tree}", "bold")
            shown.append(f", from position {row.position[index]}\n", "dim")
        text = spell(tokenizer, token)
        if brackets:
            text = f"»{text}«" if row.learn[index] else text
            text = text if row.attend[index] else f"({text})"
        shown.append(text, token_style(row.learn[index], row.attend[index]))
        continues = row.node[index + 1 : index + 2] == [current] and row.learn[index + 1] == row.learn[index]
        if row.learn[index] not in (0.0, 1.0) and not continues:
            shown.append(f"[{row.learn[index]:g}]", "dim")
    return shown


def spell(tokenizer: Any, token: int) -> str:
    """A token as text. Pause tokens, which no tokenizer knows, are spelled by their name."""
    from palmette.tasks.extractive_qa import PAUSE

    return PAUSE if token < 0 else str(tokenizer.decode([token]))


def token_table(batch: PackedBatch, tokenizer: Any) -> TextTable:
    """A table with a line for each token."""
    from rich.text import Text

    from palmette.cli.tables import TextTable

    row = batch.rows[0]
    table = TextTable("row", "position")
    table.add_column("branch")
    for heading in ("predictor", "end", "attend", "learn"):
        table.add_column(heading, justify="right")
    table.add_column("token")
    for i, token in enumerate(row.token):
        node = row.node[i]
        branch = row.nodes[node][1] or "trunk"
        numbers = (
            str(row.predictor[i]),
            str(row.subtree_end[i]),
            "yes" if row.attend[i] else "no",
            f"{row.learn[i]:g}",
        )
        text = Text(repr(spell(tokenizer, token)), token_style(row.learn[i], row.attend[i]))
        table.add_row(str(i), str(row.position[i]), Text(branch), *numbers, text)
    return table


def _legend(batch: PackedBatch) -> Text:
    from rich.text import Text

    legend = Text()
    styles = [(LEARNED, "learned"), (SEEN, "read, not learned"), (HIDDEN, "hidden from later tokens")]
    if set(batch.rows[0].learn) - {0.0, 1.0}:
        styles.insert(1, (WEIGHTED, "learned with the weight that follows"))
    for style, meaning in styles:
        legend.append(f" {meaning} ", style).append("  ")
    return legend
