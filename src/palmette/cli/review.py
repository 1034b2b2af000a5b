"""`palmette review`: the page on which people judge a model's answers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from palmette.cli.options import DATA, SOURCES, ChosenModelOption, LimitOption, LimitQuestionsOption, SeedOption

Strategy = Literal["mixed", "uncertain", "margin", "random"]
_PACKAGES = ("alembic", "fastapi", "jinja2", "sqlalchemy", "uvicorn")


def check_web_packages() -> None:
    """Check that the packages of the extra `web` are installed.

    Raises:
        PalmetteError: some are missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        from palmette.errors import PalmetteError

        raise PalmetteError(
            f"the review page needs packages that are not installed: {', '.join(missing)}",
            'Install them: pip install "palmette[web]"',
        )


def review(
    context: typer.Context,
    model: ChosenModelOption = None,
    data: Annotated[str | None, typer.Option("--data", help=f"Questions to review: {SOURCES}.", **DATA)] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Review questions of the built-in corpus, with nothing prepared.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Where verdicts are kept: a file, or postgresql://USER@HOST/NAME. By default a file beside the run.",
            **{**DATA, "metavar": "STORE"},
        ),
    ] = None,
    annotator: Annotated[
        list[str] | None,
        typer.Option(
            "--annotator", help="Name of a person who judges. May be repeated. Each gets a link of their own."
        ),
    ] = None,
    strategy: Annotated[Strategy, typer.Option("--strategy", help="How the next question is chosen.")] = "mixed",
    overlap: Annotated[
        float, typer.Option("--overlap", min=0.0, max=1.0, help="Share of the questions that two people judge.")
    ] = 0.2,
    blind: Annotated[
        float,
        typer.Option("--blind", min=0.0, max=1.0, help="Share of the questions shown without the model's answer."),
    ] = 0.1,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at. Any but this machine's own needs --annotator.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen at. 0 takes any that is free.")
    ] = 8765,
    limit: LimitOption = None,
    limit_questions: LimitQuestionsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Judge a model's answers in the browser.

    The page shows a question, its document, the model's answer and the runners-up. Each verdict takes one key, and is
    kept before the next question is shown. Without a command, this opens the page.
    """
    if context.invoked_subcommand is not None:
        return
    check_web_packages()
