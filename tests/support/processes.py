"""Processes that begin with the large libraries imported and nothing of palmette, so that many of them cost little."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torch", "transformers", "peft", "scipy.stats", "pydantic"])


def call(target: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    """Call a function of a module in a process of its own.

    Returns:
        The exit code, negative for a signal, and what the function returned: None where the process was killed.

    Raises:
        AssertionError: the function raised something.
    """
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_answer, args=(theirs, target, args))
    process.start()
    theirs.close()
    try:
        returned, value = ours.recv()
    except EOFError:
        returned, value = True, None
    process.join()
    assert returned, value
    return int(process.exitcode or 0), value


def _answer(pipe: Connection, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        pipe.send((True, target(*args)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def printed(code: str) -> str:
    """What a program prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, {"__name__": "__main__"})
    return output.getvalue().strip()
