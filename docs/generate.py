"""Writes from the code itself: the generated pages of docs/reference, docs/tree.svg (a packed tree and its mask),
docs/imports.svg, and the example of docs/explanation/one-datum.md.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from palmette.cli.main import app
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

HERE = Path(__file__).parent
TRUNK, PLACEHOLDER, QUESTION, ANSWER = "#dfe7d8", "#f0ece0", "#b9cfe0", "#3b6b2e"


def commands() -> str:
    """The help of every command, as Markdown. Hidden commands and options are left out."""
    lines = ["# Commands", "", "Every command and option. This page is written by `make docs` from the code.", ""]

    def describe(command: Any, words: list[str]) -> None:
        lines.extend([f"## {' '.join(words)}", "", (command.help or "").strip(), ""])
        _parameters(command, lines)
        for name, child in sorted(getattr(command, "commands", {}).items()):
            if not child.hidden:
                describe(child, [*words, name])

    describe(typer.main.get_command(app), ["palmette"])
    return "\n".join(lines).rstrip() + "\n"


def _parameters(command: Any, lines: list[str]) -> None:
    """A table of a command's parameters, if it has any."""
    if not command.params:
        return
    lines.extend(["| parameter | default | |", "|---|---|---|"])
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        argument = parameter.param_type_name == "argument"
        options = sorted([*parameter.opts, *parameter.secondary_opts])
        name = str(parameter.name).upper() if argument else ", ".join(options)
        plain = parameter.default is None or parameter.default is False
        default = "required" if parameter.required else "" if plain else parameter.default
        lines.append(f"| `{name}` | {default} | {getattr(parameter, 'help', '') or ''} |")
    lines.append("")


def example() -> tuple[PrefixTree, list[str]]:
    """A small tree, and a word for each of its tokens in row order."""
    words = ["The", "light", "was", "lit", "in", "1882", "...", "When?", "1882", "Lit", "by", "whom?", "?"]
    ids = iter(range(len(words)))

    def part(count: int, **masks: float) -> Segment:
        return Segment(tuple(next(ids) for _ in range(count)), **masks)  # type: ignore[arg-type]

    trunk = (part(6), part(1, attend=False))
    first = Node((part(1), part(1, learn=1.0)))
    second = Node((part(3), part(1, learn=1.0)))
    return PrefixTree(Node(trunk, (first, second))), words


def picture() -> bytes:
    """The tree beside its packed row and attention mask."""
    mpl.rcParams["svg.hashsalt"] = "palmette"
    tree, words = example()
    batch = PackedBatch.from_trees([[tree]])
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_tree(left, batch, words)
    _draw_mask(right, batch, words)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _color(batch: PackedBatch, index: int) -> str:
    row = batch.rows[0]
    if row.learn[index]:
        return ANSWER
    if not row.attend[index]:
        return PLACEHOLDER
    return TRUNK if row.parents[row.node[index]] < 0 else QUESTION


def _draw_tree(axes: Axes, batch: PackedBatch, words: list[str]) -> None:
    row = batch.rows[0]
    lane = {0: 0.0, 1: 1.0, 2: -1.0}
    for index, word in enumerate(words):
        x, y = row.position[index], lane[row.node[index]]
        box = FancyBboxPatch((x + 0.06, y - 0.28), 0.88, 0.56, boxstyle="round,pad=0,rounding_size=0.1", lw=0)
        box.set_facecolor(_color(batch, index))
        axes.add_patch(box)
        ink = "white" if row.learn[index] else "#999" if not row.attend[index] else "#222"
        axes.text(x + 0.5, y, word, ha="center", va="center", color=ink, fontsize=9)
        above = row.predictor[index]
        if above >= 0 and row.node[above] != row.node[index]:
            axes.plot([row.position[above] + 0.94, x + 0.06], [lane[row.node[above]], y], color="#999", lw=1, zorder=0)
    for position in range(max(row.position) + 1):
        axes.text(position + 0.5, -1.75, str(position), ha="center", color="#777", fontsize=8)
    axes.text(0, -2.15, "position: depth along the branch", color="#777", fontsize=8)
    axes.set(xlim=(-0.2, max(row.position) + 1.2), ylim=(-2.4, 1.9))
    legend = ((TRUNK, "shared"), (PLACEHOLDER, "attend = no"), (QUESTION, "branch"), (ANSWER, "learned"))
    for offset, (color, meaning) in enumerate(legend):
        axes.add_patch(Rectangle((offset * 2.6, 1.55), 0.3, 0.22, color=color, lw=0))
        axes.text(offset * 2.6 + 0.4, 1.66, meaning, va="center", fontsize=8)
    axes.set_axis_off()


def _draw_mask(axes: Axes, batch: PackedBatch, words: list[str]) -> None:
    count = len(words)
    mask = batch.may_attend_BTT()[0, :count, :count]
    for i in range(count):
        for j in range(count):
            color = _color(batch, i) if mask[i, j] else "#f7f7f7"
            axes.add_patch(Rectangle((j, count - 1 - i), 0.94, 0.94, color=color, lw=0))
        axes.text(-0.3, count - 0.5 - i, words[i], ha="right", va="center", fontsize=8)
    axes.set(xlim=(-2.2, count), ylim=(-0.2, count + 0.8))
    axes.text(0, count + 0.3, "each row: what this token may look at", fontsize=8, color="#777")
    axes.set_aspect("equal")
    axes.set_axis_off()


def main() -> None:
    """Write all of them."""
    from api import python_api
    from http_api import http_api
    from import_graph import picture as imports
    from one_datum import main as write_example
    from recipe_reference import recipes
    from source_tree import source_tree

    reference = HERE / "reference"
    pages = {
        "commands": commands,
        "http-api": http_api,
        "recipes": recipes,
        "python-api": python_api,
        "source-tree": source_tree,
    }
    for name, page in pages.items():
        (reference / f"{name}.md").write_text(page(), encoding="utf-8")
    (HERE / "tree.svg").write_bytes(picture())
    (HERE / "imports.svg").write_text(imports(), encoding="utf-8")
    write_example()


if __name__ == "__main__":
    main()
