"""`palmette chain`: runs the stages of a recipe, measures them, and writes their table.

Finished stages are not run again. A stage that was stopped is continued.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.errors import RunError, reason_of
from palmette.files import expand
from palmette.lock import locked
from palmette.progress import Say
from palmette.run import trained_folder
from palmette.studies.chain.measuring import MEASURING_ERROR, StageFigures, inputs
from palmette.studies.chain.recipe import CHAIN, Chain, ChainStage, load_chain
from palmette.studies.chain.table import PAGE, failures_of_stages, refusals_of_stages, terminal_tables, write_results
from palmette.studies.measuring import ERROR, failure, read_questions
from palmette.studies.tables import Table
from palmette.studies.work_sharing import Unit, share_work
from palmette.synth.preference_job import write_preferences
from palmette.synth.preference_settings import PreferenceSettings
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted

_SETTINGS, _BUILT_ON = "stage.json", "built_on.json"


@dataclass(frozen=True)
class ChainResult:
    """The results of a chain.

    Attributes:
        folder: the folder with all runs and results.
        chain: the chain.
        stages: its stages under every seed.
    """

    folder: Path
    chain: Chain
    stages: Sequence[ChainStage]

    @property
    def page(self) -> Path:
        """The Markdown file with the table."""
        return self.folder / PAGE

    @property
    def tables(self) -> list[Table]:
        """The figures of all stages, as headings and lines of tables."""
        return terminal_tables(self.chain, self.stages)

    @property
    def failures(self) -> list[str]:
        """Messages about stages that failed and figures that could not be measured."""
        return failures_of_stages(self.stages)

    @property
    def refusals(self) -> list[str]:
        """Messages of decoders that refused a model."""
        return refusals_of_stages(self.chain, self.stages)


def run_chain(file: Path, say: Say) -> ChainResult:
    """Run and measure the remaining stages of a chain, and write its table.

    Args:
        file: the YAML file with the chain.
        say: called with a line about each stage.

    Raises:
        TrainingInterrupted, KeyboardInterrupt: Ctrl-C. The table holds what is finished.
        PalmetteError: the chain cannot be read, or it contradicts what its folder holds.
    """
    processes.check_alone("a chain")
    chain, stages = load_chain(file)
    folder = expand(chain.output)
    source, measured_on = read_questions(chain.evaluate)
    _prepare(folder, chain, stages)

    def results() -> None:
        with locked(folder, wait=True):  # otherwise another process could read before us and write after us
            write_results(folder, chain, stages, measured_on)

    units = [_Seed(chain, [stage for stage in stages if stage.seed == seed], source).unit() for seed in chain.seeds]
    try:
        share_work(units, say, results)
    except (TrainingInterrupted, KeyboardInterrupt):
        results()
        raise
    results()
    return ChainResult(folder, chain, stages)


def _prepare(folder: Path, chain: Chain, stages: Sequence[ChainStage]) -> None:
    """Create the folders, and check that stages already begun have the same settings.

    Other stages may be changed or added.

    Raises:
        RunError: a stage was begun with other settings, the folder holds something else, or a run to build on is not
            finished.
    """
    for stage in stages:
        if stage.kind == "run":
            trained_folder(stage.result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {reason_of(error)}", "Choose another output.") from error
    with locked(folder, wait=True):  # another process may be writing
        if not (folder / CHAIN).is_file() and any(folder.iterdir()):
            raise RunError(f"{folder} exists already, and holds no chain", "Choose another output.")
        for stage in stages:
            if (stage.place / _SETTINGS).is_file():
                before = json.loads((stage.place / _SETTINGS).read_text(encoding="utf-8"))
                way_out = "Restore the setting, choose another output, or remove that folder."
                run.check_same(before["settings"], _settings(chain, stage), where=stage.place, way_out=way_out)
        run.write_text(folder / CHAIN, chain.to_yaml())
        for stage in stages:
            stage.place.mkdir(parents=True, exist_ok=True)


def _settings(chain: Chain, stage: ChainStage) -> dict[str, Any]:
    """A stage's settings from the recipe, in the form in which JSON returns them."""
    settings: dict[str, Any] = json.loads(json.dumps(chain.stages[stage.name]))
    return settings


