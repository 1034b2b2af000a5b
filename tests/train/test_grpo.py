"""`train grpo` on a tiny model: it learns what is rewarded, resumes bit for bit amid its rollouts, and stops where
the policy runs away.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.config.recipes import read_section
from palmette.data.source import read_source
from palmette.errors import DataError, ModelError, PackingError, RecipeError, RunError
from palmette.inference.reward_model import load_reward
from palmette.model.loading import weights_hash
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import ParsedAnswer, load_prompt
from palmette.tasks.rewards import REWARDS
from palmette.train.policies.snapshot import ParameterSnapshot
from palmette.train.recipes.rollouts import GrpoRecipe
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.checkpoints import checkpoints
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.models import tiny_llama
from tests.support.rewards import letters
from tests.support.runs import adapter, assert_same, log, on_step, quiet


@pytest.fixture(autouse=True)
def letters_are_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "letters", letters)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(squad_file(tmp_path_factory.mktemp("data") / "squad.json"))


def recipe(tiny_folder: Path, data: str, out: Path, **changes: Any) -> GrpoRecipe:
    """Two documents, asked together, gone through twice: four steps an epoch; with dropout, so that random state
    matters.
    """
    sections: dict[str, Any] = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [data]},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "trees_per_step": 1, "learning_rate": 0.01, "save_every": 1, "keep_checkpoints": 9},
        "rollouts": {"samples": 3, "max_new_tokens": 5, "documents": 2, "passes": 2, "rewards": {"letters": 1.0}},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            sections.setdefault(section, {})[name] = value
        else:
            sections[section] = value
    return read_section(GrpoRecipe, {"output": str(out), **sections}, "test")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped: 8 steps."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARDS, "letters", letters)
        train(recipe(tiny_folder, data, out), quiet)
    return out


def test_a_run_leaves_what_a_stranger_needs(finished: Path) -> None:
    names = {"recipe.yaml", "manifest.json", "metrics.jsonl", "samples.jsonl", "adapter"}
    assert {path.name for path in finished.iterdir()} == names
    lines = log(finished)
    assert [line["step"] for line in lines] == list(range(1, 9))
    for line in lines:
        for name in (
            "reward",
            "reward_letters",
            "completion_tokens",
            "ended",
            "flat_groups",
            "kl",
            "entropy",
            "clip_share",
            "old_kl",
        ):
            assert isinstance(line[name], float), name
        assert 0 <= line["clip_share"] <= 1
        assert line["kl"] >= 0
    assert lines[0]["old_kl"] != lines[3]["old_kl"]
    # The four steps over one batch of rollouts learn from the same completions.
    rewards = [line["reward"] for line in lines]
    assert rewards[:4] == [rewards[0]] * 4
    assert rewards[4:] == [rewards[4]] * 4
    assert rewards[0] != rewards[4]
    shown = log(finished, "samples.jsonl")
    assert [line["step"] for line in shown] == [1, 1, 5, 5]
    assert all(
        line["reward"] == pytest.approx(letters(ParsedAnswer(line["completion"], False), None)) for line in shown
    )  # type: ignore[arg-type]
    manifest = json.loads((finished / "manifest.json").read_text())
    assert (manifest["questions"], manifest["data"][0]["documents"]) == (3, 2)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_stop_in_the_middle_of_rollouts_resumes_bit_equal(
    finished: Path, tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The signal comes while a step is logged, and the next one is the last: the second of four over the rollouts,
    the fourth, the first.
    """
    out = tmp_path / "stopped"
    on_step(monkeypatch, step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        TrainingInterrupted, match=f"after step {step + 1}. Continue with: palmette train grpo --resume"
    ):
        train(recipe(tiny_folder, data, out, train__save_every=0), quiet)
    (kept,) = [path for path in checkpoints(out / "checkpoints") if path.name == f"checkpoint-{step + 1}"]
    assert (kept / "rollouts.json").is_file()
    monkeypatch.undo()
    monkeypatch.setitem(REWARDS, "letters", letters)
    resume(out, quiet)
    assert_same(adapter(finished), adapter(out))
    for name in ("metrics.jsonl", "samples.jsonl"):
        lines, wanted = log(out, name), log(finished, name)
        for line in (*lines, *wanted):
            for key in ("seconds", "questions_per_second", "resident_mib"):
                line.pop(key, None)
        assert lines == wanted


@pytest.mark.parametrize("objective", ["grpo", "rloo"])
def test_what_is_rewarded_is_learned(tiny_folder: Path, data: str, tmp_path: Path, objective: str) -> None:
    """Letters become more frequent: two fifths of the characters at first, and most of them in the end."""
    changes: dict[str, Any] = {"rollouts__samples": 8, "rollouts__passes": 1, "train__method": "full", "lora": {}}
    changes |= {"train__epochs": 25, "train__trees_per_step": 2, "train__save_every": 99}
    out = tmp_path / "run"
    grpo = {"objective": objective, "kl_coefficient": 0.0, "kl_limit": None}
    train(recipe(tiny_folder, data, out, grpo=grpo, **changes), quiet)
    rewards = [line["reward"] for line in log(out)]
    assert len(rewards) == 25
    first, last = sum(rewards[:3]) / 3, sum(rewards[-3:]) / 3
    assert first < 0.5
    assert last > first + 0.2
    assert "kl" not in log(out)[0]


