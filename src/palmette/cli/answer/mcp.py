"""`palmette mcp`: documents read for assistants."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH, AttentionOption, ChosenModelOption
from palmette.cli.packages import check_packages

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.serving.reader import DocumentReader

FoldersOption = Annotated[
    list[Path],
    typer.Option(
        "--folder",
        help="A folder whose documents may be read, with all folders in it. May be given several times.",
        **PATH,
    ),
]
KeptTokensOption = Annotated[int, typer.Option("--kept-tokens", min=0, help="Tokens of documents that stay in memory.")]


def mcp(
    *,
    folder: FoldersOption,
    model: ChosenModelOption = None,
    kept_tokens: KeptTokensOption = 16_384,
    attention: AttentionOption = None,
) -> None:
    """Read documents for assistants, over the Model Context Protocol.

    Assistants start this command by themselves, and talk to it over standard input and output. It has tools that list
    the documents in the folders, answer questions about one, and read fields out of one. Answers are copied from the
    document, with places and probabilities. Files outside the folders are refused, and nothing is written.
    """
    check_packages("this server needs packages", "mcp", "mcp")
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.inference.names import resolve_answerer
    from palmette.mcp.folders import Folders
    from palmette.mcp.server import serve_stdio
    from palmette.startup import quick_imports

    allowed = Folders(folder)
    source = resolve_answerer(named_or_chosen(model, stderr()))

    def load() -> DocumentReader:
        with quick_imports(freeze=True):
            from palmette.inference.answerer import open_answerer
            from palmette.serving.reader import DocumentReader

        return DocumentReader(open_answerer(source, attention=attention), kept_tokens)

    with contextlib.suppress(KeyboardInterrupt):
        serve_stdio(load, allowed)
