"""How a command ends when something fails: a line with a way out on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable

from palmette.errors import AnotherFailed, PalmetteError, reason_of

MISTAKE, BROKEN_PIPE, INTERRUPTED = 2, 1, 130  # exit codes

_FREE_SPACE = "Free some space, or write to another disk."
_PERMISSIONS = "Check who may read and write there."
_WAYS_OUT = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: _PERMISSIONS,
    errno.ENOENT: "Check the path.",
    errno.ENAMETOOLONG: "Check the path.",
    errno.EISDIR: "Name a file.",
    errno.ENOTDIR: "Check the path.",
    errno.EMFILE: "Allow more open files: ulimit -n 4096.",
}
_NO_HOME = "Set HOME to a folder that can be written."


def run_command(command: Callable[[], object]) -> int:
    """Run a command, and turn whatever a user's system can cause into one line on standard error.

    Characters that the encoding of standard output lacks are written as escapes such as `\\u0142`, so that finished
    work is not lost. Any other exception is a bug, and keeps its traceback.

    Args:
        command: the command, which may end in SystemExit.

    Returns:
        The exit code: 0, the command's own, 2 for a mistake or a failure of the system, 1 where the reader of standard
        output is gone, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and _may_fail(sys.stdout):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _note_of_loading():
            code = _exit_code(command)
        if sys.stdout is not None:
            sys.stdout.flush()  # at the latest here, so that a full disk is not passed over
        return code
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except Exception as error:
        if isinstance(error, AnotherFailed):
            from palmette.processes import is_main

            if not is_main():
                return MISTAKE  # process 0 says it
        line = failure_line(error)
        if line is None:
            raise
        return _end(line, MISTAKE)


def _may_fail(stream: io.TextIOWrapper) -> bool:
    """Whether a character can stop what is written. In the C locale only bytes that are no text pass (PEP 383)."""
    return stream.errors == "strict" or (stream.errors == "surrogateescape" and stream.encoding.lower() != "utf-8")


def failure_line(error: Exception) -> str | None:
    """What a user reads about an error, with a way out. None for an error that only a bug can cause.

    >>> failure_line(OSError(errno.ENOSPC, "No space left on device"))
    'error: the disk is full. Free some space, or write to another disk.'
    """
    if isinstance(error, PalmetteError):
        return f"error: {error}"
    if isinstance(error, UnicodeEncodeError):
        text = error.object[error.start : error.end]
        return f"error: {text!a} cannot be written as {error.encoding}. Set PYTHONUTF8=1, or write to a UTF-8 terminal."
    if isinstance(error, UnicodeDecodeError):
        return f"error: a text is not {error.encoding} at byte {error.start}. Save it as UTF-8."
    if isinstance(error, OSError):
        return f"error: {_named(error)}. {_WAYS_OUT.get(error.errno or 0, 'Fix that, and run the command again.')}"
    # pathlib and pwd have no class of their own for a user without a home or without an entry in the table of users.
    if isinstance(error, RuntimeError | KeyError) and ("home directory" in str(error) or "getpw" in str(error)):
        return f"error: this user has no home folder. {_NO_HOME}"
    return None


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        if isinstance(end.code, str):
            return _end(end.code, BROKEN_PIPE)
        return end.code or 0
    return 0


def _named(error: OSError) -> str:
    """The file and the reason of an error of the system. A library's own OSError has a text instead."""
    if error.strerror:
        return f"{error.filename}: {reason_of(error)}" if error.filename else reason_of(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _end(line: str, code: int) -> int:
    _discard_output()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error may be gone too
        print(line, file=sys.stderr, flush=True)
    return code


def _discard_output() -> None:
    """Write what standard output still holds, if that can be done. Otherwise Python would complain at its exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())


def _note_of_loading() -> contextlib.AbstractContextManager[None]:
    """A note while a command loads. Nothing is imported for it where no terminal would show it."""
    if sys.stderr is None or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from palmette.cli.waiting import note_of_loading

    return note_of_loading()