def test_a_policy_that_runs_away_stops_the_run(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes: dict[str, Any] = {"grpo": {"kl_limit": 1e-4}, "train__learning_rate": 0.1, "train__warmup": 0.0}
    with pytest.raises(
        ModelError, match=r"nats a completion away from its reference, more than grpo\.kl_limit = 0\.0001"
    ):
        train(recipe(tiny_folder, data, out, **changes), quiet)
    assert not (out / "adapter").exists()
    assert checkpoints(out / "checkpoints")


def test_a_run_goes_on_from_another(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    """The reference is the run it starts from: the policy is there at first, without dropout; afterwards it has
    moved.
    """
    one_step: dict[str, Any] = {"rollouts__passes": 1, "train__trees_per_step": 2, "train__epochs": 1}
    first, second = tmp_path / "first", tmp_path / "second"
    train(recipe(tiny_folder, data, first, lora__dropout=0.0, train__warmup=0.0, **one_step), quiet)
    settings = recipe(
        tiny_folder, data, second, start=str(first), train__warmup=0.0, **{**one_step, "train__epochs": 2}
    )
    values = settings.model_dump(exclude={"model", "lora", "prompt", "reasoning"})
    train(read_section(GrpoRecipe, values, "test"), quiet)
    lines = log(second)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert lines[1]["kl"] > 1e-4
    before, after = adapter(first), adapter(second)
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    for name, value in before.items():  # two steps of at most the learning rate each: it went on from there
        torch.testing.assert_close(value, after[name], rtol=0, atol=0.021)


def test_the_reference_is_the_model_before() -> None:
    model = tiny_llama(torch.float32)
    token = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = model(input_ids=token).logits
        kept = ParameterSnapshot(model)
        for parameter in model.parameters():
            parameter.add_(0.1)
        now = model(input_ids=token).logits
        with kept():
            assert torch.equal(model(input_ids=token).logits, before)
        assert torch.equal(model(input_ids=token).logits, now)
    assert not torch.equal(now, before)


def test_bad_jobs_leave_nothing_behind(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    out = tmp_path / "none"
    for error, message, changes in (
        (RecipeError, "there is no reward 'exakt'", {"rollouts__rewards": {"exakt": 1.0}}),
        (PackingError, "more than train.row_tokens = 64", {"train__row_tokens": 64}),
        (DataError, "there is nothing to ask: all was dropped", {"train__row_tokens": 64, "data__on_too_long": "drop"}),
        (PackingError, r"rollouts\.tokens_per_batch is 64", {"rollouts__tokens_per_batch": 64}),
        (
            ModelError,
            r"question .* of document .*, with its completion, needs",
            {"model__overrides": {"max_position_embeddings": 64}},
        ),
        (DataError, "in one completion of its own", {"reasoning": {"kind": "blah"}}),
    ):
        with pytest.raises(error, match=message):
            train(recipe(tiny_folder, data, out, **changes), quiet)
        assert not out.exists()


def test_contradictions_in_recipes_are_refused() -> None:
    for values, message in (
        ({"grpo": {"objective": "rloo", "scale": "none"}}, r"grpo\.scale has no meaning"),
        ({"data": {"kind": "chat"}}, r"data\.kind = chat holds no questions"),
        ({"rollouts": {"samples": 1}}, r"rollouts\.samples = 1 leaves no other completion"),
        ({"grpo": {"kl_coeficient": 0.1}}, "Did you mean 'kl_coefficient'"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_section(GrpoRecipe, {"output": "x", **values}, "test")


def test_damaged_rollouts_are_explained(
    tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(recipe(tiny_folder, data, out), quiet)
    file = out / "checkpoints" / "checkpoint-2" / "rollouts.json"
    file.write_text("{" * file.stat().st_size)
    monkeypatch.undo()
    monkeypatch.setitem(REWARDS, "letters", letters)
    with pytest.raises(RunError, match=r"rollouts\.json cannot be read"):
        resume(out, quiet)


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_a_reward_model_is_mixed_in_by_the_command(
    reward_run: Path, tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Each completion earns 2 * its letters + 0.5 * what the reward model says of it after the prompt as messages."""
    out = tmp_path / "run"
    rollouts = {"samples": 2, "max_new_tokens": 5, "rewards": {"letters": 2.0}, "shown": 9}
    settings = {
        "output": str(out),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [data]},
        "lora": {"rank": 2},
        "rollouts": {**rollouts, "reward_model": str(reward_run), "reward_model_weight": 0.5},
        "train": {"epochs": 1, "trees_per_step": 2},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    assert palmette(monkeypatch, "train", stage, tmp_path / "recipe.yaml") == 0
    assert {path.name for path in out.iterdir()} >= {"adapter", "rollouts.png", "samples.jsonl", "metrics.jsonl"}
    documents = read_source(data).documents
    prompts = {q.id: qa_messages(load_prompt(), document, q) for document in documents for q in document.questions}
    shown = log(out, "samples.jsonl")
    assert len(shown) == 3
    said = load_reward(reward_run).scores([(prompts[line["question"]], line["completion"]) for line in shown])
    for line, score in zip(shown, said, strict=True):
        assert line["rewards"]["model"] == pytest.approx(score, abs=1e-5)  # float32, in other rows
        assert line["reward"] == pytest.approx(2 * line["rewards"]["letters"] + 0.5 * score, abs=1e-5)
    assert len(set(said)) == 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["reward_model"]["sha256"] == weights_hash(str(reward_run / "adapter"))
