"""A function run at a terminal of its own, as if a person typed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.processes import call

COLUMNS, ROWS = 80, 24
PATIENCE = 300.0  # seconds, on a machine that is very busy, until a test that waits in vain fails
_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07")


def typed(target: Callable[..., Any], args: Sequence[Any], keys: Sequence[tuple[str, str]]) -> tuple[Any, str]:
    """Run a function of a module in a process of its own, at a terminal of 80 columns.

    Args:
        target: the function.
        args: its arguments.
        keys: (text to wait for on the screen, keys to press then), one after another. Each wait begins where the one
            before it ended.

    Returns:
        What the function returned, and all that stood on the screen, without colours.

    Raises:
        AssertionError: the function raised something, or a text never came.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    screen: list[str] = []
    failed: list[str] = []
    done = threading.Event()

    def press() -> None:
        at = 0
        for text, pressed in keys:
            until = time.monotonic() + PATIENCE
            while (found := _plain(screen).find(text, at)) < 0:
                if time.monotonic() > until or done.is_set():
                    failed.append(f"{text!r} never came after {_plain(screen)[at:]!r}")
                    os.close(ours)  # the person hangs up, which ends the process
                    return
                _read(ours, screen)
            at = found + len(text)
            os.write(ours, pressed.encode())
        while not done.is_set():
            _read(ours, screen)

    person = threading.Thread(target=press)
    person.start()
    try:
        _, value = call(_at, os.ttyname(theirs), target, tuple(args))
    finally:
        done.set()
        person.join()
        os.close(theirs)
        if not failed:
            os.close(ours)
    assert not failed, failed
    return value, _plain(screen)


def _read(terminal: int, screen: list[str]) -> None:
    if select.select([terminal], [], [], 0.05)[0]:
        screen.append(os.read(terminal, 65536).decode("utf-8", "replace"))


def _plain(screen: Sequence[str]) -> str:
    return _SEQUENCES.sub("", "".join(screen)).replace("\r", "")


def _at(terminal: str, target: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Make a terminal that of this process, and call the function."""
    os.setsid()
    # A shell may have started the tests with these ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    opened = os.open(terminal, os.O_RDWR)
    for stream in range(3):
        os.dup2(opened, stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS))
    value = target(*args)
    sys.stdout.flush()
    return value
