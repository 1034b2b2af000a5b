"""Training in several processes: the same trajectory as in one, whatever their number."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palmette import processes
from palmette.baselines.job import EncoderJob, run_encoder_job
from palmette.errors import RecipeError, RunError
from palmette.studies.chain.runner import run_chain
from palmette.studies.quickstart import run_quickstart
from palmette.studies.retraining.job import retrain
from palmette.studies.retraining.settings import RetrainSettings
from palmette.studies.sweep.runner import run_sweep
from palmette.train.run import train
from palmette.train.stages import recipe_from
from palmette.train.steps.checkpoints import checkpoints
from tests.support.data import squad_file
from tests.support.preferences import jsonl, rows
from tests.support.recipes import sft_recipe
from tests.support.runs import log, quiet
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


def assert_follows(one: Path, other: Path, figures: float) -> None:
    """Two runs have the same log."""
    assert len(log(one)) >= 3
    for before, after in zip(log(one), log(other), strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            if name not in ("seconds", "resident_mib") and not name.endswith("_per_second"):
                close = IN_FLOAT32 if "loss" in name else figures
                assert after[name] == pytest.approx(value, rel=close, abs=close), f"{name} of step {before['step']}"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [2, 3])
def test_the_trajectory_is_that_of_one_process(stage: str, count: int, runs: dict[int, Path]) -> None:
    assert_follows(runs[1] / stage, runs[count] / stage, IN_FLOAT32 if stage == "reward" else CLOSE)


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
    codes, written = finish(*begin(2, "tests.support.together:train_until", "SIGTERM", 1, recipe_file[stage], out))
    assert codes == [143, 143], written
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["checkpoint-2"]
    assert_goes_on(out, stage, count, runs)


@pytest.mark.parametrize(("stage", "count"), [("sft", 1), ("pretrain", 1)])
def test_a_process_that_dies_leaves_a_checkpoint_and_a_message(
    stage: str, count: int, runs: dict[int, Path], recipe_file: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    codes, (main, _) = finish(*begin(2, "tests.support.together:train_until", "death", 2, recipe_file[stage], out))
    assert codes == [1, 1]
    assert "RunError: process 0 of 2 lost contact with the others" in main
    assert f"after step 2. Continue from there with: palmette train {stage} --resume {out}" in main
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["checkpoint-2"]
    assert_goes_on(out, stage, count, runs)


def sharded(tiny_folder: Path, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The recipes whose models can be divided. One trains all weights, of which the embeddings are tied."""
    found = []
    for stage, sections in recipes(tiny_folder, folder):
        if stage not in ("grpo", "ppo"):
            found.append((stage, {**sections, "train": {**sections["train"], "shard": True}}))
    found[0][1]["train"] |= {"method": "full", "learning_rate": 1e-3, "save_every": 1}
    return found


@pytest.fixture(scope="module")
def sharded_runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """As `runs`, with models that are divided among two processes."""
    folder = tmp_path_factory.mktemp("sharded")
    file = folder / "recipes.json"
    file.write_text(json.dumps(sharded(tiny_folder, folder / "data")))
    train_all(str(file), str(folder / "1"))
    run_in(2, "tests.support.together:train_all", file, folder / "2")
    return {count: folder / str(count) for count in (1, 2)}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("grpo", "ppo")])
def test_a_divided_model_is_trained_as_a_whole_one(stage: str, sharded_runs: dict[int, Path]) -> None:
    name = "model/model.safetensors" if stage == "sft" else "adapter/adapter_model.safetensors"
    one, two = (load_file(sharded_runs[count] / stage / name) for count in (1, 2))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-8)
    assert_follows(sharded_runs[1] / stage, sharded_runs[2] / stage, IN_FLOAT32 if stage == "reward" else CLOSE)


@pytest.mark.parametrize("count", [1, 2])
def test_the_checkpoint_of_a_divided_model_is_continued_by_any_number(
    count: int, sharded_runs: dict[int, Path], tiny_folder: Path, tmp_path: Path
) -> None:
    """It is stopped amid an epoch, by a signal to one process."""
    file, out = tmp_path / "recipe.json", tmp_path / "run"
    file.write_text(json.dumps(sharded(tiny_folder, tmp_path / "data")[0]))
    codes, written = finish(*begin(2, "tests.support.together:train_until", "SIGTERM", 2, file, out))
    assert codes == [143, 143], written
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["checkpoint-2", "checkpoint-3"]
    if count == 1:
        continue_run(str(out))
    else:
        run_in(count, "tests.support.together:continue_run", out)
    one, resumed = (load_file(folder / "model/model.safetensors") for folder in (sharded_runs[1] / "sft", out))
    for name, value in one.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-8)


def test_what_cannot_be_divided_is_refused_before_anything_is_loaded() -> None:
    divided = {"train": {"shard": True}, "output": "x"}
    for stage, changes, message in (
        ("grpo", {}, "completions are sampled from a whole one"),
        ("pretrain", {"pretrain": {"prompts": ["The"]}}, "continued by a whole one"),
        ("sft", {"model": {"quantization": "8bit"}}, "train.shard cannot divide"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipe_from({**divided, **changes}, "test", stage)


def test_a_process_that_is_left_alone_says_so(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of two, and the other one was never started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "_FOR_THE_FIRST_TIME", timedelta(seconds=2))
    with pytest.raises(RunError, match="WORLD_SIZE is 2, but the processes cannot reach one another"):
        train(sft_recipe(tiny_folder, tmp_path / "run"), quiet)
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(RunError, match="MASTER_ADDR"):
        train(sft_recipe(tiny_folder, tmp_path / "run"), quiet)


def test_jobs_of_several_trainings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would do other parts of them, and wait for the others in different places."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="a chain was started as one of 2 processes"):
        run_chain(tmp_path / "chain.yaml", quiet)
    with pytest.raises(RunError, match="a sweep was started"):
        run_sweep(tmp_path / "sweep.yaml", quiet)
    with pytest.raises(RunError, match="the quickstart was started"):
        run_quickstart(tmp_path / "run", quiet)
    with pytest.raises(RunError, match="a retraining was started"):
        retrain("run", tmp_path / "store", RetrainSettings(), quiet)
    with pytest.raises(RunError, match="the baseline was started"):
        run_encoder_job(EncoderJob(data="builtin:dev", out=tmp_path / "out", model="minilm"), quiet)


def test_a_divided_model_is_trained_in_float32(tiny_folder: Path, tmp_path: Path) -> None:
    """In float32, torch adds up gradients in another way than in float64. Losses differ by rounding."""
    file = tmp_path / "recipes.json"
    file.write_text(json.dumps(sharded(tiny_folder, tmp_path / "data")))
    for count in (1, 2):
        run_in(count, "tests.support.together:train_as_it_is", file, tmp_path / str(count))
    one, two = ([line["loss"] for line in log(tmp_path / str(count) / "sft")] for count in (1, 2))
    assert len(one) > 1
    assert one != [one[0]] * len(one)
    assert two == pytest.approx(one, abs=1e-4)
