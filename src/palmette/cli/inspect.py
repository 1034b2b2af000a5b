"""`palmette inspect`: a packed example in the terminal, as the loss sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from palmette import run
from palmette.cli.show import stdout
from palmette.config import ModelSection, Recipe, load_recipe
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.model.loading import load_tokenizer
from palmette.train.sft import recipe_task
from palmette.tree.batch import PackedBatch

LEARNED, SEEN, HIDDEN = "black on green", "", "strike dim"


def run_inspect(model: str, data: str | None, document: int, questions: int, *, table: bool) -> None:
    """Print one document with some of its questions, packed."""
    folder = Path(model).expanduser()
    is_run = run.is_run(folder)
    recipe = load_recipe(folder / run.RECIPE) if is_run else Recipe(output="", model=ModelSection(name=model))
    data = data or recipe.data.train[0]
    documents = read_source(data).documents
    if document >= len(documents):
        raise DataError(f"{data} has {len(documents)} documents, no number {document}", "Count from 0.")
    settings = recipe.model
    tokenizer = load_tokenizer(settings.name, revision=settings.revision, trust_remote_code=settings.trust_remote_code)
    task = recipe_task(recipe, tokenizer)
    chosen = replace(documents[document], questions=documents[document].questions[:questions])
    batch = PackedBatch.from_trees([[task.training_tree(chosen)]])
    console = stdout()
    console.print(_legend())
    brackets = console.color_system is None
    console.print(token_table(batch, tokenizer) if table else colored_text(batch, tokenizer, brackets=brackets))
    console.print(_counts(batch), style="dim")


def token_style(learn: float, attend: bool) -> str:
    """How a token is drawn: learned ones on green, those that later tokens may not look at struck out."""
    return " ".join(style for style in (LEARNED if learn else SEEN, "" if attend else HIDDEN) if style)


def colored_text(batch: PackedBatch, tokenizer: Any, *, brackets: bool = False) -> Text:
    """Every node as a paragraph that begins where its parent ends, every token in the style of its masks.

    With `brackets` (where there are no colours) learned tokens stand between » and «, hidden ones between ( and ).
    """
    row, shown, current = batch.rows[0], Text(), -1
    for index, token in enumerate(row.token):
        if row.node[index] != current:
            current = row.node[index]
            name = row.nodes[current][1] or row.nodes[current][0]
            shown.append(f"\n\n{'trunk' if row.parents[current] < 0 else 'branch'} {name}", "bold")
            shown.append(f", from position {row.position[index]}\n", "dim")
        text = str(tokenizer.decode([token]))
        if brackets:
            text = f"»{text}«" if row.learn[index] else text
            text = text if row.attend[index] else f"({text})"
        shown.append(text, token_style(row.learn[index], row.attend[index]))
    return shown


def token_table(batch: PackedBatch, tokenizer: Any) -> Table:
    """One line a token."""
    row = batch.rows[0]
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("row", "position", "branch", "predictor", "end", "attend", "learn"):
        table.add_column(heading, justify="left" if heading == "branch" else "right", no_wrap=True)
    table.add_column("token", overflow="fold")
    for i, token in enumerate(row.token):
        node = row.node[i]
        branch = "trunk" if row.parents[node] < 0 else row.nodes[node][1]
        numbers = (
            str(row.predictor[i]),
            str(row.subtree_end[i]),
            "yes" if row.attend[i] else "no",
            f"{row.learn[i]:g}",
        )
        text = Text(repr(tokenizer.decode([token])), token_style(row.learn[i], row.attend[i]))
        table.add_row(str(i), str(row.position[i]), Text(branch), *numbers, text)
    return table


def _legend() -> Text:
    legend = Text()
    for style, meaning in ((LEARNED, "learned"), (SEEN, "read, not learned"), (HIDDEN, "hidden from later tokens")):
        legend.append(f" {meaning} ", style).append("  ")
    return legend


def _counts(batch: PackedBatch) -> str:
    row = batch.rows[0]
    alone = sum(
        1 + max(p for p, n in zip(row.position, row.node, strict=True) if n == leaf)
        for leaf in sorted(set(range(len(row.nodes))) - set(row.parents))
    )
    learned = sum(1 for weight in row.learn if weight)
    return f"\n{len(row)} tokens packed, {alone} with one question a row; {learned} learned, deepest position {batch.max_position}"
