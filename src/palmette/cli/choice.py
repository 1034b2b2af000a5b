"""The model of a command that was given none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def named_or_chosen(name: str | None, news: Console) -> str:
    """The model that was named, or else the reader that comes with the package. Then a line says so.

    Args:
        name: the name, if one was given.
        news: where the line goes.
    """
    from palmette.inference.choice import choose_model
    from palmette.inference.excerpt import printable

    if name is not None:
        return name
    chosen = choose_model()
    news.print(printable(chosen.why), style="dim")
    return chosen.name
