"""`palmette sweep`: trains and measures each cell of a sweep.

Finished cells are not run again. A cell that was stopped is continued.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.errors import RunError, reason_of
from palmette.files import expand
from palmette.lock import locked
from palmette.pages.training.pictures import LOSS_PLOT, draw_run
from palmette.progress import Say
from palmette.studies.measuring import (
    ERROR,
    failure,
    measure,
    measure_retention,
    read_questions,
    refusal,
    unmeasured,
    unmeasured_retention,
)
from palmette.studies.sweep.recipe import SWEEP, Cell, Sweep, load_sweep
from palmette.studies.sweep.table import Outcome, failures_of, read_outcome, rows_of, varied_keys, write_results
from palmette.studies.tables import Table, tables_of
from palmette.studies.work_sharing import Unit, share_work
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted

_SETTINGS = "cell.json"


@dataclass(frozen=True)
class SweepResult:
    """The results of a sweep.

    Attributes:
        folder: the folder with all runs and results.
        sweep: the sweep.
        outcomes: the results of each cell.
    """

    folder: Path
    sweep: Sweep
    outcomes: Sequence[Outcome]

    @property
    def num_failed(self) -> int:
        """The number of runs that failed."""
        return sum(outcome.error is not None for outcome in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """Messages about runs that failed and decoders that refused a model."""
        return [text for outcome in self.outcomes for text in failures_of(outcome)]

    @property
    def tables(self) -> list[Table]:
        """The figures of all cells, as headings and lines of tables."""
        rows = rows_of(self.outcomes, self.sweep.reference)
        return tables_of(rows, varied_keys(self.sweep), self.sweep.reference, intervals=False)


def run_sweep(file: Path, say: Say, *, retry_failed: bool = False) -> SweepResult:
    """Train and measure the remaining cells of a sweep, and write its table.

    Args:
        file: the YAML file with the sweep.
        say: called with a line about each run.
        retry_failed: whether to try runs again that failed before.

    Raises:
        TrainingInterrupted, KeyboardInterrupt: Ctrl-C. The table holds what is finished.
        PalmetteError: the sweep cannot be read, or it contradicts what its folder holds.
    """
    processes.check_alone("a sweep")
    sweep, cells = load_sweep(file)
    folder = expand(sweep.output)
    source, measured_on = read_questions(sweep.evaluate)
    prepare(folder, sweep, cells, measured_on)

    def results() -> list[Outcome]:
        with locked(folder, wait=True):  # otherwise another process could read before us and write after us
            outcomes = [read_outcome(cell) for cell in cells]
            write_results(folder, sweep, outcomes, measured_on)
        return outcomes

    try:
        failed = {cell.folder for cell in cells if _failures(cell)} if retry_failed else set()
        share_work([_unit(cell, sweep, source, again=cell.folder in failed) for cell in cells], say, results)
    except (TrainingInterrupted, KeyboardInterrupt):
        results()
        raise
    return SweepResult(folder, sweep, results())


def _unit(cell: Cell, sweep: Sweep, source: DataSet, *, again: bool) -> Unit:
    return Unit(cell.folder, lambda say: work_through(cell, sweep, source, say, retry_failed=again))


def prepare(folder: Path, sweep: Sweep, cells: Sequence[Cell], measured_on: dict[str, Any]) -> None:
    """Record the settings of each cell, or check that they are unchanged. Cells may be added.

    Raises:
        RunError: a cell was begun with other settings or other data to measure it on, or the folder holds something
            else.
    """
    _make(folder)
    with locked(folder, wait=True):  # another process may be writing
        if not (folder / SWEEP).is_file() and any(folder.iterdir()):
            raise RunError(f"{folder} exists already, and holds no sweep", "Choose another output.")
        settings = {cell.folder: _settings(cell, measured_on) for cell in cells}
        for place, now in settings.items():
            if place.exists():
                _check_same(place, now)
        run.write_text(folder / SWEEP, sweep.to_yaml())
        for place, now in settings.items():
            if not place.exists():
                with run.whole_folder(place) as staging:
                    run.write_json(staging / _SETTINGS, now)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {reason_of(error)}", "Choose another output.") from error


def _settings(cell: Cell, measured_on: dict[str, Any]) -> dict[str, Any]:
    """All settings of a cell, and the data that it is measured on."""
    return {"evaluate": measured_on, **cell.recipe.model_dump(exclude={"output"})}


def _check_same(place: Path, now: dict[str, Any]) -> None:
    before = json.loads((place / _SETTINGS).read_text(encoding="utf-8"))
    way_out = "Restore the setting, choose another output, or remove that folder."
    run.check_same(before, now, where=place, way_out=way_out, defaults=Recipe(output="").model_dump())


def _failures(cell: Cell) -> list[Path]:
    """The files that record a cell's failure and the decoders that refused its model."""
    names = [ERROR, *map(refusal, cell.decoders)]
    return [cell.folder / name for name in names if (cell.folder / name).is_file()]


def work_through(cell: Cell, sweep: Sweep, source: DataSet, say: Say, *, retry_failed: bool) -> bool:
    """Train and measure what remains of a cell. A failure is recorded.

    Returns:
        Whether there was anything to do.

    Raises:
        TrainingInterrupted, KeyboardInterrupt: Ctrl-C.
    """
    if retry_failed:
        for file in _failures(cell):
            file.unlink()
    if (cell.folder / ERROR).is_file():
        say("failed before, and is not tried again without --retry-failed")
        return False
    left = unmeasured(cell.folder, cell.decoders)
    retention = unmeasured_retention(cell.folder, sweep.evaluate)
    if not left and retention is None:
        say("finished before")
        return False
    try:
        _train(cell, say)
        for decoder in left:
            measure(cell.folder, str(cell.run), decoder, source, sweep.evaluate.batch_size, say)
        if retention:
            measure_retention(cell.folder, cell.run, retention, say)
    except TrainingInterrupted:
        raise
    except Exception as error:  # the other cells can still run
        text = failure(error)
        run.write_json(cell.folder / ERROR, {"error": text})
        say(f"failed: {text}")
    finally:
        gc.collect()  # a trainer and its model refer to each other
    return True


def _train(cell: Cell, say: Say) -> None:
    folder = cell.run
    if not folder.exists():
        train(cell.recipe, say)
    elif not run.is_finished(folder):
        resume(folder, say)
    if not (folder / LOSS_PLOT).is_file():
        draw_run(folder, say, cell.folder.name)
