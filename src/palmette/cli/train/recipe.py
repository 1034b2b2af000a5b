"""`palmette recipe`."""

from __future__ import annotations

import shutil
import textwrap
from typing import Annotated

import typer


def recipe(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="The kind of recipe: a training stage such as sft, or sweep, or chain. Without it, they are listed.",
        ),
    ] = None,
) -> None:
    """Print a recipe with every key, its default and its meaning.

    A recipe is a YAML file that says what a run does. Write the template to a file, and change what you need:
    palmette recipe sft > my.yaml
    """
    from palmette.studies.templates import template_text, templates

    if kind is not None:
        typer.echo(template_text(kind), nl=False)
        return
    width = shutil.get_terminal_size().columns
    for one in templates().values():
        about = f"{one.about.partition('. ')[0].rstrip('.')}."
        typer.echo(textwrap.fill(about, width, initial_indent=f"  {one.name:<10}", subsequent_indent=" " * 12))
    typer.echo("Print one with: palmette recipe sft > my.yaml")
