"""Programs that run in several processes, as under torchrun."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette import processes
from palmette.model import loading
from palmette.tasks.rewards import REWARDS
from palmette.train import job
from palmette.train.run import resume, train
from palmette.train.stages import recipe_from
from palmette.train.steps.callbacks import TrainingInterrupted
from tests.support.models import with_exact_norms
from tests.support.paths import ROOT
from tests.support.rewards import letters
from tests.support.runs import on_step


def begin(count: int, call: str, *args: Any) -> tuple[list[subprocess.Popen[bytes]], torch.distributed.TCPStore]:
    """Start `module:function` with these arguments, as strings, in so many processes.

    Returns:
        The processes, and the store in which they meet, for `finish`.
    """
    # They meet here, as under torchrun: a port that one of them opened could be taken by then.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    module, _, function = call.partition(":")
    code = f"import sys; from {module} import {function} as run; run(*sys.argv[1:])"
    running = []
    for rank in range(count):
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        command = [sys.executable, "-c", code, *map(str, args)]
        running.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    return running, store


def finish(running: list[subprocess.Popen[bytes]], _: torch.distributed.TCPStore) -> tuple[list[int], list[str]]:
    """The exit codes of processes, and what each wrote. The store must live as long as they do."""
    written = [b"".join(process.communicate(timeout=300)).decode() for process in running]
    return [process.returncode for process in running], written


def run_in(count: int, call: str, *args: Any) -> list[str]:
    """Call a function in so many processes that all must succeed. What each wrote."""
    codes, errors = finish(*begin(count, call, *args))
    assert codes == [0] * count, "\n".join(errors)
    return errors


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Within the block, stages load their models in float64, in which sums hardly depend on their order. Letters are
    rewarded.
    """
    with pytest.MonkeyPatch.context() as patch:
        weights = loading._weights
        patch.setattr(loading, "fast_dtype", lambda _: torch.float64)
        patch.setattr(loading, "_weights", lambda *args: with_exact_norms(weights(*args)))
        patch.setattr(job, "dtype_name", lambda _: "float32")  # as recipes may say it
        patch.setitem(REWARDS, "letters", letters)
        yield


def train_until(how: str, step: str, recipe: str, out: str) -> None:
    """Train until after a step. Then something happens to process 1.

    Args:
        how: "SIGTERM" for a signal, or "death".
        step: the step.
        recipe: a JSON file of a stage and the sections of its recipe, without an output.
        out: the run folder.
    """
    torch.set_num_threads(1)
    stage, sections = json.loads(Path(recipe).read_text())

    def happen() -> None:
        if processes.number() == 1 and how == "death":
            os._exit(1)
        if processes.number() == 1:
            signal.raise_signal(signal.SIGTERM)

    with exactly(), pytest.MonkeyPatch.context() as patch:
        on_step(patch, int(step), happen)
        try:
            train(recipe_from({**sections, "output": out}, "test", stage), print)
        except TrainingInterrupted as stop:
            sys.exit(stop.exit_code)


def continue_run(folder: str) -> None:
    """Resume a run."""
    torch.set_num_threads(1)
    with exactly():
        resume(folder)


def train_all(recipes: str, out: str) -> None:
    """Train recipes one after the other, in float64.

    Args:
        recipes: a JSON file of lists, each a stage and the sections of its recipe, without an output.
        out: a folder, which gets a run of each stage.
    """
    torch.set_num_threads(1)
    with processes.joined(), exactly():
        for stage, sections in json.loads(Path(recipes).read_text()):
            train(recipe_from({**sections, "output": f"{out}/{stage}"}, "test", stage))


def train_as_it_is(file: str, folder: str) -> None:
    """Train the first of the recipes in a file, in the dtype that it says."""
    stage, sections = json.loads(Path(file).read_text())[0]
    train(recipe_from({"output": str(Path(folder) / stage), **sections}, "test", stage), lambda _: None)
