"""The work file of a job: a line for each finished part, so that a job that was stopped continues there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import RunError, reason_of
from palmette.lock import locked

WORK = ".work"
Line = dict[str, Any]


@contextlib.contextmanager
def held_work(out: Path) -> Iterator[Path]:
    """The work file of an output, for this process alone.

    It is removed only when the output exists, or while it is empty. So a process that locks it later checks whether it
    still exists.

    Raises:
        RunError: the output exists or is being written by another process, or the work file cannot be written.
    """
    work = out.with_name(out.name + WORK)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work.touch()
    except OSError as error:
        raise RunError(f"cannot write {work}: {reason_of(error)}", "Choose another output.") from error
    with locked(work, wait=False) as mine:
        if not mine or not work.exists():
            raise RunError(f"another process is writing {out}", "Wait for it, or give another name for the output.")
        try:
            run.check_absent(out)  # the other process may have finished it in the meantime
            yield work
        finally:
            if work.exists() and not work.stat().st_size:
                work.unlink()


def begin_work(
    work: Path, settings: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> dict[str, Line]:
    """The lines of a work file, by their id.

    A new file gets the settings, and those of an old file are compared with them.

    The file is never replaced by another one, since it may be locked.

    Args:
        work: the work file.
        settings: what its lines depend on.
        defaults: values of settings that older work files lack.

    Raises:
        RunError: it was begun with other settings, or cannot be read or written.
    """
    current = json.loads(json.dumps(settings))
    try:
        raw = work.read_bytes() if work.exists() else b""
        size = raw.rfind(b"\n") + 1  # without a last line that was cut off
        head, *lines = [json.loads(line) for line in raw[:size].splitlines()] if size else [{"settings": current}]
        first = json.dumps(head, ensure_ascii=False)
        if not size and not first.encode().startswith(raw):
            raise ValueError("it holds no settings")
        begun = dict(head["settings"])
        done = {line["id"]: line for line in lines}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{work} cannot be read: {reason_of(error)}", "Remove it to start again.") from error
    way_out = "Give the options that it was begun with, or another name for the output. Or remove it to start again."
    run.check_same(begun, current, where=work, way_out=way_out, defaults=defaults or {})
    if size < len(raw):
        try:
            os.truncate(work, size)
        except OSError as error:
            raise RunError(f"cannot write {work}: {reason_of(error)}", "Choose another output.") from error
    if not size:
        run.append_line(work, first)
    return done


def keep_line(line: Line, work: Path, done: dict[str, Line]) -> None:
    """Add a finished line to the work file and to the lines that it holds.

    Raises:
        RunError: the file cannot be written.
    """
    run.append_line(work, json.dumps(line, ensure_ascii=False))
    done[line["id"]] = line
