"""Runs of any stage, from a recipe to a trained model: the run folder, exact resume, and the stage's own part."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.errors import RunError
from palmette.files import expand
from palmette.inference.fingerprint import BASE
from palmette.lock import locked
from palmette.model.kernels import compiling_is_off
from palmette.progress import Say
from palmette.train.job import Job
from palmette.train.loop import save_result
from palmette.train.stages import STAGES, Stage, read_recipe, resolve, stage_of_run
from palmette.train.steps.checkpoints import latest_checkpoint
from palmette.train.steps.schedule import FROM_FIRST_STEP, WARMUP
from palmette.train.steps.sharding import shard


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
        recipe: the recipe, from `read_recipe`. Its output folder must not exist.
        say: called with a line of news for each part of the work.

    Raises:
        PalmetteError: bad data, an unfit model, or a folder that exists, cannot be written, or is being trained.
        TrainingInterrupted: Ctrl-C or SIGTERM. A checkpoint was saved, and `resume` continues from it.
    """
    stage, folder = STAGES[recipe.stage], expand(recipe.output)
    with processes.joined():
        _train(recipe, stage, folder, say if processes.is_main() else _quiet)
    return TrainedRun(folder, stage.name)


def _train(recipe: Recipe, stage: Stage, folder: Path, say: Say) -> None:
    """Run a recipe from the start. The model is gone when this returns, before the processes part."""
    with _held(folder, stage):
        with processes.together():
            run.check_absent(folder)
        job = _prepare(stage, recipe, say)
        with processes.together():
            if processes.is_main():
                _begin(folder, stage, job)
        _learn(stage, job, folder, None, say)


def _begin(folder: Path, stage: Stage, job: Job) -> None:
    """Write the recipe and the manifest of a run."""
    with run.whole_folder(folder) as staging:
        run.write_text(staging / run.RECIPE, job.recipe.to_yaml())
        begun = {**run.environment(), "stage": stage.name, WARMUP: FROM_FIRST_STEP}
        run.write_json(staging / run.MANIFEST, {**begun, **job.fingerprint})


def _prepare(stage: Stage, recipe: Recipe, say: Say) -> Job:
    """The job of a recipe, prepared in every process.

    Raises:
        RunError: another process has other data or another model.
    """
    if recipe.train.shard:  # fused layers read the weights of a layer without its hooks, which gather them
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"fused": False})})
    with processes.together():
        job: Job = resolve(stage.prepare)(recipe, say)
    for number, other in enumerate(processes.gather(job.fingerprint)):
        run.check_same(
            job.fingerprint,
            other,
            where=f"process {processes.number()}",
            way_out=f"Give process {number} the same files and the same versions.",
        )
    if job.recipe.train.shard and processes.count() > 1:
        shard(job.loaded.model)
        say(f"weights, gradients and moments are divided among {processes.count()} processes")
    return job


def resume(folder: Path | str, say: Say = _quiet, *, stage: str | None = None) -> TrainedRun:
    """Continue a run of any stage from its latest checkpoint, to the same parameters as if it had not stopped.

    Args:
        folder: the run folder.
        say: as for `train`.
        stage: the stage that the run must be of. None allows any stage.

    Raises:
        RunError: the folder is not a run folder, or its run is of another stage, finished, or being trained. Or its
            data, weights or prompt are not those that it began with.
        PalmetteError, TrainingInterrupted: as for `train`.
    """
    folder = expand(folder)
    own = stage_of_run(folder)
    if stage is not None and stage != own.name:
        raise RunError(
            f"{folder} is a run of the stage {own.name}, not of {stage}",
            f"Continue it with: palmette train {own.name} --resume {shlex.quote(str(folder))}",
        )
    with processes.joined():
        _continue(own, folder, say if processes.is_main() else _quiet)
    return TrainedRun(folder, own.name)


def _continue(own: Stage, folder: Path, say: Say) -> None:
    """Continue a run. The model is gone when this returns, before the processes part."""
    with _held(folder, own):
        recipe = read_recipe(folder / run.RECIPE, own.name).model_copy(update={"output": str(folder)})
        if run.is_finished(folder):
            raise RunError(
                f"{folder} is finished", f"Try it: palmette {own.next_step.format(shlex.quote(str(folder)))}"
            )
        checkpoint = processes.from_main(latest_checkpoint(folder / run.CHECKPOINTS, say))
        say(f"resuming from {checkpoint.name}" if checkpoint else "no checkpoint yet: starting again")
        job = _prepare(own, recipe, say)
        with processes.together():
            _check_unchanged(folder, job.fingerprint, say)
        _learn(own, job, folder, checkpoint, say)


@contextlib.contextmanager
def _held(folder: Path, stage: Stage) -> Iterator[None]:
    """Hold a run folder for all processes that train it. The main one takes the lock. Errors as for `hold`."""
    with contextlib.ExitStack() as stack:
        with processes.together():
            if processes.is_main():
                stack.enter_context(hold(folder, f"train {stage.name} --resume {shlex.quote(str(folder))}"))
        yield


@contextlib.contextmanager
def hold(folder: Path, command: str) -> Iterator[None]:
    """Hold a run folder while it is trained, so that no other process trains it too.

    Args:
        folder: the run folder. It need not exist yet.
        command: words of the command that continues the run, for the message.

    Raises:
        RunError: another process holds it, or it cannot be locked.
    """
    with locked(folder.resolve(), wait=False) as held:
        if not held:
            raise RunError(
                f"another process is training {folder}",
                f"Wait until it has ended. If it is stopped before that, continue with: palmette {command}",
            )
        yield


def _learn(stage: Stage, job: Job, folder: Path, checkpoint: Path | None, say: Say) -> None:
    resolve(stage.learn)(job, folder, checkpoint, say)
    save_result(job, folder)


def _check_unchanged(folder: Path, now: dict[str, Any], say: Say) -> None:
    """Check that data, weights and prompt are those that the run began with.

    Kernels may change where PALMETTE_COMPILE=0 asks for torch's. That is reported.
    """
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    before = {key: manifest[key] for key in now if key in manifest}
    if BASE not in before:  # a run of a version that did not write it
        now = {key: value for key, value in now.items() if key != BASE}
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
    # Runs of earlier versions lack the count of unreachable answers, which follows from the data, and do not say which
    # kernels attention had under stock layers.
    defaults = {"unreachable": now.get("unreachable", {}), "model": {"kernels": model.get("kernels")}}
    run.check_same(before, now, where=folder, way_out="Restore it, or start a new run.", defaults=defaults)


def _kernels(model: dict[str, Any]) -> str | None:
    """The kernels that a manifest states for a model. None if it states none."""
    stated = re.search(r"with (\w+) kernels", model.get("layers", ""))
    return model.get("kernels") or (stated[1] if stated else None)
