"""The files of a job, checked before anything heavy is imported: its input, its output, and the manifest beside it."""

from __future__ import annotations

from pathlib import Path

from palmette import run
from palmette.data.inputs import Input, QuestionFile
from palmette.errors import RunError


def check_job(source: str | Input, out: Path) -> None:
    """Check a job's input and output before its model is loaded.

    Args:
        source: the input.
        out: the output.

    Raises:
        DataError: the input cannot be opened.
        RunError: the output exists but was not made by such a job, or it is standard output.
    """
    check_output(out)
    with (QuestionFile(source) if isinstance(source, str) else source).open():
        pass


def check_output(out: Path) -> None:
    """Check that a job may write an output.

    Raises:
        RunError: the output exists but was not made by such a job, or it is standard output.
    """
    if str(out) == "-":
        raise RunError("the output cannot be standard output, which cannot be resumed", "Give a file.")
    if not manifest_of(out).is_file():
        run.check_absent(out)


def manifest_of(out: Path) -> Path:
    """The manifest beside an output."""
    return out.with_name(out.name + ".manifest.json")
