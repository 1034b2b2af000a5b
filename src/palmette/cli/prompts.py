"""`palmette prompts`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def prompts(name: Annotated[str | None, typer.Argument(help="Show this prompt in full.")] = None) -> None:
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
