"""GRPO and PPO with a vLLM server as the sampler: fresh weights for each batch of rollouts, and the gap that is logged.

The stand-in reads the adapter from disk and computes with stock attention, so a gap near 0 shows that it had the
weights of the policy, and that the log-probabilities of training are those of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.config.recipes import Recipe, read_section
from palmette.errors import ModelError, RecipeError
from palmette.inference.names import ModelSource
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.scoring import sampler_gap
from palmette.tasks.rewards import REWARDS
from palmette.train.policies import job as policy
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe, RolloutRecipe
from palmette.train.run import train
from tests.support.data import squad_file
from tests.support.rewards import letters
from tests.support.runs import log, quiet
from tests.support.vllm_server import VllmStandIn


@pytest.fixture(autouse=True)
def letters_are_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "letters", letters)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(squad_file(tmp_path_factory.mktemp("data") / "squad.json"))


def recipe(kind: type[RolloutRecipe], tiny_folder: Path, data: str, out: Path, server: str) -> Any:
    """Two documents, asked together, in each of three epochs: three steps, each on rollouts of its own."""
    values: dict[str, Any] = {
        "output": str(out),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [data]},
        "lora": {"rank": 4, "alpha": 16.0},
        "train": {"epochs": 3, "trees_per_step": 2, "learning_rate": 0.02, "schedule": "constant_with_warmup"},
        "rollouts": {"samples": 4, "max_new_tokens": 5, "rewards": {"letters": 1.0}},
    }
    values["rollouts"] |= {"sampler": "vllm", "server": server}
    return read_section(kind, values, "test")


@pytest.mark.parametrize("kind", [GrpoRecipe, PpoRecipe])
def test_each_batch_is_sampled_with_the_weights_of_the_moment(
    kind: type[RolloutRecipe], tiny_folder: Path, data: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with VllmStandIn(tiny_folder) as server:
        train(recipe(kind, tiny_folder, data, out, server.url), quiet)
    lines = log(out)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["sampler_gap"] <= line["sampler_gap_max"] < 1e-4  # float32, about 5 nats a token
        assert 0 <= line["sampler_kl"] < 1e-8
        assert 0 < line["completion_tokens"] <= 5
    weights = list(server.loaded.values())
    assert len(weights) == 3
    assert all(not torch.equal(value, weights[2][name]) for name, value in weights[1].items() if "lora_B" in name)
    assert not server.present
    assert not list(out.glob("palmette-*"))
    assert (out / "adapter" / "adapter_config.json").is_file()
    assert len(server.asked) == 3 * 3  # questions, in three batches


def test_a_server_with_old_weights_shows_in_the_log(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with VllmStandIn(tiny_folder, stale=True) as server:
        train(recipe(GrpoRecipe, tiny_folder, data, out, server.url), quiet)
    gaps = [line["sampler_gap"] for line in log(out)]
    assert gaps[0] < 1e-4
    assert gaps[2] > 100 * gaps[0]
    assert gaps[2] > 1e-3


def test_the_gap_by_hand() -> None:
    """Two completions: differences of 0.5, -0.25 and 0, so 0.25 in the mean. k3 of a difference d = sampled - trained
    is exp(-d) - 1 + d.
    """
    samples = (
        RewardedCompletion((1, 2), "", "length", {}, 0.0, (-1.0, -2.0)),
        RewardedCompletion((3,), "", "length", {}, 0.0, (-3.0,)),
    )
    rollouts = RolloutBatch.__new__(RolloutBatch)
    object.__setattr__(rollouts, "samples", samples)
    found = sampler_gap(rollouts, torch.tensor([-1.5, -1.75, -3.0]))
    k3 = (0.6065306597 - 1 + 0.5 + 1.2840254167 - 1 - 0.25) / 3
    assert found == pytest.approx({"sampler_gap": 0.25, "sampler_gap_max": 0.5, "sampler_kl": k3}, abs=1e-9)


def test_what_the_sampler_said_survives_a_checkpoint() -> None:
    samples = (RewardedCompletion((1, 2), "ab", "end", {"exact": 1.0}, 1.0, (-1.0, -2.0)),)
    rollouts = RolloutBatch.__new__(RolloutBatch)
    for name, value in {"number": 0, "groups": (), "samples": samples, "scored": {}, "notes": {"a": 1.0}}.items():
        object.__setattr__(rollouts, name, value)
    values = json.loads(json.dumps(rollouts.to_json()))
    values["samples"].append({key: value for key, value in values["samples"][0].items() if key != "sampled"})
    held = [RewardedCompletion.from_json(sample) for sample in values["samples"]]
    assert held[0] == samples[0]
    assert held[1].sampled == ()  # of a checkpoint that an earlier version wrote


def test_it_is_refused_before_anything_is_loaded(
    tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        pytest.fail("something was loaded")

    monkeypatch.setattr(policy, "load_start", never)
    monkeypatch.setattr(policy, "read_sources", never)
    with pytest.raises(ModelError, match=r"cannot be reached"):
        train(recipe(GrpoRecipe, tiny_folder, data, tmp_path / "run", "http://127.0.0.1:9/v1"), quiet)
    with VllmStandIn(tmp_path, served_as="another") as server, pytest.raises(ModelError, match="serves 'another'"):
        train(recipe(GrpoRecipe, tiny_folder, data, tmp_path / "run", server.url), quiet)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("before", "key"), [({"reasoning": {"kind": "pause"}}, "reasoning.kind: pause"), ({"lora": {"dora": True}}, "dora")]
)
def test_what_the_run_that_is_trained_further_has_counts(
    tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], key: str
) -> None:
    """A stage takes prompt, reasoning and adapter over from the run that it starts from."""
    run = read_section(Recipe, {"output": "o", **before}, "test")
    source = ModelSource("runs/pause", "run", run.model, run, tmp_path, tmp_path / "adapter")
    monkeypatch.setattr(policy, "resolve_run", lambda _: source)
    stage = recipe(GrpoRecipe, tiny_folder, data, tmp_path / "run", "http://127.0.0.1:9/v1")
    with pytest.raises(RecipeError, match=f"vllm and .*{key}"):
        train(stage.model_copy(update={"start": "runs/pause"}), quiet)


def test_a_server_that_nobody_asks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"rollouts\.server = http://x is not asked with rollouts\.sampler = tree"):
        read_section(GrpoRecipe, {"output": "o", "rollouts": {"server": "http://x"}}, "test")
