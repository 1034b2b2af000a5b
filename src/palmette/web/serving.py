"""Where the application listens, under which names it is known, and how it runs."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

import psutil
import uvicorn
from starlette.types import ASGIApp

from palmette.errors import DataError, RunError, reason_of
from palmette.hosts import is_loopback
from palmette.web.gate import Gate

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANY = ("0.0.0.0", "::")
_STOPPING = 3  # seconds that open connections get at the end
_LONGEST_NAME = 64


def check_people(names: Sequence[str], host: str, role: str) -> None:
    """Check the names of people before anything is loaded.

    Args:
        names: the names.
        host: the address to listen at.
        role: what they are, as the option calls them: "annotator".

    Raises:
        DataError: two have one name, a name cannot be shown on one line, or nobody is named and others can reach the
            server.
    """
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise DataError(
                f"{name!r} cannot be the name of a person", f"Give 1 to {_LONGEST_NAME} characters on one line."
            )
    if len(set(names)) < len(names):
        raise DataError(f"two {role}s have the same name", "Give each a name of their own.")
    if not names and not is_loopback(host):
        raise DataError(
            f"listening at {host} lets other machines in, and no {role} is named",
            f"Name each person with --{role} NAME, or leave out --host.",
        )


def known_names(host: str) -> list[str]:
    """The names and addresses under which browsers may ask a server that listens at an address, the best one first."""
    if is_loopback(host):
        return list(dict.fromkeys([host, *_LOOPBACK]))
    if host not in _ANY:
        return [host]
    addresses = [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family in (socket.AF_INET, socket.AF_INET6) and "%" not in address.address
    ]
    outside = sorted((one for one in addresses if not is_loopback(one)), key=lambda one: ":" in one)
    return list(dict.fromkeys([*outside, socket.gethostname().lower(), *_LOOPBACK]))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Port 0 takes any that is free.

    Raises:
        RunError: the address is not one of this machine, or the port is taken or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise RunError(
            f"{host!r} is no address: {reason_of(error)}", "Give --host an address of this machine."
        ) from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise RunError(f"port {port} is taken", "Give another --port. 0 takes any that is free.") from error
        if error.errno == errno.EACCES:
            raise RunError(f"you may not listen at port {port}", "Give a --port from 1024 on.") from error
        raise RunError(
            f"cannot listen at {host}: {reason_of(error)}", "Give --host an address of this machine."
        ) from error
    return opened


def link(name: str, port: int, token: str) -> str:
    """The link that lets somebody in.

    >>> link("::1", 8765, "abc")
    'http://[::1]:8765/#token=abc'
    """
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/#token={token}"


def run_application(app: Gate, opened: socket.socket) -> None:
    """Serve an application at a socket until Ctrl-C, or until the process is told to end."""
    with contextlib.suppress(KeyboardInterrupt):
        new_server(app, _STOPPING).run(sockets=[opened])


def new_server(app: ASGIApp, stopping: int) -> uvicorn.Server:
    """A server for an application.

    Args:
        app: the application.
        stopping: how many seconds open connections get at the end.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=stopping,
    )
    return uvicorn.Server(config)
