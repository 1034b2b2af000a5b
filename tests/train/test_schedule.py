"""Learning rates: the first step of every schedule learns, and runs of earlier versions keep the rates they began with.

The expected shares of the peak are derived by hand. With 8 steps and a warm-up of 2, the warm-up climbs to the peak in
3 equal parts and has reached 2 of them in its last step. The peak is step 2, and 6 parts of the way down are left.
"""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.schedule import rate_factor
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, log, on_step, quiet

THIRDS = [1 / 3, 2 / 3]
HALF_ROOT_3 = math.sqrt(3) / 2  # the cosine of 30 degrees
BY_HAND = {
    "linear": [*THIRDS, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
    # Half of (1 + the cosine of 0, 30, 60, 90, 120 and 150 degrees).
    "cosine": [*THIRDS, 1, (1 + HALF_ROOT_3) / 2, 0.75, 0.5, 0.25, (1 - HALF_ROOT_3) / 2],
    "constant_with_warmup": [*THIRDS, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("schedule", BY_HAND)
def test_shares_of_the_peak_are_those_derived_by_hand(schedule: str) -> None:
    assert [rate_factor(schedule, step, 8, 2) for step in range(8)] == pytest.approx(BY_HAND[schedule])


@pytest.mark.parametrize("schedule", BY_HAND)
@pytest.mark.parametrize(("num_steps", "num_warmup"), [(8, 2), (10, 1), (7, 0), (1, 1), (5, 5)])
def test_runs_of_earlier_versions_and_all_steps_after_the_warm_up_are_those_of_transformers(
    schedule: str, num_steps: int, num_warmup: int
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=num_warmup, num_training_steps=num_steps)
    for step in range(num_steps):
        wanted = pytest.approx(theirs.get_last_lr()[0])
        assert rate_factor(schedule, step, num_steps, num_warmup, from_zero=True) == wanted
        if step >= num_warmup:
            assert rate_factor(schedule, step, num_steps, num_warmup) == wanted
        optimizer.step()
        theirs.step()


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="polynomial"):
        rate_factor("polynomial", 3, 8, 2)


@pytest.mark.parametrize("schedule", BY_HAND)
def test_a_run_takes_its_steps_at_these_rates(tiny_folder: Path, tmp_path: Path, schedule: str) -> None:
    """Four steps, of which a quarter is warm-up: half of the peak, then three steps down from it."""
    changes = {"train__schedule": schedule, "train__warmup": 0.25, "train__learning_rate": 0.01}
    train(sft_recipe(tiny_folder, tmp_path / "run", **changes), quiet)
    down = {"linear": [1, 2 / 3, 1 / 3], "cosine": [1, 0.75, 0.25], "constant_with_warmup": [1, 1, 1]}[schedule]
    rates = [line["learning_rate"] for line in log(tmp_path / "run")]
    assert rates == pytest.approx([0.01 * share for share in (0.5, *down)])


def test_a_run_of_one_step_learns(tiny_folder: Path, tmp_path: Path) -> None:
    """LoRA's second matrix begins at 0, so it stays there if and only if nothing was learned."""
    train(sft_recipe(tiny_folder, tmp_path / "run", train__epochs=1, train__trees_per_step=8), quiet)
    assert len(log(tmp_path / "run")) == 1
    assert any(value.abs().max() > 0 for name, value in adapter(tmp_path / "run").items() if "lora_B" in name)


def begun_long_ago(folder: Path) -> None:
    """Take out of a run's manifest what an earlier version did not write."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    assert manifest.pop("warmup") == "from the first step"
    file.write_text(json.dumps(manifest))


def test_a_run_of_an_earlier_version_is_continued_as_it_began(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps, one of warm-up, of which the first had the rate 0: 0, then 1, 3/4 and 1/4 of the peak."""
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("palmette.train.loop.begins_at_zero", lambda folder: True)
        train(sft_recipe(tiny_folder, tmp_path / "straight"), quiet)
        on_step(patch, 2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            train(sft_recipe(tiny_folder, tmp_path / "stopped"), quiet)
    begun_long_ago(tmp_path / "stopped")
    resume(tmp_path / "stopped", said.append)
    for folder in ("straight", "stopped"):
        rates: list[Any] = [line["learning_rate"] for line in log(tmp_path / folder)]
        assert rates == pytest.approx([0, 0.01, 0.0075, 0.0025]), folder
    assert_same(adapter(tmp_path / "straight"), adapter(tmp_path / "stopped"))
    assert any("begun by an earlier version" in line for line in said)