class _Seed:
    """Runs and measures all stages of a chain under one seed.

    Args:
        chain: the chain.
        stages: its stages under this seed.
        source: the questions that policies are measured on.
    """

    def __init__(self, chain: Chain, stages: Sequence[ChainStage], source: DataSet) -> None:
        self._chain, self._stages, self._source = chain, stages, source
        self._began = time.time()

    def unit(self) -> Unit:
        """The work as a unit that one process takes on."""
        return Unit(self._stages[0].place.parent, self.work)

    def work(self, say: Say) -> bool:
        """Run and measure the remaining stages. A failure is recorded, and stages that build on it fail too.

        Returns:
            Whether there was anything to do.

        Raises:
            TrainingInterrupted, KeyboardInterrupt: Ctrl-C.
        """
        worked, failed = False, set[str]()
        for stage in self._stages:
            error = stage.place / ERROR
            if self._is_new(error):  # another process has just tried it
                failed.add(stage.name)
                continue
            try:
                lost = [name for name in stage.needs if name in failed]
                if lost:
                    raise RunError(f"it builds on {lost[0]}, which failed", "Fix that stage first.")
                worked |= self._make(stage, _named(say, stage))
                error.unlink(missing_ok=True)
            except TrainingInterrupted:
                raise
            except Exception as caught:  # stages that do not need this one can still run
                worked = True
                failed.add(stage.name)
                run.write_json(error, {"error": failure(caught)})
                say(f"{stage.name}: failed: {failure(caught)}")
            finally:
                gc.collect()  # a trainer and its model refer to each other
        there = {stage.name: stage for stage in self._stages if stage.name not in failed}
        measuring = StageFigures(self._chain, there, self._source)
        for stage in there.values():
            if not self._is_new(stage.place / MEASURING_ERROR):
                worked |= measuring.measure(stage, _named(say, stage))
        return worked

    def _is_new(self, error: Path) -> bool:
        """Whether an error was recorded after this process began."""
        try:
            return error.stat().st_mtime >= self._began
        except FileNotFoundError:
            return False

    def _make(self, stage: ChainStage, say: Say) -> bool:
        """Run or continue a stage, and return whether there was anything to do."""
        built_on = inputs(stage, {one.name: one for one in self._stages})
        self._check_built_on(stage, built_on)
        run.write_json(stage.place / _SETTINGS, {"settings": _settings(self._chain, stage)})
        run.write_json(stage.place / _BUILT_ON, built_on)
        if isinstance(stage.settings, PreferenceSettings):
            if stage.result.is_file():
                return False
            write_preferences(stage.settings, stage.result, say)
        elif not isinstance(stage.settings, Recipe) or run.is_finished(stage.result):
            return False
        elif stage.result.exists():
            resume(stage.result, say)
        else:
            train(stage.settings, say)
        return True

    def _check_built_on(self, stage: ChainStage, now: Mapping[str, str | None]) -> None:
        """Check that what a stage builds on has not changed since the stage was begun.

        Raises:
            RunError: something has changed. The message names it.
        """
        file = stage.place / _BUILT_ON
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        stages = {one.name for one in self._stages}
        # An input that an earlier version of palmette did not record counts as unchanged.
        for name in sorted(name for name in now if name in before and before[name] != now[name]):
            what = "was rebuilt or changed" if name in stages else "has changed"
            raise RunError(
                f"{name!r} {what} since the stage {stage.name!r} was begun, which builds on it",
                f"To build {stage.name!r} again from it, remove {stage.place}. To keep {stage.name!r}, restore "
                f"{name!r}.",
            )


def _named(say: Say, stage: ChainStage) -> Say:
    return lambda line: say(f"{stage.name}: {line}")
