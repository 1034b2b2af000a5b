"""What commands that serve pages have in common: who may come in, where the server listens, and its links."""

from __future__ import annotations

import contextlib
import getpass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # commands import what they need when they run
    import socket

    from palmette.web.gate import Gate
    from palmette.web.sessions import Sessions

PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen at. 0 takes any that is free.")
]


def login() -> str:
    """The name of the user of this machine, for the events."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "me"


def serve_pages(app: Gate, sessions: Sessions, opened: socket.socket, host: str, what: str, where: str) -> None:
    """Print a link for each person, and serve the application until Ctrl-C.

    Args:
        app: the application.
        sessions: the tokens of the people.
        opened: the socket that listens.
        host: the address that it listens at.
        what: what people give, for the messages: "Verdicts".
        where: the file or the URL of the store that keeps it. A password is not shown.
    """
    from palmette.cli.console import stderr
    from palmette.hosts import is_loopback
    from palmette.inference.excerpt import printable
    from palmette.store.engine import describe
    from palmette.web.serving import known_names, link, run_application

    news, kept = stderr(), f"{what} are kept in {describe(where)}."
    news.print(printable(f"{kept} Ctrl-C ends the server."))
    if not is_loopback(host):
        news.print("The connection is not encrypted. Use it in a network that you trust, or through a tunnel.")
    for name, token in sessions.tokens.items():
        typer.echo(f"{printable(name)}: {link(known_names(host)[0], opened.getsockname()[1], token)}")
    run_application(app, opened)
    news.print(printable(f"Stopped. {kept}"))
