"""The newest run that was made of a run by retraining."""

from __future__ import annotations

import re

from palmette import run
from palmette.inference.names import run_path
from palmette.inference.reader import stands_at

NUMBERED = re.compile(r"(?P<name>.+)-review-(?P<number>[1-9][0-9]*)")


def newest_retraining(model: str) -> str | None:
    """The finished run with the highest number, among those that retraining made of a run. None if none is newer.

    Retraining puts them beside the run, as RUN-review-1, RUN-review-2 and so on.

    Args:
        model: the run, which may itself be one of them.
    """
    folder = run_path(model)
    if not run.is_run(folder):
        return None
    folder = stands_at(folder)
    match = NUMBERED.fullmatch(folder.absolute().name)
    name, number = (match["name"], int(match["number"])) if match else (folder.absolute().name, 0)
    found = []
    for other in folder.absolute().parent.glob(f"{name}-review-*"):
        beside = NUMBERED.fullmatch(other.name)
        newer = beside is not None and beside["name"] == name and int(beside["number"]) > number
        if beside is not None and newer and run.is_run(other) and run.is_finished(other):
            found.append((int(beside["number"]), other.name))
    return str(folder.parent / max(found)[1]) if found else None
