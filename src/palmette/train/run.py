"""Runs of any stage, from a recipe to what is saved: the run folder, exact resume, and the stage's own part in between."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.config import Recipe
from palmette.errors import RunError
from palmette.files import expand
from palmette.model.kernels import compiling_is_off
from palmette.progress import Say
from palmette.train.job import Job
from palmette.train.loop import save_result
from palmette.train.stages import STAGES, Stage, read_recipe, resolve, stage_of_run
from palmette.train.step import latest_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """A finished run. `palmette.load(run.folder)` opens what it trained.

    Attributes:
        folder: the run folder.
        stage: the stage that trained it.
    """

    folder: Path
    stage: str


def _quiet(_: str) -> None:
    """Take a line of news and do nothing with it."""


def train(recipe: Recipe, say: Say = _quiet) -> TrainedRun:
    """Run a recipe of any stage from the start.

    Args:
        recipe: the recipe, as `read_recipe` gives it. Its output folder must not exist.
        say: called with a line of news for each part of the work.

    Raises:
        PalmetteError: bad data, an unfit model, or a folder that exists or cannot be written.
        TrainingInterrupted: Ctrl-C; a checkpoint was saved, and `resume` continues from it.
    """
    stage, folder = STAGES[recipe.stage], expand(recipe.output)
    run.check_absent(folder)
    _check_one_process()
    job: Job = resolve(stage.prepare)(recipe, say)
    with run.whole_folder(folder) as staging:
        run.write_text(staging / run.RECIPE, job.recipe.to_yaml())
        run.write_json(staging / run.MANIFEST, {**run.environment(), "stage": stage.name, **job.fingerprint})
    return _learn(stage, job, folder, None, say)


def resume(folder: Path | str, say: Say = _quiet, *, stage: str | None = None) -> TrainedRun:
    """Continue a run of any stage from its latest checkpoint, to the same parameters as if it had not stopped.

    Args:
        folder: the run folder.
        say: as for `train`.
        stage: the stage that the run must be of; None for any.

    Raises:
        RunError: not a run folder, a run of another stage, or one that is finished already; or its data, weights or prompt are not
            those that it began with.
        PalmetteError, TrainingInterrupted: as for `train`.
    """
    folder = expand(folder)
    own = stage_of_run(folder)
    if stage is not None and stage != own.name:
        raise RunError(
            f"{folder} is a run of the stage {own.name}, not of {stage}",
            f"Continue it with: palmette train {own.name} --resume {folder}",
        )
    recipe = read_recipe(folder / run.RECIPE, own.name).model_copy(update={"output": str(folder)})
    if run.is_finished(folder):
        raise RunError(f"{folder} is finished", f"Try it: palmette {own.next_step.format(folder)}")
    checkpoint = latest_checkpoint(folder / run.CHECKPOINTS)
    say(f"resuming from {checkpoint.name}" if checkpoint else "no checkpoint yet: starting again")
    job: Job = resolve(own.prepare)(recipe, say)
    _check_unchanged(folder, job.fingerprint, say)
    return _learn(own, job, folder, checkpoint, say)


def _learn(stage: Stage, job: Job, folder: Path, checkpoint: Path | None, say: Say) -> TrainedRun:
    resolve(stage.learn)(job, folder, checkpoint, say)
    save_result(job, folder)
    return TrainedRun(folder, stage.name)


def _check_unchanged(folder: Path, now: dict[str, Any], say: Say) -> None:
    """Refuse to continue with other data, weights or words than the run began with.

    Kernels may change where the environment asks for torch's with PALMETTE_COMPILE=0, which is said.
    """
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    before = {key: manifest[key] for key in now if key in manifest}
    model = dict(now.get("model", {}))
    old, new = (_kernels(values.get("model", {})) for values in (before, now))
    if old is not None and new is not None and old != new:
        if not compiling_is_off():
            raise RunError(
                f"{folder} was begun with {old} kernels, and now it has {new} kernels",
                "Make the same compiler available, or set PALMETTE_COMPILE=0 to continue with torch's kernels. "
                "Then the last digits may differ.",
            )
        say(f"begun with {old} kernels, continued with {new} kernels: the last digits may differ")
        before["model"] = {**before["model"], "kernels": new}
        before["model"]["layers"] = before["model"].get("layers", "").replace(f"{old} kernels", f"{new} kernels")
    # Runs of earlier versions do not say which kernels attention had under stock layers.
    unsaid = {"model": {"kernels": model.get("kernels")}}
    run.check_same(before, now, where=folder, way_out="Put it back as it was, or start a new run.", defaults=unsaid)


def _kernels(model: dict[str, Any]) -> str | None:
    """The kernels that a manifest states for a model. None if it states none."""
    stated = re.search(r"with (\w+) kernels", model.get("layers", ""))
    return model.get("kernels") or (stated[1] if stated else None)


def _check_one_process() -> None:
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise RunError(
            f"training was started as one of {processes} processes, and it writes its run folder alone",
            "Start it without torchrun or accelerate launch.",
        )
