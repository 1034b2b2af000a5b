"""Which model answers where none was named: the reader that comes with the package.

It was taught to answer from documents of many kinds, or to refuse. A run of one's own may be better on one's own
documents, and it may be much worse, so it is only mentioned.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from palmette import run
from palmette.config.recipes import load_run_recipe
from palmette.errors import PalmetteError
from palmette.inference.reader import READER

RUNS = Path("runs")
MAX_DEPTH = 4  # chains and sweeps keep their runs in folders of their own
_TRAINED = {run.ADAPTER: "adapter_config.json", run.FULL_MODEL: "config.json"}
_NO_ANSWERS = ("reward",)  # stages whose models give no answers


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model, and why it was chosen.

    Attributes:
        name: the model's name.
        why: a line for the user.
    """

    name: str
    why: str


def choose_model(runs: Path = RUNS) -> ChosenModel:
    """The model to use where none was named.

    Args:
        runs: the folder that holds the runs. The newest finished one is mentioned.
    """
    newest = max(finished_runs(runs), default=None)
    own = f"For your newest run, give --model {shlex.quote(str(newest[1]))}." if newest else "--model takes another."
    return ChosenModel(READER, f"Using the reader that comes with palmette. {own}")


def finished_runs(runs: Path = RUNS) -> Iterator[tuple[float, Path]]:
    """(time of its end, folder) of every finished run whose model answers questions about documents.

    Runs whose recipe cannot be read are left out. So are reward models, and models of conversations.

    Args:
        runs: the folder that holds the runs, at most `MAX_DEPTH` folders deep.
    """
    for name, below, _ in os.walk(runs, followlinks=True):  # the depth is bounded, so circles end
        folder = Path(name)
        if run.is_run(folder):
            below.clear()
            ended = _ended(folder)
            if ended is not None and _answers(folder):
                yield ended, folder
        elif len(folder.relative_to(runs).parts) >= MAX_DEPTH:
            below.clear()


def _ended(folder: Path) -> float | None:
    """When a run was finished: when the settings beside its weights were written. None if it is not finished.

    Calibrating a run changes the time of its folders, but not that of this file.
    """
    for name, settings in _TRAINED.items():
        for path in (folder / name / settings, folder / name):
            try:
                return path.stat().st_mtime
            except OSError:
                continue
    return None


def _answers(folder: Path) -> bool:
    try:
        stage, kind = run.stage_of(folder), load_run_recipe(folder / run.RECIPE).data.kind
    except (PalmetteError, OSError, ValueError):
        return False
    return stage not in _NO_ANSWERS and kind != "chat"
