"""Training in several processes: the same trajectory as in one, whatever their number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palmette.train.checkpoints import checkpoints
from tests.support.data import squad_file
from tests.support.preferences import jsonl, rows
from tests.support.runs import log
from tests.support.together import begin, continue_run, finish, run_in, train_all

STAGES = ("sft", "dpo", "kto", "reward", "grpo", "ppo", "pretrain")
# What processes share out is summed in another order. AdamW magnifies the last digits of small gradients.
CLOSE = 1e-9
IN_FLOAT32 = 2e-7  # in which transformers adds up losses, and in which the head of a reward model computes


def recipes(tiny_folder: Path, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """A small recipe of each stage, without dropout, which no two plans draw alike."""
    folder.mkdir()
    pairs, squad = jsonl(folder / "pairs.jsonl", rows()), squad_file(folder / "squad.json")
    (folder / "a.txt").write_text("The ferry leaves at 7:40 from pier 3. The tower is built of oak.\n\n" * 20)
    common: dict[str, Any] = {"model": {"name": str(tiny_folder), "dtype": "float32"}, "lora": {"rank": 2}}
    steps = {"epochs": 2, "trees_per_step": 3, "learning_rate": 0.01}
    preferences = {**common, "data": {"train": [str(pairs)]}, "train": steps}
    rollouts = {"samples": 3, "max_new_tokens": 5, "documents": 2, "passes": 2, "rewards": {"letters": 1.0}}
    policy = {**common, "data": {"train": [str(squad)]}, "train": {**steps, "trees_per_step": 1}, "rollouts": rollouts}
    texts = {"tokens": 900, "tokens_per_step": 300, "piece_tokens": 64, "held_out_share": 0.1, "measure_every": 2}
    return [
        ("sft", {**common, "data": {"train": ["builtin:dev"], "limit_documents": 5}, "train": steps}),
        ("dpo", preferences),
        ("kto", {**preferences, "kto": {"pairs": True}, "train": {**steps, "trees_per_step": 4}}),
        ("reward", preferences),
        ("grpo", policy),
        ("ppo", policy),
        (
            "pretrain",
            {
                **common,
                "data": {"train": [str(folder / "a.txt")]},
                "train": {"learning_rate": 0.01, "row_tokens": 128, "tokens_per_batch": 128},
                "pretrain": texts,
            },
        ),
    ]


@pytest.fixture(scope="module")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folder with a run of each stage, by the number of processes."""
    folder = tmp_path_factory.mktemp("processes")
    file = folder / "recipes.json"
    file.write_text(json.dumps(recipes(tiny_folder, folder / "data")))
    train_all(str(file), str(folder / "1"))
    for count in (2, 3):
        errors = run_in(count, "tests.support.together:train_all", file, folder / str(count))
        assert not any("Traceback" in error for error in errors)
    return {count: folder / str(count) for count in (1, 2, 3)}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [2, 3])
def test_the_trajectory_is_that_of_one_process(stage: str, count: int, runs: dict[int, Path]) -> None:
    one, several = (log(runs[number] / stage) for number in (1, count))
    assert len(one) >= 3
    for before, after in zip(one, several, strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            if name not in ("seconds", "resident_mib") and not name.endswith("_per_second"):
                close = IN_FLOAT32 if "loss" in name or stage == "reward" else CLOSE
                assert after[name] == pytest.approx(value, rel=close, abs=close), f"{name} of step {before['step']}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_weights_are_those_of_one_process(stage: str, runs: dict[int, Path]) -> None:
    one, two, three = (load_file(runs[number] / stage / "adapter/adapter_model.safetensors") for number in (1, 2, 3))
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-8)
        torch.testing.assert_close(three[name], value, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def recipe_file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The recipe of each stage in a file of its own."""
    folder = tmp_path_factory.mktemp("recipes")
    made = {}
    for stage, sections in recipes(tiny_folder, folder / "data"):
        made[stage] = folder / f"{stage}.json"
        made[stage].write_text(json.dumps([stage, sections]))
    return made


def assert_goes_on(folder: Path, stage: str, count: int, runs: dict[int, Path]) -> None:
    """A run that broke off is resumed in so many processes, to where one that was never stopped arrives."""
    if count == 1:
        continue_run(str(folder))
    else:
        run_in(count, "tests.support.together:continue_run", folder)
    straight, resumed = log(runs[1] / stage), log(folder)
    assert [line["step"] for line in resumed] == [line["step"] for line in straight]
    weights, wanted = (load_file(one / "adapter/adapter_model.safetensors") for one in (folder, runs[1] / stage))
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("stage", "count"), [("sft", 1), ("grpo", 3)])
def test_a_signal_to_one_process_stops_all_and_any_number_of_them_goes_on(
    stage: str, count: int, runs: dict[int, Path], recipe_file: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    running, store = begin(2, "tests.support.together:train_until", "SIGTERM", 1, recipe_file[stage], out)
    codes, written = finish(running)
    del store
    assert codes == [143, 143], written
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["checkpoint-2"]
    assert_goes_on(out, stage, count, runs)


@pytest.mark.parametrize(("stage", "count"), [("sft", 1), ("pretrain", 1)])
def test_a_process_that_dies_leaves_a_checkpoint_and_a_message(
    stage: str, count: int, runs: dict[int, Path], recipe_file: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    running, store = begin(2, "tests.support.together:train_until", "death", 2, recipe_file[stage], out)
    codes, (main, _) = finish(running)
    del store
    assert codes == [1, 1]
    assert "RunError: process 0 of 2 lost contact with the others" in main
    assert f"after step 2. Continue from there with: palmette train {stage} --resume {out}" in main
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["checkpoint-2"]
    assert_goes_on(out, stage, count, runs)
