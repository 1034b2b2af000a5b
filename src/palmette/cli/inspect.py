"""`palmette inspect`: a packed example in the terminal, as the loss sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from palmette.cli.console import stdout
from palmette.config import Recipe
from palmette.data.chat import holds_chat, read_chat
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.inference.base import source_tokenizer
from palmette.inference.names import resolve_model
from palmette.inference.task import recipe_task
from palmette.tasks.chat import Chat, leading_turns
from palmette.tasks.extractive_qa import PAUSE
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree

LEARNED, WEIGHTED, SEEN, HIDDEN = "black on green", "black on yellow", "", "strike dim"


def run_inspect(model: str, data: str | None, document: int, questions: int, *, table: bool) -> None:
    """Print one document with some of its questions, packed; or a conversation, with some others that open alike."""
    source = resolve_model(model, finished=False)
    recipe = source.recipe or Recipe(output="")
    data = data or recipe.data.train[0]
    tokenizer = source_tokenizer(source)
    chat = _is_chat(data, recipe)
    tree = (_chat_tree if chat else _document_tree)(recipe, tokenizer, data, document, questions)
    batch = PackedBatch.from_trees([[tree]])
    console = stdout()
    console.print(_legend(batch))
    brackets = console.color_system is None
    console.print(token_table(batch, tokenizer) if table else colored_text(batch, tokenizer, brackets=brackets))
    console.print(_counts(batch, "conversation" if chat else "question"), style="dim")


def _is_chat(data: str, recipe: Recipe) -> bool:
    """Whether a source holds conversations: as the recipe says of its own, as its first row looks of another file."""
    if data not in recipe.data.train and (data.startswith("builtin:") or Path(data).suffix in {".json", ".jsonl"}):
        return holds_chat(data)
    return recipe.data.kind == "chat"


def _document_tree(recipe: Recipe, tokenizer: Any, data: str, number: int, questions: int) -> PrefixTree:
    documents = read_source(data).documents
    if number >= len(documents):
        raise DataError(f"{data} has {len(documents)} documents, no number {number}", "Count from 0.")
    chosen = replace(documents[number], questions=documents[number].questions[:questions])
    return recipe_task(recipe, tokenizer).training_tree(chosen)


def _chat_tree(recipe: Recipe, tokenizer: Any, data: str, number: int, conversations: int) -> PrefixTree:
    found = read_chat(data, on_bad_record=recipe.data.on_bad_record).conversations
    if number >= len(found):
        raise DataError(f"{data} has {len(found)} conversations, no number {number}", "Count from 0.")
    chosen = found[number]
    others = [other for other in found if other is not chosen and leading_turns(other) == leading_turns(chosen)]
    # Another recipe's kinds of tokens say nothing about conversations.
    learn = recipe.learn if recipe.data.kind == "chat" or isinstance(recipe.learn, str) else "assistant"
    return Chat(ChatTemplate(tokenizer), learn).trees([chosen, *others[: conversations - 1]])[0]


def token_style(learn: float, attend: bool) -> str:
    """How a token is drawn: learned ones on green, or on yellow if their weight is not 1; hidden from later tokens: struck out."""
    learned = (LEARNED if learn == 1.0 else WEIGHTED) if learn else SEEN
    return " ".join(style for style in (learned, "" if attend else HIDDEN) if style)


def colored_text(batch: PackedBatch, tokenizer: Any, *, brackets: bool = False) -> Text:
    """Every node as a paragraph that begins where its parent ends, every token in the style of its masks.

    With `brackets` (where there are no colours) learned tokens stand between » and «, hidden ones between ( and ). A weight that is
    neither 0 nor 1 stands after the last of the tokens that carry it.
    """
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
        goes_on = row.node[index + 1 : index + 2] == [current] and row.learn[index + 1] == row.learn[index]
        if row.learn[index] not in (0.0, 1.0) and not goes_on:
            shown.append(f"[{row.learn[index]:g}]", "dim")
    return shown


def spell(tokenizer: Any, token: int) -> str:
    """A token as text; pause tokens, which no tokenizer knows, by their name."""
    return PAUSE if token < 0 else str(tokenizer.decode([token]))


def token_table(batch: PackedBatch, tokenizer: Any) -> Table:
    """One line a token."""
    row = batch.rows[0]
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("row", "position", "branch", "predictor", "end", "attend", "learn"):
        table.add_column(heading, justify="left" if heading == "branch" else "right", no_wrap=True)
    table.add_column("token", overflow="fold")
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
    legend = Text()
    styles = [(LEARNED, "learned"), (SEEN, "read, not learned"), (HIDDEN, "hidden from later tokens")]
    if set(batch.rows[0].learn) - {0.0, 1.0}:
        styles.insert(1, (WEIGHTED, "learned with the weight that follows"))
    for style, meaning in styles:
        legend.append(f" {meaning} ", style).append("  ")
    return legend


def _counts(batch: PackedBatch, what: str) -> str:
    row = batch.rows[0]
    ends = [n for n in range(len(row.nodes)) if row.nodes[n][1] or n not in row.parents]
    alone = sum(1 + max(p for p, n in zip(row.position, row.node, strict=True) if n == end) for end in ends)
    learned = sum(1 for weight in row.learn if weight)
    return f"\n{len(row)} tokens packed, {alone} with one {what} a row; {learned} learned, deepest position {batch.max_position}"
